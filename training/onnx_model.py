"""A trained model as two ONNX graphs with grey levels as input and output, and the proof that they are equal to it."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from service import contract
from training import onnx_graph
from training.errors import ExportError
from training.model import VAE, to_image, to_signal

PARITY_BATCHES: Final = (1, 2, 7, 64)

Array = npt.NDArray[Any]


class Encoder(nn.Module):
    """image uint8 [N, *image_shape] -> mu, logvar float32 [N, L]."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The posteriors of a batch."""
        return self.model.encode(to_signal(image))


class Decoder(nn.Module):
    """z float32 [N, L] -> image uint8 [N, *image_shape], x_hat float32 of the same shape in [-1, 1]."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The images of a batch, in grey levels and as the network's signal."""
        x_hat = self.model.decode(z)
        return to_image(x_hat), x_hat


def graphs(model: VAE, images: Tensor, metadata: dict[str, str]) -> tuple[bytes, bytes]:
    """The encoder and the decoder of a model as ONNX files, for images like these, uint8 [N, *image_shape]."""
    encoder = onnx_graph.graph(
        Encoder(model),
        images[:2],
        inputs=[contract.IMAGE],
        outputs=[contract.MU, contract.LOGVAR],
        metadata=metadata,
    )
    decoder = onnx_graph.graph(
        Decoder(model),
        torch.zeros(2, model.architecture.latent_dim),
        inputs=[contract.Z],
        outputs=[contract.IMAGE, contract.X_HAT],
        metadata=metadata,
    )
    return encoder, decoder


def identity(model: VAE) -> str:
    """The SHA-256 of a model's weights: of each tensor, by name, its name, shape and little-endian float32 bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


@torch.no_grad()
def prove_parity(model: VAE, encoder: bytes, decoder: bytes, images: Tensor) -> None:
    """Compare onnxruntime with PyTorch on real images, uint8 [N, *image_shape], at several batch sizes.

    Each step of refinement may differ as much as an encoder may, but all together no more than at load. Raises
    ExportError, in one sentence, when they differ by more than that or than the contract allows.
    """
    encode, decode = onnx_graph.session(encoder), onnx_graph.session(decoder)
    tolerance = min((1 + model.refinement_steps) * contract.EXPORT_TOLERANCE, contract.GOLDEN_TOLERANCE)
    for batch in PARITY_BATCHES:
        image = images[:batch]
        mu, logvar = model.encode(to_signal(image))
        found = encode.run([contract.MU, contract.LOGVAR], {contract.IMAGE: image.numpy()})
        for name, wanted, got in zip((contract.MU, contract.LOGVAR), (mu, logvar), found, strict=True):
            _agree(f"{name} at batch {batch}", wanted.numpy(), got, tolerance)
        x_hat = model.decode(mu)
        found = decode.run([contract.IMAGE, contract.X_HAT], {contract.Z: mu.numpy()})
        _agree(f"image at batch {batch}", to_image(x_hat).numpy(), found[0], contract.GREY_LEVEL_TOLERANCE)
        _agree(f"x_hat at batch {batch}", x_hat.numpy(), found[1], contract.EXPORT_TOLERANCE)


def _agree(what: str, wanted: Array, got: Array, tolerance: float) -> None:
    apart = float(np.abs(wanted.astype(np.float64) - got.astype(np.float64)).max())
    if not apart <= tolerance:  # true for NaN, too
        raise ExportError(f"No bundle is written: {what} is {apart:.2g} from PyTorch's, and {tolerance:g} is allowed.")
