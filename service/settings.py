"""Every setting of the service: read once from the environment (`VAE_...`), then handed down as values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Provider = Literal["auto", "cpu", "cuda"]
Format = Literal["text", "json"]

PREFIX: Final = "VAE_"

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")


class Settings(BaseSettings):
    """What an operator can set. Each field is read from the environment variable `VAE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False)

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
    log_format: Format = Field("text", description="text or json: how a line of the log looks.")
    log_requests: bool = Field(False, description="Whether each request gets a line in the log.")
    tracing: bool = Field(False, description="Whether OpenTelemetry gets a trace of each request (docs/metrics.md).")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")

    @field_validator("models", "cors_origins", mode="before")
    @classmethod
    def _parts(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("host", "models_dir", "default_model", "api_keys_file", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        # An empty text would be every interface, the working directory, or a service that needs no key.
        if isinstance(value, str) and not value.strip():
            raise ValueError("empty")
        return value

    @field_validator("provider", "log_format", "log_level", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        word = value.strip().lower() if isinstance(value, str) else value
        return "warning" if word == "warn" else word

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower() for origin in origins)  # as browsers send them
        if wrong := [origin for origin in origins if origin != "*" and not _is_origin(origin)]:
            raise ValueError(
                f"an origin is scheme://host or scheme://host:port as browsers send it, with no path and without the "
                f"scheme's usual port, or it is *; {', '.join(wrong)} is none"
            )
        return origins


class InvalidSettings(ValueError):
    """The environment holds settings that cannot be used. `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


def read_settings() -> Settings:
    """The settings in the environment. Raises InvalidSettings with everything that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettings([_sentence(problem) for problem in error.errors()]) from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def default_text(name: str) -> str | None:
    """What to write into a setting's variable to get its default; None where only an unset variable gives it."""
    default = Settings.model_fields[name].default
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return None if default is None else str(default)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none: spelling mistakes, most likely."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(name for name in environment if name.startswith(PREFIX) and name.upper() not in known)


def log_format(environment: Mapping[str, str]) -> Format:
    """How lines of the log should look, as far as can be known before the settings have been read."""
    return "json" if environment.get(variable("log_format"), "").strip().lower() == "json" else "text"


def _sentence(problem: ErrorDetails) -> str:
    name, value = str(problem["loc"][0]), problem["input"]
    if isinstance(value, str) and not value.strip():
        default = default_text(name)
        unset = f"leave it unset for {default}" if default else "leave it unset"
        return f"{variable(name)} is set but empty: give it a value, or {unset}."
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "bool_parsing":
        reason = "Input should be true or false"
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return f"{variable(name)}={text[:200]}: {reason}."


def _is_origin(text: str) -> bool:
    """Whether `text`, in lower case, is an origin as a browser sends it: RFC 6454, section 6.2."""
    usual = (text.startswith("http://") and text.endswith(":80")) or (
        text.startswith("https://") and text.endswith(":443")
    )
    return _ORIGIN.fullmatch(text) is not None and not usual
