"""Small colour pictures of toys, as a folder with a sub-folder for each label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHAPE = (12, 18, 3)


def toy(kind: int, draw: np.random.Generator) -> Image.Image:
    """A red disc (0) or a blue bar (1), somewhere on a light ground."""
    down, across = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centre = draw.uniform((4, 5), (8, 13))
    far = np.hypot(down - centre[0], across - centre[1]) if kind == 0 else np.abs(across - centre[1]) * 1.5
    picture = np.full(SHAPE, 235, np.uint8)
    picture[far < 3] = ((200, 30, 30), (30, 30, 200))[kind]
    return Image.fromarray(picture)


def write_pictures(folder: Path, counts: dict[str, int]) -> None:
    """Write so many toys of each label into `folder`; the labels are discs and bars in turn."""
    draw = np.random.Generator(np.random.PCG64(0))
    for kind, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            toy(kind % 2, draw).save(folder / name / f"{index:03}.png")
