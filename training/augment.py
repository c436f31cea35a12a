"""Data augmentation: images that are turned, scaled, slanted and moved a little at random.

A network that sees each training image a hundred times overfits to them. Warped images are different each time (Simard
et al. 2003, Best Practices for Convolutional Neural Networks, section 2, for digits).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

TURN: Final = math.radians(10)  # at most, in both directions
SCALE: Final = 0.08  # at most, of the logarithm of a side
SLANT: Final = 0.12  # at most, of the shear
MOVE: Final = 0.04  # at most, in halves of a side


def warped(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Uint8 images [N, *image_shape] of which about this share, 0 to 1, is warped at random.

    Interpolation is bicubic, so that lines stay sharp. Pixels from outside the image have the colour of its edge.
    """
    count = len(images)
    uniform = torch.rand(count, 7, generator=generator, device=generator.device).to(images.device)  # [N, 7]
    chosen = uniform[:, 0] < share
    if images.is_cuda:  # a CUDA graph has no shapes that depend on random numbers
        return torch.where(chosen.view(-1, *[1] * (images.ndim - 1)), _warped(images, uniform[:, 1:]), images)
    if not chosen.any():
        return images
    result = images.clone()
    result[chosen] = _warped(images[chosen], uniform[chosen, 1:])
    return result


def _warped(images: Tensor, uniform: Tensor) -> Tensor:
    """All images, uint8 [N, *image_shape], each warped as its six numbers in [0, 1] say, [N, 6]."""
    turn, slant, tall, wide, across, down = (uniform * 2 - 1).unbind(1)  # each [N], in [-1, 1]
    sine, cosine = torch.sin(TURN * turn), torch.cos(TURN * turn)
    wide, tall = torch.exp(SCALE * wide), torch.exp(SCALE * tall)
    # The matrices map a pixel's place to the place where its colour is read: slant, then scale, then turn.
    rows = [
        torch.stack([wide * cosine, (SLANT * slant - sine) * tall, MOVE * across], 1),
        torch.stack([wide * sine, cosine * tall, MOVE * down], 1),
    ]
    matrices = torch.stack(rows, 1)  # [N, 2, 3]
    before = images.float()
    planes = before.permute(0, 3, 1, 2) if images.ndim == 4 else before.unsqueeze(1)  # [N, 1 or 3, H, W]
    places = F.affine_grid(matrices, list(planes.shape), align_corners=False)
    moved = F.grid_sample(planes, places, mode="bicubic", padding_mode="border", align_corners=False)
    after = moved.permute(0, 2, 3, 1) if images.ndim == 4 else moved.squeeze(1)
    return after.round().clamp(0, 255).to(torch.uint8)
