"""Runs side by side: tables of the figures of each, read from its metrics.json.

    python -m training compare                  (the runs under runs/)
    python -m training compare --shipped        (the tables of docs/models.md)

The first table is about likelihood and reconstructions, the second about samples, by both judges. Each row of the first
has the command that trains the run again. With --shipped the rows are the notebook's own figures, the bundles
under models/ and the runs that are recorded under docs/runs/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.contract import CONTRACT_FILE
from training import commands, figures
from training.card_text import NOTEBOOK_BATCH, NOTEBOOK_PRINTED, RECORDED, ratio
from training.recipe import recorded

COLUMNS: Final = {
    "total": ".2f",
    "distortion": ".2f",
    "rate": ".2f",
    "nll": ".2f",
    "psnr": ".2f",
    "ssim": ".3f",
    "weights": ",.0f",
    "onnx_bytes": ",.0f",
}
# Of these every judge has one, and the second judge's follow those of the first.
SAMPLE_COLUMNS: Final = {
    "frechet_normal": ".1f",
    "frechet_aggregate": ".3f",
    "frechet_floor": ".3f",
    "label_accuracy": ".2%",
    "recall": ".2%",
    "recall_ratio": "",
    "precision": ".2%",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A run or bundle: its name, its objective, the command that trains it, and its figures by name."""

    name: str
    objective: str
    made_by: str
    figures: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program: print the table. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training compare", description="Show runs side by side.")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are (default: runs)")
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="where bundles are (default: models)")
    parser.add_argument("--shipped", action="store_true", help="bundles and recorded runs instead of runs/")
    options = parser.parse_args(arguments)
    if options.shipped:
        rows = [notebook()]
        rows += [bundle(path) for path in sorted(options.models_dir.glob(f"*/*/{CONTRACT_FILE}"))]
        rows += [run(path, commands.ANYWHERE) for path in sorted(RECORDED.glob("*.json"))]
    else:
        rows = [run(path, commands.training()) for path in sorted(options.runs_dir.glob("*/metrics.json"))]
    print(table(rows), sample_table(rows), sep="\n\n")
    return 0


def notebook() -> Row:
    """The figures that the reference notebook printed, for single validation batches."""
    printed = [batch / NOTEBOOK_BATCH for batch in NOTEBOOK_PRINTED]
    made_by = f"as printed, of single validation batches of {NOTEBOOK_BATCH} images"
    return Row(
        "the reference notebook", "squared-error", made_by, {"total": f"{min(printed):.1f} to {max(printed):.1f}"}
    )


def bundle(path: Path) -> Row:
    """A bundle, from its model.json."""
    document = json.loads(path.read_text())
    name = f"[{document['name']}@{document['version']}](../models/{document['name']}/{document['version']}/README.md)"
    made_by = f"`{_command(document, commands.ANYWHERE)}`"
    return Row(name, document["objective"], made_by, document["metrics"])


def run(path: Path, training: str) -> Row:
    """A run, from its metrics.json. `training` is how its command begins."""
    document = json.loads(path.read_text())
    recipe = document["recipe"]
    return Row(f"run {recipe['name']}", recipe["objective"], f"`{_command(document, training)}`", document["metrics"])


def _command(document: dict[str, Any], training: str) -> str:
    """The command that trains what a model.json or metrics.json describes."""
    recipe = recorded(document["recipe"], "The recipe")
    return commands.reproduce(recipe, document["tools"].get("device", "cpu"), training)


def table(rows: Sequence[Row]) -> str:
    """The figures of likelihood and reconstructions in Markdown."""
    facts = [[row.name, row.objective, row.made_by] for row in rows]
    cells = [[*fact, *_cells(row.figures, COLUMNS)] for fact, row in zip(facts, rows, strict=True)]
    return _markdown(["", "objective", "made by", *COLUMNS], cells)


def sample_table(rows: Sequence[Row]) -> str:
    """The figures of samples in Markdown, of those rows that have any."""
    columns = {prefix + name: style for prefix in figures.PREFIXES for name, style in SAMPLE_COLUMNS.items()}
    cells = []
    for row in rows:
        ratios = {f"{prefix}recall_ratio": ratio(row.figures, f"{prefix}recall") for prefix in figures.PREFIXES}
        found = [row.name, *_cells(row.figures | ratios, columns)]
        if any(found[1:]):
            cells.append(found)
    return _markdown(["", *columns], cells)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = (f" {name.replace('_', ' ')} " if name else " " for name in head)
    lines = [f"|{'|'.join(names)}|", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cells(found: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    return [_cell(found.get(name, ""), style) for name, style in columns.items()]


def _cell(value: float | str, style: str) -> str:
    return value if isinstance(value, str) else format(value, style)
