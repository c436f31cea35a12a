from __future__ import annotations

import pytest

from service.errors import Overloaded
from service.inference.admission import Admission, Reservation


def admission(images: int = 10, size: int = 100) -> Admission:
    return Admission(most_images=images, most_bytes=size)


def test_the_queue_is_counted_in_images() -> None:
    admitted = admission(10)
    first, second, third = Reservation(admitted), Reservation(admitted), Reservation(admitted)
    first.hold_images(6)
    second.hold_images(4)
    with pytest.raises(Overloaded):
        third.hold_images(1)
    first.release()
    third.hold_images(6)
    with pytest.raises(Overloaded):
        second.hold_images(5)
    assert admitted.images == 10


def test_a_request_that_is_refused_holds_nothing() -> None:
    admitted = admission(10)
    first, second = Reservation(admitted), Reservation(admitted)
    first.hold_images(6)
    second.hold_images(1)
    with pytest.raises(Overloaded):
        second.hold_images(5)
    second.release()
    assert admitted.images == 6


def test_releasing_twice_frees_once() -> None:
    admitted = admission()
    reservation, other = Reservation(admitted), Reservation(admitted)
    reservation.hold_images(3)
    reservation.hold_bytes(30)
    other.hold_images(2)
    for _ in range(2):
        reservation.release()
    assert (admitted.images, admitted.bytes) == (2, 0)


def test_one_larger_than_the_queue_is_admitted_alone() -> None:
    admitted = admission(10)
    large = Reservation(admitted)
    large.hold_images(50)
    with pytest.raises(Overloaded):
        Reservation(admitted).hold_images(1)
    large.release()
    Reservation(admitted).hold_images(1)


def test_bodies_that_arrive_are_counted_in_bytes() -> None:
    admitted = admission(size=100)
    first, second = Reservation(admitted), Reservation(admitted)
    for _ in range(3):
        first.hold_bytes(30)
    with pytest.raises(Overloaded):
        second.hold_bytes(20)
    first.release()
    second.hold_bytes(90)
    assert admitted.bytes == 90
