"""How alike images are: SSIM between pairs, and the distance to the nearest image of a set."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from training import parallel
from training.graphs import CHUNK


def structural_similarity(one: Tensor, other: Tensor) -> Tensor:
    """SSIM of images [N, H, W] or [N, H, W, 3], pixels in [0, 1], each colour on its own: [N], -1 to 1.

    Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity: a Gaussian window of 11
    pixels and 1.5 standard deviation (smaller where the image is smaller), K1 = 0.01, K2 = 0.03.
    """
    first, second = (each.permute(0, 3, 1, 2) if each.ndim == 4 else each.unsqueeze(1) for each in (one, other))
    side = min(11, *first.shape[2:])
    ramp = torch.exp(-((torch.arange(side) - (side - 1) / 2) ** 2) / (2 * 1.5**2))
    window = (ramp[:, None] * ramp / ramp.sum() ** 2)[None, None]  # [1, 1, side, side]

    def blurred(image: Tensor) -> Tensor:
        return F.conv2d(image.flatten(0, 1).unsqueeze(1), window).view(*image.shape[:2], -1)

    means = blurred(first), blurred(second)
    variances = blurred(first**2) - means[0] ** 2, blurred(second**2) - means[1] ** 2
    covariance = blurred(first * second) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * means[0] * means[1] + c1) * (2 * covariance + c2)) / (
        (means[0] ** 2 + means[1] ** 2 + c1) * (variances[0] + variances[1] + c2)
    )
    return similarity.mean((1, 2))


def nearest(images: Tensor, training: Tensor, advance: Callable[[int], None] = lambda _: None) -> float:
    """The root mean squared difference to the nearest training image, pixels in [0, 1]; the mean over the images.

    Both sets are uint8 [N, *image_shape]. `advance` is called with the number of training images that are done.
    """
    pixels = images.flatten(1) / 255  # [N, D]
    lengths = pixels.square().sum(1, keepdim=True)  # [N, 1]

    def apart(chunk: Tensor) -> Tensor:
        known = chunk.flatten(1) / 255  # [n, D]
        return (lengths - 2 * pixels @ known.T + known.square().sum(1)).amin(1)  # [N]

    squares = torch.full((len(images),), math.inf)
    chunks = torch.split(training, CHUNK)
    for chunk, found in zip(chunks, parallel.ordered(apart, chunks), strict=True):
        squares = torch.minimum(squares, found)
        advance(len(chunk))
    return (squares.clamp(min=0) / pixels.shape[1]).sqrt().mean().item()
