"""A Python client and a command line for vae-service, the inference service for variational autoencoders."""

from vae_client.client import AsyncClient, Client
from vae_client.errors import (
    BadAnswer,
    DeadlineExceeded,
    Fault,
    InvalidInput,
    LimitExceeded,
    NothingUsable,
    Overloaded,
    Problem,
    Refused,
    ServiceFailed,
    Unauthorized,
    Unknown,
    Unreachable,
    VaeError,
)
from vae_client.pictures import Picture, Pictures, grid
from vae_client.results import (
    Decoded,
    Encoded,
    Found,
    Health,
    Interpolated,
    ModelInfo,
    Models,
    Reconstructed,
    Sampled,
    Scored,
    Traversed,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BadAnswer",
    "Client",
    "DeadlineExceeded",
    "Decoded",
    "Encoded",
    "Fault",
    "Found",
    "Health",
    "Interpolated",
    "InvalidInput",
    "LimitExceeded",
    "ModelInfo",
    "Models",
    "NothingUsable",
    "Overloaded",
    "Picture",
    "Pictures",
    "Problem",
    "Reconstructed",
    "Refused",
    "Sampled",
    "Scored",
    "ServiceFailed",
    "Traversed",
    "Unauthorized",
    "Unknown",
    "Unreachable",
    "VaeError",
    "grid",
]
