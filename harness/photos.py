"""Photos of handwritten digits, made from MNIST's: strokes on paper, as a phone would show them. Equal for equal seeds.

Each effect can be made alone; a mixed photo has each of them with the chance that EFFECTS says.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Item = TypeVar("Item")

# Each effect and its chance in a mixed photo. Light falls off to between 0.3 and 0.75 of the brightest place.
EFFECTS: Final = {
    "light": 0.6,
    "shadow": 0.4,
    "ruled": 0.3,
    "squared": 0.2,
    "edge": 0.35,
    "specks": 0.4,
    "marks": 0.4,
    "blur": 0.5,
    "noise": 0.5,
    "perspective": 0.5,
    "jpeg": 0.3,
}

SIZES: Final = ((640, 480), (480, 640), (800, 600), (600, 800), (1024, 768), (768, 1024), (1280, 960))
_PENS: Final = ((25, 25, 30), (30, 50, 140), (150, 30, 35), (25, 90, 55), (95, 95, 98))
_PAPERS: Final = ((245, 244, 240), (238, 232, 214), (228, 234, 240), (212, 205, 190), (250, 250, 250))
TABLES: Final = ((120, 80, 50), (70, 48, 35), (45, 45, 50), (175, 140, 100), (110, 120, 125))

# Pages are drawn larger than the photo by this share on each side, so that a tilted one still fills it.
_MARGIN: Final = 0.25


@dataclass
class Page:
    """A page while it is drawn, in the photo's pixels, with a margin around it.

    `ink` float32 [h, w] is 1 where the pen was; `lines` is 1 where the paper is printed; `paper` is 0 on the table.
    """

    width: int
    height: int
    rng: np.random.Generator
    ink: Floats = field(init=False)
    lines: Floats = field(init=False)
    paper: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.top = round(self.width * _MARGIN), round(self.height * _MARGIN)
        whole = self.height + 2 * self.top, self.width + 2 * self.left
        self.ink, self.lines = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
        self.paper = np.ones(whole, np.float32)
        self.pen = choose(self.rng, _PENS)
        self.tint = choose(self.rng, _PAPERS)

    def between(self, low: float, high: float) -> float:
        """A random number."""
        return float(self.rng.uniform(low, high))

    @property
    def short(self) -> int:
        """The photo's shorter side."""
        return min(self.width, self.height)

    def write(self, strokes: Images, side: float, x: float, y: float) -> None:
        """Write an MNIST image, scaled so that its 28 pixels are `side`, with its middle at x, y of the photo."""
        size = max(8, round(side))
        large = Image.fromarray(strokes).resize((size, size), Image.Resampling.BICUBIC)
        smooth = np.asarray(large.filter(ImageFilter.GaussianBlur(0.4 * size / 28)), np.float32) / 255
        edge = 28 / size * 1.5  # about two pixels from paper to ink
        stroke = ((smooth - self.between(0.25, 0.55)) / max(edge, 0.1) + 0.5).clip(0, 1)
        stroke *= 1 - self.between(0, 0.25) * smooth_noise(self.rng, (size, size), 6)
        left, top = round(self.left + x - size / 2), round(self.top + y - size / 2)
        place = self.ink[top : top + size, left : left + size]
        np.maximum(place, stroke[: place.shape[0], : place.shape[1]], out=place)

    def rule(self, spacing: float, width: float, strength: float, *, both: bool) -> None:
        """Print lines on the page, across it or in `both` directions."""
        for axis in (0, 1) if both else (0,):
            at = np.arange(self.lines.shape[axis], dtype=np.float32) + self.between(0, spacing)
            away = np.abs((at + spacing / 2) % spacing - spacing / 2)
            profile = (width / 2 + 0.5 - away).clip(0, 1) * strength
            np.maximum(self.lines, profile[:, np.newaxis] if axis == 0 else profile, out=self.lines)
        if not both and self.rng.random() < 0.5:  # a margin's line
            start = self.left + round(self.width * self.between(0.04, 0.14))
            self.lines[:, start : start + max(1, round(width))] = strength

    def cut(self) -> None:
        """End the page on one or two sides, a part of the photo away from its edge."""
        sides = self.rng.permutation(4)[: self.rng.integers(1, 3)]
        for side in sides:
            inside = self.between(0.03, 0.14)
            if side < 2:
                at = self.top + round(self.height * inside)
                self.paper[slice(0, at) if side == 0 else slice(-at, None)] = 0
            else:
                at = self.left + round(self.width * inside)
                self.paper[:, slice(0, at) if side == 2 else slice(-at, None)] = 0

    def spot(self, x: float, y: float, wide: float, high: float, strength: float = 1) -> None:
        """Put a speck at x, y of the photo."""
        left, top = round(self.left + x), round(self.top + y)
        place = self.ink[top : top + max(1, round(high)), left : left + max(1, round(wide))]
        np.maximum(place, strength, out=place)

    def photograph(self, effects: Collection[str]) -> Image.Image:
        """The photo: the page on a table, tilted, under its light, through a lens."""
        rng = self.rng
        if "ruled" in effects or "squared" in effects:
            both = "squared" in effects
            spacing = self.short * (self.between(0.04, 0.1) if both else self.between(0.07, 0.18))
            self.rule(spacing, self.between(1, 0.005 * self.short), self.between(0.15, 0.5), both=both)
        layers = [self.ink, self.lines, self.paper]
        tilt = "perspective" in effects
        corners = self._corners(0.07 if tilt else 0.01)
        ink, lines, paper = (self._seen(layer, corners) for layer in layers)
        ink = ink * paper

        size = (self.height, self.width)
        texture = rng.standard_normal(size, np.float32) * (0.012 if "noise" in effects else 0.004)
        texture += (smooth_noise(rng, size, 40) - 0.5) * 0.06
        tint = np.array(self.tint, np.float32)
        line_tint = tint * np.array(choose(rng, ((0.5, 0.6, 0.9), (0.5, 0.5, 0.55), (0.85, 0.5, 0.5))), np.float32)
        colours = tint + lines[..., np.newaxis] * (line_tint * 0.8 - tint)
        colours *= 1 + texture[..., np.newaxis]
        opacity = self.between(0.8, 1) * ink[..., np.newaxis]
        colours += opacity * (np.array(self.pen, np.float32) - colours)
        if not self.paper.all():
            colours += (1 - paper[..., np.newaxis]) * (wood(rng, size, choose(rng, TABLES)) - colours)
        if "light" in effects:
            colours *= falloff(rng, size, self.between(0.3, 0.75))[..., np.newaxis]
        if "shadow" in effects:
            colours *= shadow(rng, size)[..., np.newaxis]
        return self._through_the_lens(colours, effects)

    def _through_the_lens(self, colours: Floats, effects: Collection[str]) -> Image.Image:
        picture = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
        sharp = 0.0008 * self.short
        picture = picture.filter(ImageFilter.GaussianBlur(sharp * self.between(2, 5) if "blur" in effects else sharp))
        strength = self.between(3, 9) if "noise" in effects else 1.5
        grain = self.rng.standard_normal((self.height, self.width, 1), np.float32) * strength
        return Image.fromarray((np.asarray(picture, np.float32) + grain).clip(0, 255).astype(np.uint8))

    def _corners(self, most: float) -> list[tuple[float, float]]:
        """Where the photo's corners are on the page, moved by at most this share of its sides."""
        moved = self.rng.uniform(-most, most, (4, 2))
        plain = ((0, 0), (0, 1), (1, 1), (1, 0))
        return [
            (self.left + self.width * (x + dx), self.top + self.height * (y + dy))
            for (x, y), (dx, dy) in zip(plain, moved, strict=True)
        ]

    def _seen(self, layer: Floats, corners: list[tuple[float, float]]) -> Floats:
        if layer.min() == layer.max():
            return np.full((self.height, self.width), layer[0, 0], np.float32)
        width, height = self.width, self.height
        rows, right = [], []
        for (u, v), (x, y) in zip(((0, 0), (0, height), (width, height), (width, 0)), corners, strict=True):
            rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
            right += [x, y]
        found = np.linalg.solve(np.array(rows, np.float64), np.array(right, np.float64))
        flat = Image.fromarray((layer * 255).astype(np.uint8))
        seen = flat.transform((width, height), Image.Transform.PERSPECTIVE, found.tolist(), Image.Resampling.BILINEAR)
        return np.asarray(seen, np.float32) / np.float32(255)


def photo(strokes: Images, seed: int, effects: Collection[str] | None = None) -> bytes:
    """A JPEG of a page with one digit on it, `strokes` uint8 [28, 28], with these effects, or else mixed ones."""
    rng = np.random.default_rng([seed, 1])
    if effects is None:
        effects = [name for name, chance in EFFECTS.items() if rng.random() < chance]
    page = Page(*choose(rng, SIZES), rng)
    box = page.between(0.25, 0.6) * page.short  # MNIST's digits are in boxes of 20 of 28 pixels
    x = page.width / 2 + page.between(-0.3, 0.3) * (0.7 * page.width - box)
    y = page.height / 2 + page.between(-0.3, 0.3) * (0.7 * page.height - box)
    if "edge" in effects:
        page.cut()
    if "marks" in effects:
        _mark(page, x, y, box)
    page.write(strokes, 1.4 * box, x, y)
    if "specks" in effects:
        for _ in range(rng.integers(1, 10)):
            wide, high = rng.uniform(0.004, 0.02, 2) * page.short
            page.spot(page.between(0, page.width), page.between(0, page.height), wide, high, page.between(0.5, 1))
    return jpeg(page.photograph(effects), rng, effects)


def _mark(page: Page, x: float, y: float, box: float) -> None:
    """Draw one to three small marks beside the digit: ticks, dashes, rings."""
    for _ in range(page.rng.integers(1, 4)):
        angle, size = page.between(0, 2 * np.pi), page.between(0.08, 0.25) * box
        away = (0.5 * 1.2 + 0.3) * box + size
        left, top = x + away * np.cos(angle) - size / 2, y + away * np.sin(angle) - size / 2
        drawn = Image.new("L", (round(size) + 1, round(size) + 1))
        draw, pen, end = ImageDraw.Draw(drawn), max(2, round(0.05 * box)), round(size)
        kind = page.rng.integers(3)
        if kind == 0:
            draw.line([(0, end // 2), (end // 3, end), (end, 0)], 255, pen)
        elif kind == 1:
            draw.line([(0, end // 2), (end, end // 2)], 255, pen)
        else:
            draw.ellipse([0, 0, end, end], outline=255, width=pen)
        top, left = (max(0, round(start + at)) for start, at in ((page.top, top), (page.left, left)))
        place = page.ink[top : top + end + 1, left : left + end + 1]
        np.maximum(place, np.asarray(drawn, np.float32)[: place.shape[0], : place.shape[1]] / 255, out=place)


def jpeg(picture: Image.Image, rng: np.random.Generator, effects: Collection[str]) -> bytes:
    """The photo as a file, more strongly compressed with the effect `jpeg`."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(25, 50) if "jpeg" in effects else rng.integers(75, 95)))
    return stream.getvalue()


def falloff(rng: np.random.Generator, size: tuple[int, int], least: float) -> Floats:
    """Light from one side, float32 [h, w], from 1 to `least`."""
    down, across = np.linspace(-1, 1, size[0], dtype=np.float32), np.linspace(-1, 1, size[1], dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.float32(np.sin(angle)) * down[:, np.newaxis] + np.float32(np.cos(angle)) * across
    along = (along - along.min()) / (along.max() - along.min())
    light: Floats = 1 - (1 - least) * along ** np.float32(rng.uniform(0.7, 1.6))
    return light


def shadow(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    """The shadow of a hand or a head, float32 [h, w]: a soft edge across the picture."""
    height, width = size
    down, across = np.arange(height, dtype=np.float32)[:, np.newaxis], np.arange(width, dtype=np.float32)
    if rng.random() < 0.5:  # one straight edge
        angle = rng.uniform(0, 2 * np.pi)
        inside = np.sin(angle) * (down - height / 2) + np.cos(angle) * (across - width / 2)
        inside = inside - rng.uniform(-0.3, 0.3) * min(size)
    else:
        radius = rng.uniform(0.3, 0.6) * min(size)
        middle = rng.uniform(0, height), rng.uniform(0, width)
        inside = radius - np.hypot(down - middle[0], across - middle[1])
    soft = rng.uniform(0.03, 0.12) * min(size)
    dark = rng.uniform(0.25, 0.55)
    light: Floats = (1 - dark / (1 + np.exp(-(inside / soft).clip(-30, 30)))).astype(np.float32)
    return light


def wood(rng: np.random.Generator, size: tuple[int, int], tint: tuple[int, int, int]) -> Floats:
    """A wooden table, float32 [h, w, 3]: grain along one side."""
    grain = smooth_noise(rng, (size[0], 1), 3) * 0.5 + smooth_noise(rng, (size[0], 1), 18)
    if rng.random() < 0.5:
        grain = (smooth_noise(rng, (1, size[1]), 3) * 0.5 + smooth_noise(rng, (1, size[1]), 18)) + 0 * grain
    bent = grain + 0.3 * smooth_noise(rng, size, 60)
    return ((0.75 + 0.3 * bent)[..., np.newaxis] * np.array(tint, np.float32)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Floats:
    """Noise in [0, 1], float32 [h, w], whose spots are about `scale` pixels large."""
    height, width = size
    small = rng.random((max(2, round(height / scale)), max(2, round(width / scale))), np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


def choose(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items."""
    return items[int(rng.integers(len(items)))]
