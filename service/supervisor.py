"""Several worker processes that serve one port: start them, replace those that end, and stop them together.

uvicorn's supervisor stops all workers when one cannot start, takes a worker that is still starting for one that hangs,
and waits for ever for one that does not stop. This one stops only if the service has never been started: later, while
the others serve, a worker that cannot start is tried again, with growing pauses. SIGHUP stops the service, as it does
with one worker.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing.connection
import os
import pickle
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from socket import socket
from typing import Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from service import lifecycle

log = logging.getLogger(__name__)

# Seconds between two looks at the workers: `Multiprocess.run` has it so.
LOOK_SECONDS: Final = 0.5

# Seconds that a worker may take to start: far more than opening all models does, on a machine that is very busy.
START_SECONDS: Final = 600.0

# Pauses before a worker that could not start is tried again double up to so many seconds: up to the second number when
# no other worker serves.
MAX_PAUSE: Final = 60.0
MAX_PAUSE_ALONE: Final = 5.0

# The file by which workers agree which one says why none of them can start.
_FAILED: Final = "failed"


class Worker(Process):
    """One worker process. The object is also copied to that process, where `target` runs."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket], failures: int = 0) -> None:
        """`failures` is how many workers in its place have failed to start, one after the other, just before it."""
        super().__init__(config, sockets)
        self.failures = failures
        self.serves = False  # it has started
        self.due: float | None = None  # when its successor is started, by time.monotonic; None while it runs
        self._asked = False
        self._unanswered = 0

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve. The server is made before the thread that answers for it begins, so there is only one."""
        self._server = lifecycle.Server(self.config)
        threading.Thread(target=self.always_pong, daemon=True).start()
        self._server.run(sockets)

    def look(self) -> None:
        """Take its answer if there is one, and ask it whether it has started; wait for nothing."""
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            if self.parent_conn.poll():
                self.serves = self.parent_conn.recv() or self.serves
                self._asked = False
                self._unanswered = 0
            if self._asked:
                self._unanswered += 1  # in looks, not seconds: this process may have been halted as well
            else:
                self.parent_conn.send(b"ping")
                self._asked = True

    @property
    def hangs(self) -> bool:
        """Whether it has not answered for too long."""
        most = self.config.timeout_worker_healthcheck if self.serves else START_SECONDS
        return self._unanswered * LOOK_SECONDS > most


class Supervisor(Multiprocess):
    """Starts the workers and replaces them until a signal. `failed`: none could be started, so all were stopped."""

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(self, config: uvicorn.Config, sockets: Sequence[socket], folder: Path, pause: float) -> None:
        """`folder` is what the workers share. They take up to `pause` seconds before they begin to drain."""
        super().__init__(config, list(sockets))
        self.failed = False
        self._folder = folder
        self._served = False  # a worker has started, at some time
        self._stop_seconds = pause + (config.timeout_graceful_shutdown or 0) + 2 * lifecycle.END_SECONDS

    def init_processes(self) -> None:
        """Start the workers."""
        self.processes = [self._started() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Look at each worker once, and replace those that have ended or hang."""
        for number, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.due is None:
                self._look(worker)
            if worker.due is not None and worker.due <= time.monotonic():
                self.processes[number] = self._started(worker.failures)

    def terminate_all(self) -> None:
        """Tell all workers to stop. They hold the port as long as they take connections; this process lets it go."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()

    def join_all(self) -> None:
        """Wait for all workers, hand further signals on to them, and end those that take too long."""
        until = time.monotonic() + self._stop_seconds
        while running := [worker.process for worker in self.processes if worker.process.is_alive()]:
            if time.monotonic() > until:
                log.error("%d workers have not stopped in time; they are ended.", len(running))
                for process in running:
                    process.kill()
                until = math.inf
            while self.signal_queue:
                number = self.signal_queue.pop(0)
                for process in running if number in lifecycle.SIGNALS else ():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid or 0, number)
            multiprocessing.connection.wait([process.sentinel for process in running], LOOK_SECONDS)

    def handle_hup(self) -> None:
        """Stop, as after SIGTERM. A restart would bring nothing new: models and keys are followed."""
        log.info("Received SIGHUP, exiting.")
        self.should_exit.set()

    def handle_ttin(self) -> None:
        """Do nothing: VAE_WORKERS says how many workers there are."""

    def handle_ttou(self) -> None:
        """Do nothing: VAE_WORKERS says how many workers there are."""

    def _started(self, failures: int = 0) -> Worker:
        if self._served:
            (self._folder / _FAILED).unlink(missing_ok=True)  # if it cannot start, either, it says why
        worker = Worker(self.config, self.sockets, failures)
        worker.start()
        return worker

    def _look(self, worker: Worker) -> None:
        """Look at one worker. If it has ended, decide when its successor is started, or stop the service."""
        if worker.process.is_alive():
            before = worker.serves
            worker.look()
            if worker.serves and not before:
                log.info("Worker process %s has started.", worker.pid)
            self._served = self._served or worker.serves
            if not worker.hangs:
                return
            log.error("Worker process %s does not answer; it is ended.", worker.pid)
        worker.kill()
        worker.process.join()
        if worker.exitcode == STARTUP_FAILURE and not self._served:
            self.failed = True
            self.should_exit.set()
            return
        pause = 0.0
        if not worker.serves:
            others = any(other.serves and other.due is None for other in self.processes)
            pause = min(2.0**worker.failures, MAX_PAUSE if others else MAX_PAUSE_ALONE)
        worker.failures = 0 if worker.serves else worker.failures + 1
        if worker.exitcode == STARTUP_FAILURE:
            log.error("A worker could not start; another is started in %g s.", pause)
        else:
            log.warning("Worker process %s has ended (exit status %s).", worker.pid, worker.exitcode)
        worker.due = time.monotonic() + pause


def is_first_to_fail(folder: Path) -> bool:
    """Whether no other worker has failed to start yet. All fail for the same reason, so only the first one logs it."""
    try:
        (folder / _FAILED).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
