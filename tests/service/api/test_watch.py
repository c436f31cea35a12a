from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest.mock import MagicMock

from service.api.watch import Turn, Watch


class Scene:
    """A watch with a clock of the test's own, and what it did."""

    def __init__(self, turn: Turn) -> None:
        self.now = 0.0
        self.turn = turn
        self.unsent = 0
        self.closed: list[str | None] = []
        transport = MagicMock(asyncio.Transport)
        transport.get_write_buffer_size = lambda: self.unsent
        self.watch = Watch(
            self, transport, seconds=75, least_rate=256, turn=lambda: self.turn, close=self.closed.append
        )

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> MagicMock:
        self.due, self.callback = self.now + delay, callback
        return MagicMock()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while not self.closed and self.due <= end:
            self.now = self.due
            self.callback()
        self.now = end


def test_a_silent_client_is_closed_after_the_keep_alive_time() -> None:
    scene = Scene("client")
    scene.wait(74)
    assert not scene.closed
    scene.wait(1)
    assert scene.closed == [None]


def test_an_answer_starts_the_time_anew() -> None:
    scene = Scene("client")
    scene.wait(70)
    scene.watch.progress = scene.now
    scene.wait(74)
    assert not scene.closed
    scene.wait(1)
    assert scene.closed == [None]


def test_a_request_that_is_being_worked_on_takes_as_long_as_it_takes() -> None:
    scene = Scene("server")
    scene.wait(1000)
    assert not scene.closed


def test_a_body_that_comes_at_the_least_pace_is_waited_for() -> None:
    scene = Scene("body")
    for _ in range(100):
        scene.watch.received += 2560
        scene.wait(10)
    assert not scene.closed


def test_a_body_that_comes_slower_is_given_up() -> None:
    scene = Scene("body")
    for _ in range(10):
        scene.watch.received += 255
        scene.wait(1)
    assert not scene.closed  # this window may have begun before the body
    for _ in range(10):
        scene.watch.received += 255
        scene.wait(1)
    assert scene.closed == ["slow"]


def test_a_client_that_reads_no_answer_is_closed() -> None:
    for turn in ("server", "client"):
        scene = Scene(turn)
        scene.unsent = 100_000
        scene.wait(84)
        assert not scene.closed
        scene.wait(1)
        assert scene.closed == ["unread"]


def test_a_client_that_reads_slowly_is_not() -> None:
    scene = Scene("server")
    for unsent in range(100_000, 0, -1000):
        scene.unsent = unsent
        scene.wait(50)
    assert not scene.closed
