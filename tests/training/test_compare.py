from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from harness.paths import ROOT
from training.__main__ import main

from . import subset
from .conftest import Run


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_every_run_is_a_row_of_its_own_figures(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", f"--runs-dir={finished.runs}"]) == 0
    (head, _, row), (sample_head, _, sample_row) = map(rows, capsys.readouterr().out.split("\n\n"))
    report = json.loads((finished.folder / "metrics.json").read_text())
    assert row[:2] == ["run mnist-mlp", "squared-error"]
    assert row[head.index("total")] == f"{report['metrics']['total']:.2f}"
    assert len(row) == len(head)
    for judge in ("", "second "):
        share = report["metrics"][f"{judge}label_accuracy".replace(" ", "_")]
        assert sample_row[sample_head.index(f"{judge}label accuracy")] == f"{share:.2%}"
    assert len(sample_row) == len(sample_head)


def test_a_row_s_command_trains_that_row_again(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Executed as printed, but for the subset in place of MNIST and another place for its results."""
    main(["compare", f"--runs-dir={finished.runs}"])
    command = rows(capsys.readouterr().out)[2][2].strip("`")
    python, *module, name = shlex.split(command)[:4]
    assert (Path(python).resolve(), module, name) == (Path(sys.executable).resolve(), ["-m", "training"], "train")
    options = shlex.split(command)[4:]
    places = [f"--data-dir={subset.DIRECTORY}", f"--runs-dir={tmp_path}", f"--models-dir={finished.models}"]
    assert main(["train", *options, *places]) == 0
    assert f"{finished.bundle} is this very bundle already" in capsys.readouterr().out


def test_shipped_bundles_and_recorded_runs_are_compared_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--shipped", f"--models-dir={ROOT / 'models'}"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    names = [row[0] for row in rows(first)[2:]]
    assert "run mnist-mlp-notebook" in [row[0] for row in rows(second)[2:]]
    assert names[0] == "the reference notebook"
    assert {"[mnist-mlp@1](../models/mnist-mlp/1/README.md)", "run mnist-mlp-notebook"} <= set(names)


def test_docs_models_md_has_the_tables_as_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "--shipped", f"--models-dir={ROOT / 'models'}"])
    page = (ROOT / "docs" / "models.md").read_text()
    assert page.partition("<!-- table -->\n")[2].partition("<!-- /table -->")[0] == capsys.readouterr().out


def test_no_runs_make_empty_tables(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", f"--runs-dir={tmp_path}"]) == 0
    assert [len(rows(table)) for table in capsys.readouterr().out.split("\n\n")] == [2, 2]
