"""Figures and commands of documents that are not run are those of the files that they come from."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.paths import MODELS, ROOT
from service import contract
from service.contract import Contract
from tests.readme import blocks
from training.figures import PREFIXES
from training.options import parse

README = ROOT / "README.md"
SECOND = PREFIXES[1]
BENCH = ROOT / "bench" / "README.md"


def table(document: Path, mark: str) -> dict[str, list[str]]:
    """A table between two marks: the cells of each row, by its first cell."""
    text = document.read_text().split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in [rows[0], *rows[2:]]}


def test_the_readme_compares_with_others_by_the_figures_of_the_benchmark() -> None:
    section = BENCH.read_text().split("### One base64 digit in JSON")[1].split("###")[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in section.splitlines() if "|" in line
    ]
    measured = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}
    columns = ["requests/s, 32 conn.", "this service is … times it", "p99 ms, 32", "RSS MB"]
    compared = table(README, "peers")
    assert len(compared) == 1 + 8
    del compared[""]
    for name, cells in compared.items():
        assert cells[:4] == [measured[name][column] for column in columns], name


def test_the_readme_has_the_figures_of_the_models() -> None:
    found = table(README, "models")
    columns = found.pop("")
    for name, cells in found.items():
        ((model, version),) = re.findall(r"`([\w-]+)@(\d+)`", name)
        shipped = Contract.from_json((MODELS / model / version / contract.CONTRACT_FILE).read_bytes())
        assert cells == [f"{shipped.metrics[column]:.2f}" for column in columns], name


@pytest.mark.parametrize("name", ["training.md", "models.md"])
def test_the_commands_that_train_have_options_that_exist(name: str) -> None:
    lines = [line.split(" #")[0] for line in "".join(blocks(ROOT / "docs" / name)).splitlines()]
    trains = [line.split("-m training train ")[1] for line in lines if "-m training train " in line]
    trains += [re.sub(r"^make train RECIPE=", "--recipe ", line) for line in lines if line.startswith("make train")]
    for line in trains:
        if "--resume" not in line:  # which needs the run
            parse(shlex.split(line.replace('ARGS="', "").replace('"', "")))


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*/model.json")), ids=lambda path: "-".join(path.parts[-3:-1]))
def test_each_card_has_the_figures_of_its_model(path: Path) -> None:
    """Those that the playground and /models show, too: both read model.json."""
    card, metrics = (path.parent / contract.CARD_FILE).read_text(), Contract.from_json(path.read_bytes()).metrics
    forms = dict.fromkeys(("distortion", "rate", "total", "psnr", "nll", "linear_total"), ".2f") | {"mse": ".5f"}
    forms |= dict.fromkeys(("nearest_", "ssim", "frechet_"), ".3f")
    forms |= dict.fromkeys(("label_accuracy", "classifier_accuracy", "precision", "recall"), ".2%")
    shown = {
        name: format(value, form)
        for name, value in metrics.items()
        for start, form in forms.items()
        if name.removeprefix(SECOND).startswith(start)
    }
    assert len(shown) >= 5
    assert {name: text for name, text in shown.items() if text not in card} == {}
