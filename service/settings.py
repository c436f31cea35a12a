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
    """The settings of the service. Each field is read from the environment variable `VAE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="Address to listen on. 0.0.0.0: every interface.")
    port: int = Field(
        8000, ge=0, le=65535, description="TCP port to listen on. 0: the system chooses one, and the log says which."
    )
    workers: int = Field(
        1, ge=1, le=256, description="Number of processes that serve the port together. Each has all models in memory."
    )
    models_dir: Path = Field(Path("models"), description="Folder of models; each is a bundle NAME/VERSION/ in it.")
    default_model: str = Field(
        "mnist-mlp", description='Model for requests without "model": "name" (its highest version) or "name@version".'
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description='The only models to serve: "name" (every version) or "name@version", separated by commas. '
        "Empty: all.",
    )
    watch_seconds: float = Field(
        1.0,
        gt=0,
        description="Seconds between two checks of the models folder. A change is used when two checks have found it.",
    )
    provider: Provider = Field(
        "auto",
        description="onnxruntime execution provider. auto: CUDA if it works, otherwise the CPU, with a warning. "
        "cuda: CUDA; without it the service does not start. cpu: the CPU.",
    )
    tf32: bool = Field(
        False,
        description="On CUDA, round the inputs of products to ten bits of mantissa. Large models are then up "
        "to five times as fast. Latents may differ by 0.01, images by two grey levels.",
    )
    threads: int = Field(
        1,
        ge=0,
        le=256,
        description="onnxruntime threads for one run. 0: one for each CPU that this process may use, by affinity and "
        "cgroup quota. One thread is fastest for small models.",
    )
    batch: int = Field(
        256, ge=1, le=4096, description="Largest number of images of different requests in one run. 1: no batching."
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1, description="Largest request body, in bytes.")
    compress_from_bytes: int = Field(
        4096, ge=1, description="Smallest answer that is compressed, in bytes, for a client that asks for that."
    )
    max_batch: int = Field(1024, ge=1, description="Largest number of images or latents in one request.")
    max_pixels: int = Field(
        25_000_000,
        ge=1,
        description="Largest number of pixels in all pictures of one request. Checked in the headers, before decoding.",
    )
    queue: int = Field(
        4096,
        ge=1,
        description="Largest number of images that one process holds, waiting or being computed. More get 503.",
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description="Largest number of bytes that one process holds for requests: bodies, what is parsed and decoded "
        "from them, answers. More get 503. 0: what the memory of the cgroup or the machine leaves, at most 1 GiB; the "
        "log says how much.",
    )
    deadline_ms: int = Field(
        10_000,
        ge=1,
        description="Milliseconds from a request's arrival to its answer, then 504. X-Request-Timeout-Ms can lower it.",
    )
    stall_seconds: int = Field(
        30,
        ge=1,
        description="Seconds until a run that does not end makes /livez and /readyz fail, and until an event loop that "
        "is blocked ends the process.",
    )
    drain_pause_seconds: float = Field(
        0,
        ge=0,
        description="On SIGTERM, seconds between /readyz changing to 503 and the port being closed.",
    )
    drain_seconds: int = Field(
        30, ge=0, description="On SIGTERM, seconds that requests in progress may take. After that they are cut off."
    )
    api_keys_file: Path | None = Field(
        None, description="File of API keys, one per line; it is read again when it changes. Unset: no key is needed."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of web pages that may call the service, separated by commas, or *. Empty: none."
    )
    playground: bool = Field(
        True, description="false: no page at / to try the models in; browsers get the index of the routes, too."
    )
    max_connections: int = Field(
        4096, ge=1, description="Largest number of connections of one process. Requests on more get 503."
    )
    max_header_bytes: int = Field(
        32 * 1024,
        ge=1024,
        description="Largest size of a request's line and headers, in bytes. More gets 431.",
    )
    keep_alive_seconds: int = Field(
        75,
        ge=1,
        description="Seconds that a client may send nothing, between requests or within one. Set it higher than a load "
        "balancer's.",
    )
    max_pipelined: int = Field(
        16,
        ge=1,
        description="Most unanswered requests of one connection. Until one is answered, the connection is not read.",
    )
    min_body_rate: int = Field(
        256,
        ge=0,
        description="Lowest rate of a body, in bytes a second over ten seconds. A slower connection is closed. 0: "
        "no limit.",
    )
    log_format: Format = Field("text", description="Format of the log: text or json.")
    log_requests: bool = Field(False, description="true: write a line in the log for each request.")
    tracing: bool = Field(False, description="true: send a trace of each request with OpenTelemetry (docs/metrics.md).")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged: debug, info, warning or error."
    )

    @field_validator("models", "cors_origins", mode="before")
    @classmethod
    def _parts(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("host", "models_dir", "default_model", "api_keys_file", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        # Empty text would mean every interface, the working directory, or no API keys.
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
    """Read the settings from the environment. Raises InvalidSettings with every problem."""
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettings([_sentence(problem) for problem in error.errors()]) from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def default_text(name: str) -> str | None:
    """The text that gives a setting its default; None if the variable must be unset for that."""
    default = Settings.model_fields[name].default
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return None if default is None else str(default)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that begin with VAE_ but are not settings, such as misspelt ones."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(name for name in environment if name.startswith(PREFIX) and name.upper() not in known)


def log_format(environment: Mapping[str, str]) -> Format:
    """The format of the log, for the time before the settings have been read and checked."""
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
