"""What the lifespan hands to every request, and how an endpoint gets at it."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.requests import Request

from service.batcher import Timing
from service.registry import Registry
from service.settings import Settings


@dataclass(slots=True)
class Lifecycle:
    """Where the process is in its life. Draining: it finishes what it has and wants nothing new."""

    draining: bool = False


@dataclass(frozen=True, slots=True)
class Rooms:
    """The parts that endpoints use. `codec` runs the decoding and encoding of pictures off the event loop."""

    settings: Settings
    registry: Registry
    codec: Executor
    lifecycle: Lifecycle


def rooms(request: Request) -> Rooms:
    """The parts of the application that serves this request."""
    found: Rooms = request.state.rooms
    return found


def timing(request: Request) -> Timing:
    """The clock that the gate gave this request."""
    found: Timing = request.state.timing
    return found
