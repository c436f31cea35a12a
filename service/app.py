"""The composition root: build the application from the settings."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from service import lifecycle, limits
from service.api import docs, error_handlers, models, openapi, playground, probes, routes
from service.api.dispatch import verb_of
from service.api.keys import Keys, check_file
from service.api.middleware import ApiKeyMiddleware, CompressionMiddleware, RequestIdMiddleware
from service.api.open_inference import routes as open_inference_routes
from service.api.open_inference.statistics import Statistics
from service.api.state import AppState
from service.cpus import available_cpus
from service.inference import models_folder, watcher
from service.inference.admission import Admission
from service.inference.health import Health
from service.inference.registry import RegistryOptions, open_registry
from service.settings import Settings
from service.telemetry.logs import LogWriter, RequestLog
from service.telemetry.metrics import Metrics, Sources
from service.telemetry.observer import Observer
from service.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

# A body that is one text with an escape and a character beyond ASCII takes seven times its length while it is parsed.
_BODY_SHARE: Final = 8


class Service(FastAPI):
    """FastAPI, with a shorter path for the verbs: they are answered before its middleware and router run."""

    cross_origin = False  # if true, verbs go through CORSMiddleware, which adds headers to their answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a verb directly. FastAPI answers everything else."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        verb = verb_of(scope["path"]) if is_post and not self.cross_origin else None
        await (super().__call__ if verb is None else verb)(scope, receive, send)


def check(settings: Settings) -> None:
    """Check what can be checked in a millisecond: models folder and API keys. Raises CannotStart.

    `create_app` finds the same problems, and more. A supervisor checks here before it starts workers.
    """
    models_folder.check(settings.models_dir, settings.default_model, settings.models)
    if settings.api_keys_file is not None:
        check_file(settings.api_keys_file)


def create_app(settings: Settings, directory: Path | None = None, log_writer: LogWriter | None = None) -> FastAPI:
    """Open, verify and warm up the models, and build the application that serves them.

    `directory` is where several workers share their metrics and statistics. `log_writer` writes the log; without one,
    requests are not logged. The models are opened here and not when the server starts, so that every problem is one
    exception, raised before connections are accepted. Raises CannotStart when the models folder or the file of API keys
    lacks what the settings name, BundleRefused when the default model cannot be served, ProviderUnavailable,
    TracingUnavailable, and OSError when there is no space in `directory`.
    """
    limits.give_memory_back()
    keys = Keys(settings.api_keys_file)
    metrics = Metrics(directory, agree_seconds=max(5.0, 5 * settings.watch_seconds))
    statistics = Statistics(directory)
    cpus = available_cpus()
    threads = settings.threads or cpus
    codec_threads = min(4, cpus)  # few: decoding one picture may take a hundred megabytes of memory
    registry_options = RegistryOptions(
        settings.provider, threads, settings.batch, settings.models, metrics.batch, settings.tf32
    )
    registry = open_registry(settings.models_dir, default=settings.default_model, options=registry_options)
    log.info(
        "CPUs for this process, by affinity and cgroup quota: %d. Threads for one run: %d (VAE_THREADS); "
        "to read pictures: %d.",
        *(cpus, threads, codec_threads),
    )
    limits.trim()
    health = Health(registry, settings.stall_seconds)
    # onnxruntime keeps what its largest run needed, for each model.
    runs = sum(settings.max_batch * model.autoencoder.cost for model in registry)
    settings = _within_limits(settings, runs)
    admission = Admission(most_images=settings.queue, most_bytes=settings.memory_bytes)
    request_log = (
        RequestLog(log_writer, settings.log_format) if settings.log_requests and log_writer is not None else None
    )
    tracing = Tracing() if settings.tracing else None
    observer = Observer(metrics, request_log, tracing)
    metrics.watch(
        Sources(
            queue_depth=lambda: admission.images,
            ready=lambda: health.ready,
            models=lambda: [
                (contract.name, contract.version, model.engine.provider, contract.identity[:12])
                for model in registry
                for contract in [model.engine.contract]
            ],
            models_hash=lambda: registry.hash,
            log_lines_lost=lambda: log_writer.lost if log_writer is not None else 0,
        )
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        # Objects made at start-up live as long as the process. Frozen, they are skipped by the garbage collector, which
        # would otherwise spend 40 ms on them now and then.
        gc.collect()
        gc.freeze()
        lifecycle.stop_with_supervisor(directory)
        companions = [
            asyncio.create_task(watcher.follow(registry, settings.watch_seconds)),
            asyncio.create_task(lifecycle.end_if_stuck(settings.stall_seconds)),
            asyncio.create_task(metrics.keep_fresh()),
        ]
        codec = ThreadPoolExecutor(codec_threads, "codec")
        with lifecycle.drain_on_signals(health.drain, settings.drain_pause_seconds):
            state = AppState(settings, registry, admission, keys, codec, health, metrics, observer, statistics)
            yield {"app_state": state}
        for companion in companions:
            companion.cancel()
        await asyncio.gather(*companions, return_exceptions=True)
        codec.shutdown(wait=False, cancel_futures=True)  # by now nobody waits for what still runs
        registry.close()
        if tracing is not None:
            tracing.close()

    app = Service(
        title="VAE inference service",
        summary="Encode, reconstruct and sample images with variational autoencoders.",
        description=openapi.DESCRIPTION,
        version=version("vae-service"),
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go to the host that the client names
        separate_input_output_schemas=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.health = health
    app.add_middleware(CompressionMiddleware)
    app.add_middleware(ApiKeyMiddleware, keys)
    if settings.cors_origins:
        app.cross_origin = True
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(RequestIdMiddleware)
    error_handlers.install(app)
    app.include_router(routes.router)
    app.include_router(models.router)
    app.include_router(probes.router)
    app.include_router(docs.router)
    app.include_router(playground.router)
    app.include_router(open_inference_routes.router)
    openapi.complete(app.openapi(), registry)
    return app


def _within_limits(settings: Settings, runs: int) -> Settings:
    """The settings with what follows from the process's own limits, now that its models are open; the log says it.

    `runs` is how many bytes the models' runs may keep.
    """
    memory_bytes, max_body_bytes = settings.memory_bytes, settings.max_body_bytes
    if not memory_bytes:
        memory = limits.memory()
        memory_bytes = memory.for_requests(settings.workers, runs)
        each = "" if settings.workers == 1 else f" for {settings.workers} workers"
        log.info(
            "Requests may hold %d MB (VAE_MEMORY_BYTES): %s allows %d MB%s, of which this process has taken %d MB.",
            *(memory_bytes // 10**6, memory.source, memory.allows // 10**6, each, memory.taken // 10**6),
        )
    if max_body_bytes > memory_bytes // _BODY_SHARE:
        max_body_bytes = max(1, memory_bytes // _BODY_SHARE)
        log.warning(
            "Bodies may have %d bytes, not %d (VAE_MAX_BODY_BYTES): parsed, more would not fit into VAE_MEMORY_BYTES.",
            *(max_body_bytes, settings.max_body_bytes),
        )
    max_connections, descriptors = limits.connections(settings.max_connections)
    if max_connections < settings.max_connections:
        log.warning(
            "At most %d connections, not %d (VAE_MAX_CONNECTIONS): the process may open %d files (RLIMIT_NOFILE).",
            *(max_connections, settings.max_connections, descriptors),
        )
    return settings.model_copy(
        update={
            "memory_bytes": memory_bytes,
            "max_body_bytes": max_body_bytes,
            "max_connections": max_connections,
        }
    )
