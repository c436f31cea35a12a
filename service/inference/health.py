"""Whether the service should be sent requests, and whether it is alive: never a guess, and never green over the broken.

After a run has failed, or a bundle's default has gone, only what really happens turns the service ready again: a later
run that succeeds, or the golden self-test, which `ready` has each failing model run when it is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Final

from service.errors import BundleRefused
from service.inference.registry import Model, Registry

log = logging.getLogger(__name__)

# A probe is answered within this many seconds, whatever the engine does; the self-test goes on, and the next one hears.
_PATIENCE: Final = 1.0


@dataclass(slots=True)
class Health:
    """The health of one process. `draining`: it finishes what it has and wants nothing new."""

    registry: Registry
    stall_seconds: float
    draining: bool = False
    _checks: dict[Model, asyncio.Future[str | None]] = field(default_factory=dict)

    def drain(self) -> bool:
        """Be not ready from now on; whether that was so before."""
        before, self.draining = self.draining, True
        return before

    def stuck(self) -> str | None:
        """Why the process can only be restarted, in one sentence; None while that is not so."""
        now = time.perf_counter()
        for model in self.registry:
            since = model.batcher.status.since
            if since is not None and now - since > self.stall_seconds:
                return f"{model.engine.contract.id}: a run has not ended for more than {self.stall_seconds:g} s."
        return None

    @property
    def ready(self) -> bool:
        """What is known without a self-test: a model whose last run failed is not ready."""
        return self._trouble() is None and all(model.batcher.status.failure is None for model in self.registry)

    async def unready(self) -> str | None:
        """Why no request should be sent here now, in one sentence; None when they should."""
        if (trouble := self._trouble()) is not None:
            return trouble
        for model in self.registry:
            if model.batcher.status.failure is not None:
                failure = await self._check(model)
                if failure is not None:
                    return failure
        return None

    def _trouble(self) -> str | None:
        if self.draining:
            return "Draining: the process has been asked to stop."
        try:
            _ = self.registry.default
        except BundleRefused:
            return "The default model is not served."
        return self.stuck()

    async def _check(self, model: Model) -> str | None:
        """Run a failing model's self-test behind what its thread is running already; probes that meet share one."""
        if model not in self._checks:
            loop = asyncio.get_running_loop()
            self._checks[model] = loop.run_in_executor(model.batcher.executor, _self_test, model)
            self._checks[model].add_done_callback(lambda _: self._checks.pop(model, None))
        try:
            return await asyncio.wait_for(asyncio.shield(self._checks[model]), _PATIENCE)
        except TimeoutError:
            return f"{model.engine.contract.id}: the self-test after a failed run is not done yet."


def _self_test(model: Model) -> str | None:
    status, name = model.batcher.status, model.engine.contract.id
    failure = status.failure
    try:
        model.engine.check()
    except Exception as error:
        log.error("%s fails its self-test after a failed run: %s", name, error)
        return f"{name}: the last run failed, and so does the self-test."
    if status.failure is failure:  # else another run has failed meanwhile
        status.failure = None
    log.info("%s passes its self-test after a failed run.", name)
    return None
