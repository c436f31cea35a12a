from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest.mock import MagicMock

import pytest

from service.api.linger import LingeringTransport


class Scene:
    """A transport below the lingering one, with a timer that the test runs."""

    def __init__(self) -> None:
        self.below = MagicMock(asyncio.Transport)
        self.below.is_closing.return_value = False
        self.below.get_write_buffer_size.return_value = 0
        self.timer = MagicMock(asyncio.TimerHandle)
        self.above = LingeringTransport(self.below, self.later)

    def later(self, delay: float, callback: Callable[[], None]) -> MagicMock:
        assert delay > 0
        self.elapse = callback
        return self.timer


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_closing_ends_what_is_sent_and_reads_on(scene: Scene) -> None:
    scene.above.close()
    scene.below.write_eof.assert_called_once_with()
    scene.below.resume_reading.assert_called_once_with()
    scene.below.close.assert_not_called()
    assert scene.above.is_closing()


def test_a_client_that_does_not_end_its_side_is_left_after_a_while(scene: Scene) -> None:
    scene.above.close()
    scene.elapse()
    scene.below.close.assert_called_once_with()


def test_the_while_begins_when_the_answer_is_sent(scene: Scene) -> None:
    scene.below.get_write_buffer_size.return_value = 1
    scene.above.close()
    scene.elapse()
    scene.below.close.assert_not_called()
    scene.below.get_write_buffer_size.return_value = 0
    scene.elapse()
    scene.below.close.assert_called_once_with()


def test_a_client_that_has_ended_its_side_is_not_waited_for(scene: Scene) -> None:
    scene.above.client_ended = True
    scene.above.close()
    scene.below.write_eof.assert_not_called()
    scene.below.close.assert_called_once_with()


def test_closing_twice_is_closing_once(scene: Scene) -> None:
    scene.above.close()
    scene.above.close()
    scene.below.write_eof.assert_called_once_with()


def test_nothing_is_waited_for_on_a_lost_connection(scene: Scene) -> None:
    scene.above.close()
    scene.above.stop()
    scene.timer.cancel.assert_called_once_with()
