from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import DeadlineExceeded, LimitExceeded, Overloaded
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


class TestBytes:
    def test_what_does_not_fit_now_is_another_error_than_what_never_will(self) -> None:
        admitted = admission(size=100)
        first, second = Reservation(admitted), Reservation(admitted)
        first.hold_bytes(60)
        with pytest.raises(Overloaded):
            second.hold_bytes(50)
        with pytest.raises(LimitExceeded, match="VAE_MEMORY_BYTES"):
            second.hold_bytes(101)
        with pytest.raises(LimitExceeded):  # with what it holds already
            first.hold_bytes(41)
        assert (admitted.bytes, first.bytes, second.bytes) == (60, 60, 0)

    def test_they_can_be_freed_before_the_request_ends(self) -> None:
        admitted = admission(size=100)
        reservation = Reservation(admitted)
        reservation.hold_bytes(90)
        reservation.hold_bytes(-80)
        Reservation(admitted).hold_bytes(90)
        reservation.release()
        assert admitted.bytes == 90

    def test_what_is_there_already_is_counted_and_not_asked_for(self) -> None:
        admitted = admission(size=100)
        unsent = Reservation(admitted)
        unsent.count_bytes(150)
        with pytest.raises(Overloaded):
            Reservation(admitted).hold_bytes(1)
        unsent.free_bytes()
        assert admitted.bytes == 0

    def test_they_stay_while_a_thread_works_for_a_request_that_is_answered(self) -> None:
        admitted = admission(size=100)
        reservation = Reservation(admitted)
        with reservation.in_thread():
            reservation.hold_bytes(40)
            reservation.release()
            reservation.hold_bytes(20)
            assert admitted.bytes == 60
        assert admitted.bytes == 0
        with pytest.raises(DeadlineExceeded), reservation.in_thread():
            pytest.fail("nobody waits for it")

    def test_threads_lose_none(self) -> None:
        admitted = admission(size=2**40)

        def work(_: int) -> None:
            reservation = Reservation(admitted)
            for _ in range(500):
                reservation.hold_bytes(3)
                reservation.hold_bytes(-1)
            reservation.release()

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(32)))
        assert admitted.bytes == 0

    def test_without_an_admission_there_is_no_bound(self) -> None:
        reservation = Reservation()
        reservation.hold_bytes(2**60)
        with reservation.in_thread():
            reservation.free_bytes()
        reservation.release()
