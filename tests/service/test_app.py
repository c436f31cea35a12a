from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from service.app import create_app
from service.settings import Settings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_makes_it_not_ready_before_the_server_hears_of_it(tiny_models: Path, number: signal.Signals) -> None:
    app = create_app(Settings(models_dir=tiny_models, default_model="tiny"))
    heard: list[bool] = []

    def server(*_: object) -> None:
        heard.append(app.state.lifecycle.draining)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            os.kill(os.getpid(), number)
            while not heard:
                await asyncio.sleep(0)

    before = signal.signal(number, server)
    try:
        with asyncio.Runner() as runner:
            runner.run(live())
        assert signal.getsignal(number) is server
    finally:
        signal.signal(number, before)
    assert heard == [True]
