"""Pictures as a terminal gets them."""

from __future__ import annotations

import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from harness.digits import decoded, digits
from vae_client.cli import terminal


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "dumb"}, None),
        ({}, None),
    ],
)
def test_the_environment_says_what_a_terminal_can(environment: dict[str, str], way: str | None) -> None:
    assert terminal.way_of(environment) == way


def test_blocks_have_two_pixels_each() -> None:
    text = terminal.blocks(Image.fromarray(digits()[0][:27]), columns=80)
    lines = text.splitlines()
    assert len(lines) == 14
    assert all(line.endswith("\x1b[0m") for line in lines)
    pixels = np.zeros((28, 28), np.uint8)
    for row, line in enumerate(lines):
        cells = re.findall(r"\x1b\[38;2;(\d+);\1;\1;48;2;(\d+);\2;\2m▀", line)
        pixels[2 * row], pixels[2 * row + 1] = np.array(cells, int).T
    np.testing.assert_array_equal(pixels[:27], digits()[0][:27])


def test_blocks_fit_the_width_of_the_terminal() -> None:
    lines = terminal.blocks(Image.fromarray(np.hstack(list(digits()[:8]))), columns=40).splitlines()
    assert [line.count("▀") for line in lines] == [40] * 3


def test_kitty_gets_a_png_in_chunks() -> None:
    stream = io.StringIO()
    noise = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    terminal.show(Image.fromarray(noise), "kitty", stream)
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", stream.getvalue())
    assert len(chunks) > 1
    assert [keys for keys, _ in chunks] == ["a=T,f=100,m=1", *["m=1"] * (len(chunks) - 2), "m=0"]
    assert all(len(data) <= 4096 for _, data in chunks)
    shown = decoded(base64.b64decode("".join(data for _, data in chunks)))
    np.testing.assert_array_equal(shown[::5, ::5], noise)  # scaled up, pixel by pixel


def test_iterm2_gets_a_png() -> None:
    stream = io.StringIO()
    terminal.show(Image.fromarray(np.tile(digits()[0], (1, 20))), "iterm2", stream)
    found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+):(.*)\a\n", stream.getvalue())
    assert found is not None
    png = base64.b64decode(found[2])
    assert len(png) == int(found[1])
    np.testing.assert_array_equal(decoded(png), np.tile(digits()[0], (1, 20)))


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with terminal.progress(10, "encode") as advance:
            advance(10)
        assert ("encode" in stream.getvalue()) == shown
