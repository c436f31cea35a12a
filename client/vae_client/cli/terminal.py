"""Pictures in a terminal, and progress beside them."""

from __future__ import annotations

import base64
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, TextIO

import numpy as np
from PIL import Image

from vae_client.pictures import png_bytes

Way = Literal["kitty", "iterm2", "blocks"]
WAYS: Final[tuple[Way, ...]] = ("kitty", "iterm2", "blocks")

# The width that pictures are scaled up to, in pixels, where the terminal draws them.
_WIDE: Final = 512

# Kitty takes so many characters at once (its graphics protocol, "The transmission medium").
_CHUNK: Final = 4096


def way_of(environment: Mapping[str, str]) -> Way | None:
    """How the terminal of an environment shows pictures; None for one that shows nothing but text."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term in ("", "dumb"):
        return None
    if term.startswith(("tmux", "screen")):
        return "blocks"  # what is between would not hand other pictures on
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return "blocks"


def show(image: Image.Image, way: Way, stream: TextIO) -> None:
    """Write a picture to a terminal."""
    if way == "blocks":
        stream.write(blocks(image, shutil.get_terminal_size().columns))
        return
    factor = max(1, _WIDE // image.width)
    data = png_bytes(image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST))
    stream.write((kitty if way == "kitty" else iterm2)(data) + "\n")


def kitty(png: bytes) -> str:
    """A picture by Kitty's graphics protocol: transmit and show a PNG (f=100), in chunks (m=1: more follow)."""
    text = base64.b64encode(png).decode()
    chunks = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    first = "a=T,f=100,"
    return "".join(
        f"\x1b_G{first if index == 0 else ''}m={int(index < len(chunks) - 1)};{chunk}\x1b\\"
        for index, chunk in enumerate(chunks)
    )


def iterm2(png: bytes) -> str:
    """A picture by iTerm2's inline images protocol."""
    return f"\x1b]1337;File=inline=1;size={len(png)}:{base64.b64encode(png).decode()}\a"


def blocks(image: Image.Image, columns: int) -> str:
    """A picture of upper half blocks in 24-bit colours: each is two pixels, one above the other."""
    if image.width > columns:
        height = max(1, round(image.height * columns / image.width))
        image = image.convert("RGB").resize((columns, height), Image.Resampling.BOX)
    pixels = np.asarray(image.convert("RGB"))
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{above[0]};{above[1]};{above[2]};48;2;{below[0]};{below[1]};{below[2]}m▀"
            for above, below in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m\n")
    return "".join(lines)


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], object]]:
    """A bar on standard error while a call takes place, if that is a terminal. Gives what advances it."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
