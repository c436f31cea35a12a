"""Every block of a document that can run is run, on one server, and prints what the document says."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from harness.digits import decoded
from harness.paths import ROOT
from harness.servers import Server, running
from tests.documents.runs import Run, answers, is_shown, prepare, run
from tests.readme import fenced

# Documents whose blocks have a test of their own, which looks closer at what they do.
ELSEWHERE: Final = {
    "client/README.md": "tests/client/test_readme.py",
    "docs/open-inference.md": "tests/e2e/test_open_inference_document.py",
    "docs/streams.md": "tests/e2e/test_streams_document.py",
}
DOCUMENTS: Final = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HERE: Final = {str(path.relative_to(ROOT)): path for path in DOCUMENTS if str(path.relative_to(ROOT)) not in ELSEWHERE}
RUN: Final = [
    name
    for name, path in HERE.items()
    if any(block.language in ("sh", "python") and not block.reason for block in fenced(path))
]
PICTURES: Final = ROOT / "docs" / "latent-space"

Ran = Callable[[str], Run]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as `make serve` starts it."""
    with running(tmp_path_factory.mktemp("server") / "log", models="") as server:
        yield server


@pytest.fixture(scope="module")
def ran(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Runs a document, once for all tests."""
    done: dict[str, Run] = {}

    def once(name: str) -> Run:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        if name not in done:
            done[name] = run(HERE[name], prepare(tmp_path_factory.mktemp("document")), server)
        return done[name]

    return once


@pytest.mark.parametrize("name", RUN)
def test_its_blocks_run_and_print_what_it_says(name: str, ran: Ran) -> None:
    printed = {block.line: text for block, text in ran(name).printed}
    for block, shown in answers(HERE[name]):
        assert is_shown(shown, printed[block.line]), f"{name}:{shown.line}: it printed {printed[block.line]}"


def test_the_readme_encodes_and_makes_pictures(ran: Ran) -> None:
    folder = ran("README.md").folder
    assert np.shape(json.loads(ran("README.md").of("sh")[0])["mu"]) == (1, 20)
    assert ran("README.md").of("python") == ["(1, 20)\n"]
    assert decoded((folder / "reconstruction.png").read_bytes()).shape == (28, 28)
    assert decoded((folder / "samples.png").read_bytes()).shape == (8 * 28, 8 * 28)
    assert decoded((folder / "sevens.png").read_bytes()).shape == (8 * 28, 8 * 28)


def test_the_embeddings_of_the_document(ran: Ran) -> None:
    embeddings, models = map(json.loads, ran("docs/embeddings.md").of("sh"))
    assert np.shape(embeddings["data"][0]["embedding"]) == (20,)
    assert "mnist-mlp@2" in {model["id"] for model in models["data"]}


def test_the_pictures_of_the_latent_space_are_made_by_the_commands_above_them(ran: Ran) -> None:
    """On another processor sums are taken in another order, and a grey level may be another."""
    folder = ran("docs/latent-space.md").folder / "docs" / "latent-space"
    made = sorted(path.name for path in folder.iterdir())
    assert made == sorted(path.name for path in PICTURES.iterdir())
    for name in made:
        here = decoded((folder / name).read_bytes()).astype(float)
        there = decoded((PICTURES / name).read_bytes()).astype(float)
        assert here.shape == there.shape
        assert np.abs(here - there).mean() < 1, name
    shown = re.findall(r'<img src="latent-space/([^"]+)"', HERE["docs/latent-space.md"].read_text())
    assert sorted(shown) == made


def test_the_figures_of_repaired_digits_are_what_the_command_prints(ran: Ran) -> None:
    table = HERE["docs/latent-space.md"].read_text().split("<!-- repair -->\n")[1].split("<!-- /repair -->")[0]
    rows, found = table.splitlines(), ran("docs/latent-space.md").of("sh")[-1].splitlines()
    assert len(found) == len(rows) == 2 + 5
    for row, other in zip(rows, found, strict=True):
        assert row.split("|")[1] == other.split("|")[1]
        np.testing.assert_allclose(numbers(row), numbers(other), atol=1)


def numbers(row: str) -> list[float]:
    """The shares and the errors in a row of the table, in percent."""
    return [float(number) * (1 if percent else 100) for number, percent in re.findall(r"(\d+(?:\.\d+)?)(%?)", row)]


@pytest.mark.parametrize(("document", "test"), ELSEWHERE.items())
def test_the_others_have_a_test_of_their_own(document: str, test: str) -> None:
    assert " / ".join(f'"{part}"' for part in Path(document).parts) in (ROOT / test).read_text()


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "client" / "README.md"], ids=lambda path: path.name)
def test_each_fence_is_that_of_a_block(document: Path) -> None:
    lines = [line for line in document.read_text().splitlines() if line.startswith("```")]
    assert lines[::2] == [f"```{block.language}" for block in fenced(document)]
    assert set(lines[1::2]) <= {"```"}
    assert document.read_text().count("\n<!-- not run:") == sum(bool(block.reason) for block in fenced(document))
