from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.paths import ROOT
from service.app import create_app
from service.settings import Settings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_makes_it_not_ready_before_the_server_handles_it(tiny_models: Path, number: signal.Signals) -> None:
    app = create_app(Settings(models_dir=tiny_models, default_model="tiny"))
    heard: list[bool] = []

    def server(*_: object) -> None:
        heard.append(app.state.health.draining)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            os.kill(os.getpid(), number)
            async with asyncio.timeout(60):
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


def test_a_blocked_event_loop_ends_the_process_and_the_log_has_its_stack() -> None:
    program = """
import asyncio, time
from service.lifecycle import end_if_stuck
async def main():
    task = asyncio.create_task(end_if_stuck(1))
    await asyncio.sleep(0)
    time.sleep(60)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Timeout (0:00:01)!" in ended.stderr
    assert "in main" in ended.stderr
