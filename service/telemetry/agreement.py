"""Whether the workers serve the same models.

Each worker opens bundles for itself. If one could not be opened again by a worker that was started later, or not yet,
its answers are not those of the others. Nothing is wrong with either answer, so all stay ready, but operators are told.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Final

from service.telemetry import families
from service.telemetry.cells import Cells

log = logging.getLogger(__name__)

# A worker that has not refreshed its gauges for so many seconds is dead, or hangs: what it serves does not count.
ALIVE_SECONDS: Final = 5.0

_KEYS: Final = (families.key_of(families.MODELS_HASH, ()), families.key_of(families.HEARTBEAT, ()))


@dataclass(slots=True)
class Agreement:
    """What one worker sees of the others. `differing`: those that serve other models, and have for `seconds`."""

    cells: Cells
    seconds: float
    differing: tuple[int, ...] = ()
    _since: dict[int, float] = field(default_factory=dict)

    def look(self, own: float) -> None:
        """Compare `own`, the number of what this worker serves, with the others' numbers."""
        try:
            found = self.cells.others(_KEYS)
        except OSError:  # such as too many open files: nothing new is known
            return
        now, clock = time.monotonic(), time.time()
        others = {
            worker
            for worker, (number, heartbeat) in found.items()
            if abs(clock - heartbeat) < ALIVE_SECONDS and number != own and not math.isnan(number)
        }
        self._since = {worker: self._since.get(worker, now) for worker in others}
        differing = tuple(sorted(worker for worker, since in self._since.items() if now - since >= self.seconds))
        if differing != self.differing:
            self.differing = differing
            if differing:
                log.warning("%s", self.sentence)
            else:
                log.info("The workers serve the same models again.")

    @property
    def sentence(self) -> str | None:
        """Which workers serve other models, in one sentence; None if they serve the same."""
        if not self.differing:
            return None
        numbers = ", ".join(map(str, self.differing))
        return (
            f"Worker {self.cells.worker} and others ({numbers}) serve different models: see vae_model_info and the log."
        )
