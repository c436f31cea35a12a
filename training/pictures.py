"""Pictures of a model's inputs and outputs, as arrays: inputs with reconstructions, and grids of samples."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from training.model import VAE, to_image, to_signal

Pixels = npt.NDArray[np.uint8]


@torch.no_grad()
def reconstructed(model: VAE, images: Tensor) -> tuple[Pixels, Pixels]:
    """Uint8 images [N, *image_shape] and their reconstructions from mu, as arrays of the same shape."""
    mu, _ = model.encode(to_signal(images))
    return images.cpu().numpy(), to_image(model.decode(mu)).cpu().numpy()


def grid(images: Pixels, columns: int) -> Pixels:
    """One picture of images [N, H, W] or [N, H, W, 3], in rows of `columns`. N is a multiple of `columns`."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in images.reshape(-1, columns, *images.shape[1:])])


def beside(images: Pixels, reconstructions: Pixels) -> Pixels:
    """Each image with its reconstruction on the right, one pair below the other, as in the notebook's panels."""
    return grid(np.stack([images, reconstructions], axis=1).reshape(-1, *images.shape[1:]), columns=2)


def above(images: Pixels, reconstructions: Pixels, columns: int) -> Pixels:
    """Rows of `columns` images, each row above the row of its reconstructions."""
    rows = [each.reshape(-1, columns, *each.shape[1:]) for each in (images, reconstructions)]
    return grid(np.stack(rows, axis=1).reshape(-1, *images.shape[1:]), columns)


def png(picture: Pixels, scale: int) -> bytes:
    """A picture, each pixel drawn `scale` wide, as the bytes of a PNG file; equal pictures give equal bytes."""
    file = io.BytesIO()
    Image.fromarray(picture.repeat(scale, axis=0).repeat(scale, axis=1)).save(file, "PNG", optimize=True)
    return file.getvalue()
