"""Every setting of the service: read once from the environment (`VAE_...`), then handed down as values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Provider = Literal["auto", "cpu", "cuda"]


class Settings(BaseSettings):
    """What an operator can set. Each field is read from the environment variable `VAE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="VAE_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 lets the system choose one.")
    workers: int = Field(
        1, ge=1, le=256, description="Processes that serve the port together; each has the models in memory."
    )
    models_dir: Path = Field(Path("models"), description="Folder of bundles: NAME/VERSION/ within it.")
    default_model: str = Field(
        "mnist-mlp", description='Model of requests that name none: "name" (its highest version) or "name@version".'
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description='The only models to serve, by commas: "name" (every version) or "name@version"; else all.',
    )
    watch_seconds: float = Field(
        1.0, gt=0, description="Seconds between looks at the models folder; a change is served after two of them."
    )
    provider: Provider = Field(
        "auto",
        description="onnxruntime execution provider. auto: CUDA where it really works, else CPU, with a warning. "
        "cuda: CUDA or no start. cpu: CPU.",
    )
    threads: int = Field(
        1,
        ge=0,
        le=256,
        description="onnxruntime threads within one run; 0: as many as the CPUs this process may use, by affinity and "
        "cgroup quota. One is fastest for a small model.",
    )
    batch: int = Field(
        256, ge=1, le=4096, description="Most images of different requests that share one run; 1: no batching."
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1, description="Largest request body, in bytes.")
    max_batch: int = Field(1024, ge=1, description="Most images or latents in one request.")
    max_pixels: int = Field(
        25_000_000,
        ge=1,
        description="Most pixels in all pictures of one request together, by their headers, before any is decoded.",
    )
    queue: int = Field(
        4096, ge=1, description="Most images that one process holds, waiting or being worked on; more get 503."
    )
    max_arriving_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="Most bytes of long bodies that one process holds at once; more get 503.",
    )
    deadline_ms: int = Field(
        10_000,
        ge=1,
        description="Milliseconds from a request's arrival to its answer, else 504; X-Request-Timeout-Ms can lower it.",
    )
    stall_seconds: int = Field(
        30,
        ge=1,
        description="Seconds after which a run that has not ended makes /livez and /readyz fail, and an event loop "
        "that has not turned ends the process.",
    )
    drain_pause_seconds: float = Field(
        0,
        ge=0,
        description="On SIGTERM, seconds from /readyz turning 503 to the port being closed.",
    )
    drain_seconds: int = Field(
        30, ge=0, description="On SIGTERM, seconds that requests in flight may take before they are cut off."
    )
    api_keys_file: Path | None = Field(
        None, description="File of API keys, one a line, read again when it changes; without one, no key is needed."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the service, with commas between, or *; else none."
    )
    max_connections: int = Field(4096, ge=1, description="Most connections of one process; requests on more get 503.")
    max_header_bytes: int = Field(
        32 * 1024,
        ge=1024,
        description="Most bytes of a request's line and headers; more get 431.",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="Seconds that a client may be silent, between requests or in one; longer than a load balancer's.",
    )
    log_format: Literal["text", "json"] = Field("text", description="text or json: how a line of the log looks.")
    log_requests: bool = Field(False, description="Whether each request gets a line in the log.")
    tracing: bool = Field(False, description="Whether OpenTelemetry gets a trace of each request (docs/metrics.md).")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")

    @field_validator("models", "cors_origins", mode="before")
    @classmethod
    def _parts(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
