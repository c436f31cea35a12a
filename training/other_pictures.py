"""Pictures that are not of a data set, made of nothing or of its own images, to measure typicality with.

All are uint8 [N, *image_shape]. Random numbers come from a fixed seed, so equal test sets give equal pictures.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SEED: Final = 0
DOTS: Final = 5  # at most, in a picture that is nearly empty or nearly full
LETTER_SIDE: Final = 128  # pixels that a letter is drawn on, before it is scaled down

Pixels = npt.NDArray[np.uint8]
Tags = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Others:
    """Pictures [N, *image_shape] of one kind. `tags` [N] says of which label or letter each is made, if of any."""

    kind: str
    images: Pixels
    tags: Tags | None = None


def of_nothing(count: int, shape: tuple[int, ...], background: int) -> list[Others]:
    """Noise, and pictures with hardly anything on them, where `background` is the grey level of empty paper."""
    draw = np.random.Generator(np.random.PCG64(SEED))
    ink = 255 - background
    normal = draw.standard_normal((count, *shape)) * 64 + 128
    levels = np.linspace(1, 254, min(count, 254)).astype(np.uint8)
    return [
        Others("uniform noise", draw.integers(0, 256, (count, *shape), np.uint8)),
        Others("Gaussian noise", normal.clip(0, 255).astype(np.uint8)),
        Others("empty", np.full((1, *shape), background, np.uint8)),
        Others("nearly empty: 1 to 5 dots", _dotted(count, shape, background, draw)),
        Others("full", np.full((1, *shape), ink, np.uint8)),
        Others("nearly full: 1 to 5 dots", _dotted(count, shape, ink, draw)),
        Others("one grey level", np.broadcast_to(levels.reshape(-1, *[1] * len(shape)), (len(levels), *shape)).copy()),
    ]


def _dotted(count: int, shape: tuple[int, ...], level: int, draw: np.random.Generator) -> Pixels:
    images = np.full((count, *shape), level, np.uint8)
    for image in images:
        dots = draw.integers(1, DOTS + 1)
        rows, columns = (draw.integers(0, side, dots) for side in shape[:2])
        image[rows, columns] = draw.integers(0, 256, (dots, *shape[2:]))
    return images


def of_images(images: Pixels, labels: npt.NDArray[np.uint8], background: int) -> list[Others]:
    """Pictures made of real images, uint8 [N, *image_shape], with labels [N]."""
    tags = np.char.mod("%d", labels)
    height, width = images.shape[1:3]
    upper, lower, left, right = (images.copy() for _ in range(4))
    upper[:, height // 2 :] = lower[:, : height // 2] = background
    left[:, :, width // 2 :] = right[:, :, : width // 2] = background
    other = np.roll(images, 1, axis=0)
    ink = np.maximum if background < 128 else np.minimum
    kinds: dict[str, Pixels] = {
        "inverted": 255 - images,
        "upside down": images[:, ::-1, ::-1],
        "mirrored": images[:, :, ::-1],
        "flipped top to bottom": images[:, ::-1],
        "turned by a quarter": np.rot90(images, axes=(1, 2)) if height == width else images[:, ::-1, ::-1],
        "upper half": upper,
        "lower half": lower,
        "left half": left,
        "right half": right,
        "two on top of each other": ink(images, other),
        "two side by side": _side_by_side(images, other, background),
    }
    return [Others(kind, np.ascontiguousarray(made), tags) for kind, made in kinds.items()]


def _side_by_side(one: Pixels, other: Pixels, background: int) -> Pixels:
    """Both at half size, the first on the left."""
    height, width = (side // 2 for side in one.shape[1:3])
    pair = np.full_like(one, background)
    top = (one.shape[1] - height) // 2
    for place, images in ((0, one), (width, other)):
        for row, image in enumerate(images):
            small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
            pair[row, top : top + height, place : place + width] = np.asarray(small)
    return pair


def letters(count: int, shape: tuple[int, ...], background: int) -> Others:
    """Capital letters in Pillow's own font, with strokes of several widths, slanted, stretched and turned a little.

    Each is scaled and centred like the digits of MNIST: its longer side takes 20 of 28 pixels, and its centre of mass
    is in the middle.
    """
    draw = np.random.Generator(np.random.PCG64(SEED))
    font = ImageFont.load_default(LETTER_SIDE // 2)
    tags = np.resize(np.array(list(string.ascii_uppercase)), count)
    ink = np.stack([_centred(_letter(str(tag), font, draw), shape[:2]) for tag in tags])
    images = (background + (ink / 255) * (255 - 2 * background)).round().astype(np.uint8)
    return Others("capital letters", images if len(shape) == 2 else images[..., None].repeat(3, axis=-1), tags)


def _letter(letter: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, draw: np.random.Generator) -> Image.Image:
    """White on black, `LETTER_SIDE` wide and high."""
    page = Image.new("L", (LETTER_SIDE, LETTER_SIDE))
    middle = LETTER_SIDE / 2
    ImageDraw.Draw(page).text(
        (middle, middle), letter, fill=255, font=font, anchor="mm", stroke_width=int(draw.integers(0, 4))
    )
    angle, slant, stretch = draw.uniform(-0.15, 0.15), draw.uniform(-0.25, 0.25), draw.uniform(0.8, 1.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1 / stretch, slant], [0, 1]])
    shift = middle - matrix @ [middle, middle]
    rows = np.column_stack([matrix, shift]).ravel().tolist()
    return page.transform(page.size, Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)


def _centred(page: Image.Image, size: tuple[int, ...]) -> Pixels:
    """What is white on a page, scaled and centred in an image of this height and width."""
    height, width = size
    crop = page.crop(page.getbbox())
    scale = 20 / 28 * min(height / crop.height, width / crop.width)
    small = np.asarray(crop.resize([max(1, round(side * scale)) for side in crop.size], Image.Resampling.BOX))
    rows, columns = small.shape
    mass = small.sum(dtype=np.float64)
    down = round((height - 1) / 2 - float((small.sum(1) * np.arange(rows)).sum() / mass))
    across = round((width - 1) / 2 - float((small.sum(0) * np.arange(columns)).sum() / mass))
    top, left = min(max(down, 0), height - rows), min(max(across, 0), width - columns)
    image = np.zeros((height, width), np.uint8)
    image[top : top + rows, left : left + columns] = small
    return image
