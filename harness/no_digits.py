"""Photos without a digit: empty pages, textures, text, faces, furniture. Equal for equal seeds."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from harness.photos import EFFECTS, SIZES, TABLES, Floats, Page, choose, falloff, jpeg, smooth_noise, wood

# What is drawn with a pen: letters as polylines in a box of 4 by 6.
_LETTERS: Final = (
    ((0, 6), (2, 0), (4, 6), (3, 3.5), (1, 3.5)),
    ((4, 1), (1, 0), (0, 3), (1, 6), (4, 5)),
    ((4, 0), (0, 0), (0, 6), (4, 6), (0, 6), (0, 3), (3, 3)),
    ((0, 6), (0, 0), (0, 3), (4, 3), (4, 0), (4, 6)),
    ((0, 6), (0, 0), (4, 6), (4, 0)),
    ((0, 0), (1, 6), (2, 2), (3, 6), (4, 0)),
    ((0, 6), (0, 2), (1, 2), (2, 3), (2, 6), (2, 3), (3, 2), (4, 3), (4, 6)),
    ((4, 2), (1, 2), (0, 4), (1, 6), (4, 5), (4, 2), (4, 6)),
    ((0, 0), (0, 6), (0, 4), (3, 3), (4, 4), (3, 6), (0, 6)),
)


def no_digit(kind: str, seed: int) -> bytes:
    """A JPEG of a picture without a digit, of one of the KINDS."""
    rng = np.random.default_rng([seed, 2, list(KINDS).index(kind)])
    width, height = choose(rng, SIZES)
    return KINDS[kind](rng, width, height)


def _page(rng: np.random.Generator, width: int, height: int) -> tuple[Page, list[str]]:
    effects = [name for name, chance in EFFECTS.items() if rng.random() < chance]
    page = Page(width, height, rng)
    if "edge" in effects:
        page.cut()
    return page, effects


def _paper(rng: np.random.Generator, width: int, height: int) -> bytes:
    """An empty page under any light, perhaps ruled, perhaps with specks."""
    page, effects = _page(rng, width, height)
    if "specks" in effects:
        for _ in range(rng.integers(1, 10)):
            wide, high = rng.uniform(0.004, 0.02, 2) * page.short
            page.spot(page.between(0, width), page.between(0, height), wide, high, page.between(0.5, 1))
    return jpeg(page.photograph(effects), rng, effects)


def _texture(rng: np.random.Generator, width: int, height: int) -> bytes:
    """Wood, fabric, plaster or noise, lit from one side."""
    size = (height, width)
    kind = rng.integers(4)
    if kind == 0:
        colours = wood(rng, size, choose(rng, TABLES))
    elif kind == 1:  # fabric: two sets of threads
        down = np.sin(np.arange(height, dtype=np.float32) * rng.uniform(0.3, 1.5))[:, np.newaxis]
        across = np.sin(np.arange(width, dtype=np.float32) * rng.uniform(0.3, 1.5))
        colours = _grey(130 + rng.uniform(10, 50) * down * across + 30 * smooth_noise(rng, size, 30))
    elif kind == 2:  # plaster or stone
        spots = sum(smooth_noise(rng, size, scale) for scale in (3, 8, 25, 80))
        colours = _grey(60 + rng.uniform(20, 60) * np.asarray(spots, np.float32))
    else:
        colours = _grey(128 + rng.uniform(10, 60) * rng.standard_normal(size, np.float32))
    colours *= falloff(rng, size, rng.uniform(0.3, 1))[..., np.newaxis]
    return jpeg(Image.fromarray(colours.clip(0, 255).astype(np.uint8)), rng, ())


def _grey(levels: Floats) -> Floats:
    return np.repeat(levels[..., np.newaxis].astype(np.float32), 3, axis=2)


def _text(rng: np.random.Generator, width: int, height: int) -> bytes:
    """Several lines of small letters."""
    page, effects = _page(rng, width, height)
    drawn = Image.new("L", (width, height))
    draw, letter = ImageDraw.Draw(drawn), page.short * page.between(0.03, 0.07)
    pen = max(1, round(letter * page.between(0.1, 0.2)))
    for line in range(rng.integers(3, 9)):
        top = height * 0.1 + line * letter * 1.8
        x = width * 0.1
        while top + letter < height * 0.95 and x < width * page.between(0.75, 0.9):
            if rng.random() > 0.15:  # else a space
                shape = choose(rng, _LETTERS)
                points = [(x + u * letter / 7, top + v * letter / 6 + page.between(-1, 1)) for u, v in shape]
                draw.line(points, 255, pen, joint="curve")
            x += letter * 0.8
    _put(page, drawn)
    return jpeg(page.photograph(effects), rng, effects)


def _face(rng: np.random.Generator, width: int, height: int) -> bytes:
    """A drawn face: a head, eyes, a nose, a mouth; perhaps hair or glasses."""
    page, effects = _page(rng, width, height)
    drawn = Image.new("L", (width, height))
    draw, head = ImageDraw.Draw(drawn), page.short * page.between(0.18, 0.36)
    pen = max(2, round(head * page.between(0.04, 0.12)))
    x, y = width / 2 + page.between(-0.1, 0.1) * width, height / 2 + page.between(-0.08, 0.08) * height

    def box(u: float, v: float, wide: float, high: float) -> list[float]:
        """A box around a place on the face, in units of half the head."""
        middle, level = x + u * head, y + v * head
        return [middle - wide * head, level - high * head, middle + wide * head, level + high * head]

    draw.ellipse(box(0, 0, page.between(0.75, 1), 1), outline=255, width=pen)
    eye = page.between(0.07, 0.16)
    for side in (-0.35, 0.35):
        if rng.random() < 0.5:
            draw.ellipse(box(side, -0.3, eye, eye), fill=255)
        else:
            draw.ellipse(box(side, -0.3, eye + 0.05, eye + 0.05), outline=255, width=max(1, pen // 2))
    if rng.random() < 0.7:
        draw.line([x, y - 0.1 * head, x - 0.1 * head, y + 0.15 * head, x + 0.05 * head, y + 0.15 * head], 255, pen)
    draw.arc(box(0, 0.3, 0.45, page.between(0.15, 0.3)), *((20, 160) if rng.random() < 0.7 else (200, 340)), 255, pen)
    if rng.random() < 0.4:
        for at in np.linspace(-0.6, 0.6, 7):
            draw.line([x + at * head, y - 0.9 * head, x + 1.3 * at * head, y - 1.3 * head], 255, pen)
    _put(page, drawn)
    return jpeg(page.photograph(effects), rng, effects)


def _furniture(rng: np.random.Generator, width: int, height: int) -> bytes:
    """A room of plain shapes: a wall and a floor, and filled boxes and discs of other colours."""
    picture = Image.new("RGB", (width, height), _colour(rng, 120))
    draw = ImageDraw.Draw(picture)
    draw.rectangle([0, height * rng.uniform(0.5, 0.8), width, height], fill=_colour(rng, 40))
    short = min(width, height)
    for _ in range(rng.integers(2, 7)):
        wide, high = rng.uniform(0.1, 0.45, 2) * short
        x, y = rng.uniform(0.05, 0.6) * width, rng.uniform(0.05, 0.6) * height
        place = [x, y, x + wide, y + high]
        kind = rng.integers(3)
        if kind == 0:
            draw.rectangle(place, fill=_colour(rng, 20), outline=_colour(rng, 0), width=3)
        elif kind == 1:
            draw.ellipse(place, fill=_colour(rng, 20))
        else:  # a table: a top and two legs
            legs, fill = max(4, round(0.08 * wide)), _colour(rng, 20)
            draw.rectangle([x, y, x + wide, y + 0.2 * high], fill=fill)
            draw.rectangle([x, y, x + legs, y + high], fill=fill)
            draw.rectangle([x + wide - legs, y, x + wide, y + high], fill=fill)
    size = (height, width)
    colours = np.asarray(picture, np.float32) * falloff(rng, size, rng.uniform(0.4, 1))[..., np.newaxis]
    colours += rng.standard_normal((*size, 1), np.float32) * rng.uniform(1, 6)
    return jpeg(Image.fromarray(colours.clip(0, 255).astype(np.uint8)), rng, ())


def _colour(rng: np.random.Generator, least: int) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in rng.integers(least, 256, 3))
    return red, green, blue


def _put(page: Page, drawn: Image.Image) -> None:
    rows, columns = slice(page.top, page.top + page.height), slice(page.left, page.left + page.width)
    page.ink[rows, columns] = np.asarray(drawn, np.float32) / 255


KINDS: Final = {"paper": _paper, "texture": _texture, "text": _text, "face": _face, "furniture": _furniture}
