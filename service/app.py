"""The composition root: settings in, application out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from service.api import error_handlers, openapi, probes, routes
from service.api.middleware import Gate
from service.api.state import Lifecycle, Rooms
from service.registry import open_registry
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Open, verify and warm up the models, and build the application that serves them.

    Models are opened here, not when the server starts: what is wrong at start-up is one exception, raised before any
    socket listens. Raises BundleRefused when the default model cannot be served, and ProviderUnavailable.
    """
    registry = open_registry(
        settings.models_dir,
        default=settings.default_model,
        provider=settings.provider,
        threads=settings.threads,
    )
    lifecycle = Lifecycle()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # Few threads: a picture being decoded may hold a hundred megabytes.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "codec") as codec:
            yield {"rooms": Rooms(settings, registry, codec, lifecycle)}
        registry.close()

    app = FastAPI(
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
