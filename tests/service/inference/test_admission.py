from __future__ import annotations

import math
import time

import pytest

from service.errors import ClientGone, DeadlineExceeded, Overloaded
from service.inference.admission import Admission, Ticket


def admission(images: int = 10, size: int = 100, deadline: float = 5.0) -> Admission:
    return Admission(most_images=images, most_bytes=size, deadline=deadline)


def test_the_queue_is_counted_in_images() -> None:
    house = admission(10)
    first, second, third = Ticket(house), Ticket(house), Ticket(house)
    first.hold_images(6)
    second.hold_images(4)
    with pytest.raises(Overloaded):
        third.arrive()
    first.leave()
    third.hold_images(6)
    with pytest.raises(Overloaded):
        second.hold_images(5)
    assert house.images == 10


def test_a_request_that_is_refused_holds_nothing() -> None:
    house = admission(10)
    first, second = Ticket(house), Ticket(house)
    first.hold_images(6)
    second.arrive()
    with pytest.raises(Overloaded):
        second.was_read("tiny@1", 5)
    second.leave()
    assert house.images == 6


def test_leaving_twice_frees_once() -> None:
    house = admission()
    ticket, other = Ticket(house), Ticket(house)
    ticket.hold_images(3)
    ticket.hold_bytes(30)
    other.hold_images(2)
    for _ in range(2):
        ticket.leave()
    assert (house.images, house.bytes) == (2, 0)


def test_one_larger_than_the_queue_is_let_in_alone() -> None:
    house = admission(10)
    large = Ticket(house)
    large.hold_images(50)
    with pytest.raises(Overloaded):
        Ticket(house).arrive()
    large.leave()
    Ticket(house).arrive()


def test_bodies_that_arrive_are_counted_in_bytes() -> None:
    house = admission(size=100)
    first, second = Ticket(house), Ticket(house)
    for _ in range(3):
        first.hold_bytes(30)
    with pytest.raises(Overloaded):
        second.hold_bytes(20)
    first.leave()
    second.hold_bytes(90)
    assert house.bytes == 90


def test_the_lower_of_two_deadlines_wins() -> None:
    house = admission(deadline=5.0)
    for wanted, allowed in ((math.inf, 5.0), (1.0, 1.0), (60.0, 5.0)):
        ticket = Ticket(house)
        ticket.due_within(wanted)
        assert ticket.deadline == ticket.arrived + allowed


def test_work_that_nobody_waits_for_is_refused() -> None:
    ticket = Ticket()
    ticket.check()
    ticket.deadline = time.perf_counter()
    with pytest.raises(DeadlineExceeded):
        ticket.check()
    ticket.gone = True
    with pytest.raises(ClientGone):
        ticket.check()


def test_times_add_up_to_the_whole() -> None:
    ticket = Ticket()
    ticket.was_read("tiny@1", 1)
    ticket.queue, ticket.compute = 0.0, 0.0
    ticket.was_answered()
    assert ticket.decode >= 0
    assert ticket.encode >= 0
    assert ticket.decode + ticket.encode <= time.perf_counter() - ticket.arrived
