"""The composition root: settings in, application out."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from service.api import error_handlers, openapi, probes, routes
from service.api.middleware import Gate
from service.api.state import Lifecycle, Rooms
from service.api.verbs import VERBS
from service.cpus import available_cpus
from service.registry import open_registry
from service.settings import Settings


class Service(FastAPI):
    """FastAPI, with the verbs answered before its router and its middleware see them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a verb at once; leave everything else to FastAPI."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in VERBS:
            await VERBS[scope["path"]](scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@contextmanager
def draining_first(lifecycle: Lifecycle) -> Iterator[None]:
    """Have SIGINT and SIGTERM turn /readyz to 503 before they do what they did: have the server drain and stop."""
    replaced: dict[int, Any] = {}

    def drain(number: int, frame: FrameType | None) -> None:
        lifecycle.draining = True
        replaced[number](number, frame)

    if threading.current_thread() is threading.main_thread():  # no other may handle signals
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        replaced.update({number: handler for number, handler in handlers.items() if callable(handler)})
    for number in replaced:
        signal.signal(number, drain)
    yield
    for number, handler in replaced.items():
        signal.signal(number, handler)


def create_app(settings: Settings) -> FastAPI:
    """Open, verify and warm up the models, and build the application that serves them.

    Models are opened here, not when the server starts: what is wrong at start-up is one exception, raised before any
    socket listens. Raises BundleRefused when the default model cannot be served, and ProviderUnavailable.
    """
    registry = open_registry(
        settings.models_dir,
        default=settings.default_model,
        provider=settings.provider,
        threads=settings.threads or available_cpus(),
        batch=settings.batch,
    )
    lifecycle = Lifecycle()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # What start-up made is here to stay: frozen, the collector need not look through it for 40 ms now and then.
        gc.collect()
        gc.freeze()
        # Few threads: a picture being decoded may hold a hundred megabytes.
        with ThreadPoolExecutor(min(4, available_cpus()), "codec") as codec, draining_first(lifecycle):
            yield {"rooms": Rooms(settings, registry, codec, lifecycle)}
        registry.close()

    app = Service(
        title="VAE inference service",
        summary="Encode, reconstruct and sample images with variational autoencoders.",
        version=version("vae-service"),
        lifespan=lifespan,
        redoc_url=None,
        separate_input_output_schemas=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.lifecycle = lifecycle
    app.add_middleware(Gate)
    error_handlers.install(app)
    app.include_router(routes.router)
    app.include_router(probes.router)
    openapi.add_problem_schema(app.openapi())
    return app
