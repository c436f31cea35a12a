"""Whether the service is ready for requests (/readyz), and whether it is alive (/livez).

A model whose last run failed makes the service not ready. Only a successful run makes it ready again: of a later
request, or of the golden self-test, which `unready` starts for each failing model.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Final

from service.errors import BundleRefused, DeviceFailed
from service.inference.registry import Model, Registry

log = logging.getLogger(__name__)

# A probe waits at most this many seconds for a self-test. The self-test goes on, and the next probe gets its result.
_PROBE_SECONDS: Final = 1.0

# Why a service that drains is not ready.
DRAINING: Final = "Draining: the process has been asked to stop."


@dataclass(slots=True)
class Health:
    """The health of one process. `draining`: it finishes its requests and should get no new ones."""

    registry: Registry
    stall_seconds: float
    draining: bool = False
    _checks: dict[Model, asyncio.Future[str | None]] = field(default_factory=dict)

    def drain(self) -> bool:
        """Be not ready from now on. Returns whether it was draining before."""
        before, self.draining = self.draining, True
        return before

    def stuck(self) -> str | None:
        """Why the process has to be restarted, in one sentence; None if it does not have to."""
        now = time.perf_counter()
        for model in self.registry:
            if model.batcher.status.lost:
                return f"{model.engine.contract.id}: the GPU does not work in this process any more."
            since = model.batcher.status.since
            if since is not None and now - since > self.stall_seconds:
                return f"{model.engine.contract.id}: a run has not ended for more than {self.stall_seconds:g} s."
        return None

    @property
    def ready(self) -> bool:
        """Whether the service is ready, as far as known without a self-test."""
        return self._known_reason() is None and all(model.batcher.status.failure is None for model in self.registry)

    async def unready(self) -> str | None:
        """Why the service is not ready, in one sentence; None if it is ready. Tests models whose last run failed."""
        if (reason := self._known_reason()) is not None:
            return reason
        for model in self.registry:
            if model.batcher.status.failure is not None:
                failure = await self._check(model)
                if failure is not None:
                    return failure
        return None

    def _known_reason(self) -> str | None:
        if self.draining:
            return DRAINING
        try:
            _ = self.registry.default
        except BundleRefused:
            return "The default model is not served."
        return self.stuck()

    async def _check(self, model: Model) -> str | None:
        """Run the self-test of a model in its thread; concurrent probes share one. Returns why it fails, or None."""
        if model not in self._checks:
            loop = asyncio.get_running_loop()
            self._checks[model] = loop.run_in_executor(model.batcher.executor, _self_test, model)
            self._checks[model].add_done_callback(lambda _: self._checks.pop(model, None))
        try:
            return await asyncio.wait_for(asyncio.shield(self._checks[model]), _PROBE_SECONDS)
        except TimeoutError:
            return f"{model.engine.contract.id}: the self-test after a failed run is not done yet."


def _self_test(model: Model) -> str | None:
    status, name = model.batcher.status, model.engine.contract.id
    failure = status.failure
    try:
        with status.running():
            model.engine.check()
    except Exception as error:
        status.lost = isinstance(error, DeviceFailed) and error.lost
        log.error("%s fails its self-test after a failed run: %s", name, error)
        return f"{name}: the last run failed, and so does the self-test."
    if status.failure is failure:  # otherwise another run has failed in the meantime
        status.failure = None
    log.info("%s passes its self-test after a failed run.", name)
    return None
