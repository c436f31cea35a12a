"""Every setting of the service: read once from the environment (`VAE_...`), then handed down as values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

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
    drain_seconds: int = Field(
        30, ge=0, description="On SIGTERM, seconds that requests in flight may take before they are cut off."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
