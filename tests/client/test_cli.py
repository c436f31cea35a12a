"""`vae` against the real service, in this process."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from harness.digits import decoded, digits, encoded
from harness.paths import DIGIT, ROOT
from harness.servers import Server
from tests.client import faulty as faults
from tests.client.faulty import FaultyServer
from vae_client import Client, conversation
from vae_client.cli import commands, parquet
from vae_client.cli.arguments import STATUSES
from vae_client.cli.main import main

Vae = Callable[..., "Ran"]


class Ran:
    """How a command ended: its exit status, and what it wrote."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status, self.out, self.err = status, out, err.decode()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def vae(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Vae:
    """Run a command for the service, in a folder of its own with a few digits in it."""
    monkeypatch.setenv("VAE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some" / "more").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.PNG", "more/c.png")):
        (tmp_path / "some" / name).write_bytes(encoded(digits()[index]))
    (tmp_path / "some" / "notes.txt").write_text("no picture")
    np.save(tmp_path / "digits.npy", digits()[:3])

    def run(*arguments: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return Ran(status, out, err)

    return run


@pytest.fixture
def posterior(client: Client) -> Any:
    return client.encode(digits()[:3])


class TestInputs:
    @pytest.mark.parametrize(
        ("files", "names"),
        [
            (["some/a.png", "some/b.PNG", "some/more/c.png"], None),
            (["some"], ["some/a.png", "some/b.PNG", "some/more/c.png"]),
            (["some/[ab].*", "some/**/c.png"], ["some/a.png", "some/b.PNG", "some/more/c.png"]),
            (["digits.npy"], ["digits.npy[0]", "digits.npy[1]", "digits.npy[2]"]),
        ],
        ids=["files", "folder", "patterns", "array"],
    )
    def test_pictures_come_in_order_and_keep_their_names(
        self, vae: Vae, posterior: Any, files: list[str], names: list[str] | None
    ) -> None:
        ran = vae("encode", *files)
        assert (ran.status, ran.err) == (0, "")
        assert [row["file"] for row in ran.rows] == names or files
        np.testing.assert_array_equal(np.array([row["mu"] for row in ran.rows], np.float32), posterior.mu)

    def test_standard_input_is_a_picture_or_an_array_or_a_list(self, vae: Vae, posterior: Any) -> None:
        for data, names in (
            (encoded(digits()[0]), ["-"]),
            (Path("digits.npy").read_bytes(), ["-[0]", "-[1]", "-[2]"]),
            (b"some/a.png\nsome/b.PNG\n", ["some/a.png", "some/b.PNG"]),
        ):
            rows = vae("encode", "-", stdin=data).rows
            assert [row["file"] for row in rows] == names
            np.testing.assert_array_equal(np.array([row["mu"] for row in rows], np.float32), posterior.mu[: len(rows)])

    def test_a_bad_one_is_named_and_the_others_are_done(self, vae: Vae) -> None:
        ran = vae("encode", "some/a.png", "some/notes.txt", "missing.png", "some/b.PNG")
        assert ran.status == 3
        assert [row["file"] for row in ran.rows] == ["some/a.png", "some/b.PNG"]
        assert "some/notes.txt: Not a picture" in ran.err
        assert "missing.png: No such file" in ran.err

    def test_with_strict_nothing_is_written(self, vae: Vae) -> None:
        for bad in ("some/notes.txt", "missing.png"):
            ran = vae("reconstruct", "--strict", "some/a.png", bad, "-o", "out.png")
            assert (ran.status, ran.out) == (3, b"")
            assert ran.err.startswith(f"vae: {bad}: ")
        assert not Path("out.png").exists()

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["encode", "missing/*.png"], "no file has such a name"),
            (["encode", "missing.png"], "None of 1 pictures can be used"),
            (["encode", "some/notes.npy"], "not an array"),
            (["encode", "latents.npy"], "float32"),
            (["decode", "some/a.png"], "no latents can be read"),
            (["decode", "missing.npy"], "No such file"),
            (["interpolate", "some/a.png", "some/notes.txt"], "some/notes.txt: Not a picture"),
            (["traverse", "missing.png"], "missing.png: No such file"),
            (["encode", "-"], "There is no picture"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, vae: Vae, arguments: list[str], sentence: str) -> None:
        Path("some/notes.npy").write_text("no array")
        np.save("latents.npy", np.zeros((2, 20), np.float32))
        ran = vae(*arguments)
        assert (ran.status, ran.out) == (3, b"")
        assert sentence in ran.err


class TestOutputs:
    def test_latents_come_as_lines_arrays_or_tables_and_go_back(self, vae: Vae, posterior: Any, client: Client) -> None:
        for name in ("l.jsonl", "l.npy", "l.npz", "l.parquet"):
            assert vae("encode", "some", "-o", name).status == 0
            assert vae("decode", name, "-o", "images.npy").status == 0
            np.testing.assert_array_equal(np.load("images.npy"), client.decode(posterior.mu).images)
        np.testing.assert_array_equal(np.load("l.npy"), posterior.mu)
        with np.load("l.npz") as arrays:
            np.testing.assert_array_equal(arrays["logvar"], posterior.logvar)
            assert arrays["files"].tolist() == ["some/a.png", "some/b.PNG", "some/more/c.png"]
        table = pyarrow.parquet.read_table("l.parquet")
        assert table.column_names == ["file", "model", "mu", "logvar"]
        assert table["file"].to_pylist() == ["some/a.png", "some/b.PNG", "some/more/c.png"]
        np.testing.assert_array_equal(np.array(table["mu"].to_pylist(), np.float32), posterior.mu)
        assert vae("decode", "-", "-o", "images.npy", stdin=Path("l.jsonl").read_bytes()).status == 0

    def test_a_draw_says_its_seed(self, vae: Vae, client: Client) -> None:
        ran = vae("encode", "digits.npy", "--sample", "-o", "z.npy")
        seed = int(ran.err.split()[-1])
        np.testing.assert_array_equal(np.load("z.npy"), client.encode(digits()[:3], sample=True, seed=seed).z)

    def test_scores_are_a_table(self, vae: Vae, client: Client) -> None:
        expected = client.score(digits()[:3], k=4, seed=1)
        rows = vae("score", "some", "-k", 4, "--seed", 1).rows
        assert list(rows[0]) == ["file", "model", "distortion", "rate", "elbo", "typicality", "log_likelihood"]
        np.testing.assert_array_equal(np.array([row["typicality"] for row in rows], np.float32), expected.typicality)
        vae("score", "some", "-o", "scores.npy")
        assert np.load("scores.npy").shape == (3, 4)

    def test_pictures_are_a_grid_an_array_or_a_folder(self, vae: Vae, client: Client) -> None:
        expected = client.sample(6, label=7, seed=2).images
        ran = vae("sample", "-n", 6, "--label", 7, "--seed", 2, "-o", "grid.png")
        assert ran.err == "vae: mnist-mlp@2, prior aggregate, seed 2\n"
        assert decoded(Path("grid.png").read_bytes()).shape == (56, 84)
        vae("sample", "-n", 6, "--label", "7", "--seed", 2, "-o", "images.npy")
        np.testing.assert_array_equal(np.load("images.npy"), expected)
        vae("sample", "-n", 6, "--label", 7, "--seed", 2, "-o", "new/")
        np.testing.assert_array_equal(decoded(Path("new/00005.png").read_bytes()), expected[5])

    def test_pictures_can_be_sharper(self, vae: Vae, client: Client) -> None:
        vae("encode", "digits.npy", "-o", "z.npy")
        for command in (["decode", "z.npy"], ["reconstruct", "digits.npy"]):
            vae(*command, "--sharpness", 1.5, "-o", "images.npy")
            np.testing.assert_array_equal(np.load("images.npy"), client.reconstruct(digits()[:3], sharpness=1.5).images)
        vae("sample", "-n", 2, "--seed", 2, "--temperature", 0.5, "--sharpness", 1.5, "-o", "images.npy")
        expected = client.sample(2, seed=2, temperature=0.5, sharpness=1.5).images
        np.testing.assert_array_equal(np.load("images.npy"), expected)

    def test_a_folder_has_the_names_of_the_pictures(self, vae: Vae, client: Client) -> None:
        Path("out").mkdir()
        vae("reconstruct", "some/a.png", "some", "digits.npy", "-o", "out")
        names = sorted(path.name for path in Path("out").iterdir())
        assert names == ["a-2.png", "a.png", "b.png", "c.png", "digits[0].png", "digits[1].png", "digits[2].png"]
        image = client.reconstruct(digits()[2]).images[0]
        np.testing.assert_array_equal(decoded(Path("out/digits[2].png").read_bytes()), image)

    def test_walks_are_strips(self, vae: Vae) -> None:
        vae("interpolate", "some/a.png", "some/b.PNG", "--steps", 5, "-o", "way.png")
        assert decoded(Path("way.png").read_bytes()).shape == (28, 5 * 28)
        vae("encode", "some", "-o", "l.npy")
        vae("interpolate", "--z", "l.npy", "--path", "spherical", "-o", "way.png")
        assert decoded(Path("way.png").read_bytes()).shape == (28, 15 * 28)
        vae("traverse", "some/a.png", "--dims", "3,4", "--range=-1,1", "--steps", 3, "-o", "bent.png")
        assert decoded(Path("bent.png").read_bytes()).shape == (56, 84)

    def test_without_a_terminal_a_png_is_written_and_nothing_shown(self, vae: Vae, client: Client) -> None:
        ran = vae("sample", "-n", 1, "--seed", 2)
        np.testing.assert_array_equal(decoded(ran.out), client.sample(1, seed=2).images[0])
        assert vae("sample", "-n", 1, "-o", "one.png").out == b""

    def test_show_draws_with_text(self, vae: Vae) -> None:
        ran = vae("sample", "-n", 1, "--show", "blocks", "-o", "one.png")
        assert ran.out.decode().count("▀") == 14 * 28
        assert Path("one.png").exists()

    def test_models_are_a_table_or_lines(self, vae: Vae) -> None:
        assert "mnist-mlp@2 (default)" in vae("models").out.decode()
        assert [row["id"] for row in vae("models", "--json").rows if row["name"] == "mnist-mlp"] == [
            "mnist-mlp@1", "mnist-mlp@2",
        ]  # fmt: skip
        assert "warm and working" in vae("health").out.decode()


class TestStatuses:
    def test_the_help_lists_them(self, vae: Vae) -> None:
        ran = vae("--help")
        assert ran.status == 0
        assert all(meaning in ran.out.decode() for meaning in STATUSES.values())

    @pytest.mark.parametrize(
        ("arguments", "status", "sentence"),
        [
            (["encode"], 2, "required: FILE"),
            (["encode", "some", "-o", "out.txt"], 2, "'out.txt' is none of .jsonl"),
            (["sample", "-n", "0"], 2, "not a number above 0"),
            (["traverse", "some/a.png", "--range", "1"], 2, "not LOW,HIGH"),
            (["interpolate", "some/a.png"], 2, "At least two"),
            (["interpolate"], 2, "Either files or --z"),
            (["health", "--url", "localhost"], 2, "is no URL"),
            (["sample", "--model", "nobody"], 5, "no model 'nobody'"),
            (["sample", "--label", "x"], 5, "label"),
            (["sample", "-o", "missing/grid.png"], 1, "No such file"),
        ],
    )
    def test_each_kind_of_failure_has_its_own(self, vae: Vae, arguments: list[str], status: int, sentence: str) -> None:
        ran = vae(*arguments)
        assert ran.status == status
        assert sentence in ran.err
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize(
        ("fault", "status"), [(faults.CLOSED, 6), (faults.NOT_OURS, 7), (faults.HANG, 6), (faults.DROP, 4)]
    )
    def test_a_server_that_fails_is_told_from_one_that_refuses(
        self, vae: Vae, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch, fault: str, status: int
    ) -> None:
        monkeypatch.setattr(conversation, "FIRST_PAUSE", 0.0)
        timeout = ["--timeout", "0.2"] if fault == faults.HANG else []
        for command in (["sample"], ["encode", "some/a.png"]):
            faulty.faults = [fault] * 5
            ran = vae(*command, "--url", faulty.url, *timeout)
            assert (ran.status, ran.out) == (status, b"")

    def test_a_reader_that_has_gone_is_no_traceback(self, vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(*_: object) -> None:
            raise BrokenPipeError

        monkeypatch.setattr(commands, "write_table", gone)
        monkeypatch.setattr(os, "dup2", lambda *_: None)
        ran = vae("encode", "some")
        assert (ran.status, ran.err) == (141, "")

    def test_ctrl_c_is_130(self, vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(commands, "write_table", interrupted)
        assert vae("encode", "some").status == 130

    def test_without_pyarrow_a_sentence_says_what_to_install(self, vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        ran = vae("encode", "some", "-o", "l.parquet")
        assert (ran.status, ran.err) == (2, f"vae: {parquet.NoParquet()}\n")


class TestServe:
    def test_it_becomes_the_service(self, vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
        became: list[list[str]] = []
        monkeypatch.setattr(os, "execv", lambda program, arguments: became.append(arguments))
        monkeypatch.chdir(ROOT)
        vae("serve", "--help")
        assert became == [[sys.executable, "-m", "service", "--help"]]

    def test_without_the_service_a_sentence_says_so(self, vae: Vae, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(commands, "_is_installed", lambda name: False)
        ran = vae("serve")
        assert ran.status == 1
        assert "not installed here" in ran.err


def test_a_photo_is_read_as_its_exif_says(vae: Vae) -> None:
    photo = Image.fromarray(np.kron(digits()[0], np.ones((4, 4), np.uint8)))
    photo.save("photo.jpg")
    assert vae("encode", "photo.jpg", DIGIT).status == 0
