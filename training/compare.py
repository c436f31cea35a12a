"""Runs side by side: a table of what each came to, from the metrics.json that it left.

    python -m training compare [--runs-dir runs] [--shipped]

With --shipped the rows are the bundles under models/ and the recorded runs under training/recipes/: docs/models.md is
made of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.contract import CONTRACT_FILE
from training.recipe import RECIPES, Recipe, command

COLUMNS = {
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m training compare", description="A table of runs, in Markdown.")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are (default: runs)")
    parser.add_argument("--models-dir", type=Path, default=Path("models"), help="where bundles are (default: models)")
    parser.add_argument("--shipped", action="store_true", help="bundles and recorded runs instead of runs/")
    options = parser.parse_args(arguments)
    if options.shipped:
        rows = [shipped(path) for path in sorted(options.models_dir.glob(f"*/*/{CONTRACT_FILE}"))]
        rows += [recorded(path) for path in sorted(RECIPES.glob("*.metrics.json"))]
    else:
        rows = [recorded(path) for path in sorted(options.runs_dir.glob("*/metrics.json"))]
    print(table(rows))
    return 0


def shipped(path: Path) -> tuple[str, str, dict[str, Any]]:
    """Name, objective and command, and figures of a bundle, from its model.json."""
    document = json.loads(path.read_text())
    made_by = command(Recipe.model_validate(document["recipe"]))
    return f"{document['name']}@{document['version']}", f"{document['objective']}; `{made_by}`", document["metrics"]


def recorded(path: Path) -> tuple[str, str, dict[str, Any]]:
    """The same of a run, from its metrics.json."""
    document = json.loads(path.read_text())
    recipe = document["recipe"]
    return f"run {recipe['name']}", f"{recipe['objective']}; `{document['command']}`", document["metrics"]


def table(rows: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    """A Markdown table: a row for each name, what made it, and figures; what an older report lacks stays empty."""
    lines = [f"| | objective; made by | {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |"]
    lines.append(f"|---|---|{'---|' * len(COLUMNS)}")
    for name, made_by, metrics in rows:
        cells = [format(metrics[column], style) if column in metrics else "" for column, style in COLUMNS.items()]
        lines.append(f"| {name} | {made_by} | {' | '.join(cells)} |")
    return "\n".join(lines)
