"""Runs side by side: a table of the figures of each, read from its metrics.json.

    python -m training compare                  (the runs under runs/)
    python -m training compare --shipped        (the table of docs/models.md)

Each row has the command that trains the run again. With --shipped the rows are the notebook's own figures, the bundles
under models/ and the runs that are recorded under docs/runs/.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.contract import CONTRACT_FILE
from training import commands
from training.card_text import NOTEBOOK_BATCH, NOTEBOOK_PRINTED, RECORDED
from training.recipe import recorded

COLUMNS: Final = {
    "total": ".2f",
    "distortion": ".2f",
    "rate": ".2f",
    "nll": ".2f",
    "psnr": ".2f",
    "ssim": ".3f",
    "frechet_normal": ".1f",
    "frechet_aggregate": ".2f",
    "frechet_floor": ".2f",
    "label_accuracy": ".2%",
    "weights": ",.0f",
    "onnx_bytes": ",.0f",
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
    print(table(rows))
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
    """The rows in Markdown."""
    lines = [f"| | objective | made by | {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |"]
    lines.append(f"|---|---|---|{'---|' * len(COLUMNS)}")
    for row in rows:
        cells = [_cell(row.figures.get(name, ""), style) for name, style in COLUMNS.items()]
        lines.append(f"| {row.name} | {row.objective} | {row.made_by} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | str, style: str) -> str:
    return value if isinstance(value, str) else format(value, style)
