from __future__ import annotations

import hashlib
import io
import json
import re

import numpy as np
from PIL import Image

from service.contract import CARD_FILE, Contract
from training import card, card_text, commands, pictures
from training.classifier import JUDGES
from training.figures import PREFIXES
from training.recipe import Recipe

from .conftest import Run


def bundle(run: Run) -> Contract:
    return Contract.from_json((run.bundle / "model.json").read_bytes())


def test_the_card_has_the_numbers_of_model_json(finished: Run) -> None:
    contract = bundle(finished)
    written = (finished.bundle / CARD_FILE).read_text()
    assert written == card_text.text(contract)
    figures = contract.metrics
    row = (
        f"| **mnist-mlp@1** | {figures['distortion']:.2f} | {figures['rate']:.2f} | {figures['total']:.2f} | "
        f"{figures['mse']:.5f} | {figures['psnr']:.2f} | {figures['ssim']:.3f} | {figures['active_units']:.0f} |"
    )
    assert row in written
    assert f"| {figures['linear_total']:.2f} |" in written
    assert "| 67.9 to 76.1 |" in written
    made_by = commands.reproduce(Recipe.model_validate(contract.recipe))
    assert "--epochs 4" in made_by
    assert f"    {made_by}\n" in written


def test_the_card_and_metrics_json_agree_with_model_json(finished: Run) -> None:
    contract = bundle(finished)
    report = json.loads((finished.folder / "metrics.json").read_text())
    assert report["metrics"] == contract.metrics
    assert (report["recipe"], report["tools"], report["git_commit"]) == (
        contract.recipe,
        contract.tools,
        contract.git_commit,
    )


def test_the_notebook_run_stands_beside(finished: Run) -> None:
    report = json.loads((card_text.RECORDED / "mnist-mlp-notebook.json").read_text())
    assert report["recipe"]["name"] == "mnist-mlp-notebook"
    assert f"| {report['metrics']['total']:.2f} |" in (finished.bundle / CARD_FILE).read_text()


def test_pictures_show_pairs_of_rows_and_a_grid(finished: Run) -> None:
    for name, size in (
        (card_text.RECONSTRUCTIONS, (10, 4)),
        (card_text.SAMPLES_NORMAL, (10, 10)),
        (card_text.SAMPLES_AGGREGATE, (10, 10)),
        (card_text.SAMPLES_LABELS, (10, 10)),
        (card_text.TRAVERSALS, (10, 8)),  # a row for each of the 8 latents
    ):
        with Image.open(finished.bundle / name) as picture:
            assert picture.mode == "L"
            assert picture.size == (size[0] * 28 * card.SCALE, size[1] * 28 * card.SCALE)


def test_every_picture_of_the_card_is_in_the_bundle_and_shown(finished: Run) -> None:
    written = (finished.bundle / CARD_FILE).read_text()
    pictured = {path.name for path in finished.bundle.glob("*.png")}
    assert pictured == set(re.findall(r"\]\((.*?\.png)\)", written))
    for name in pictured:
        with Image.open(finished.bundle / name) as picture:
            assert picture.text == {}  # type: ignore[attr-defined]  # not the version of what drew it


def test_the_card_names_both_judges_and_has_the_figures_of_each(finished: Run) -> None:
    contract, written = bundle(finished), (finished.bundle / CARD_FILE).read_text()
    for judge, prefix in zip(JUDGES, PREFIXES, strict=True):
        committed = judge.path("mnist").read_bytes()
        assert f"`{hashlib.sha256(committed).hexdigest()}`" in written
        for figure in ("frechet_aggregate", "frechet_normal", "frechet_floor"):
            assert f"{contract.metrics[prefix + figure]:.3f}" in written
        spread = contract.metrics[f"{prefix}label_accuracy_spread"]
        assert f"**{contract.metrics[f'{prefix}label_accuracy']:.2%}** ({spread:.2%})" in written
        recall, of_training = contract.metrics[f"{prefix}recall"], contract.metrics[f"{prefix}recall_training"]
        assert f" {recall / of_training:.2f} |" in written


def test_what_cannot_be_divided_is_left_empty() -> None:
    assert card_text.ratio({"recall": 0.3, "recall_training": 0.6}, "recall") == "0.50"
    assert card_text.ratio({"recall": 0.0, "recall_training": 0.0}, "recall") == ""
    assert card_text.ratio({}, "recall") == ""


def test_a_traversal_moves_one_latent_a_row_the_busiest_first() -> None:
    codes = np.zeros((100, 3), np.float32)
    codes[:, 1], codes[:, 2] = np.linspace(-1, 1, 100), np.linspace(-2, 2, 100)
    z = card.traversals(codes).reshape(3, 10, 3)
    np.testing.assert_array_equal(z[0, :, 2], card.TRAVERSED)
    np.testing.assert_array_equal(z[1, :, 1], card.TRAVERSED)
    np.testing.assert_array_equal(z[0, :, :2], np.tile(codes[0, :2], (10, 1)))


def test_a_grid_is_filled_row_by_row_in_grey_and_in_colour() -> None:
    tiles = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
    assert pictures.grid(tiles, columns=3).tolist() == [[0, 1, 2], [3, 4, 5]]
    colours = np.repeat(tiles[..., None], 3, axis=3)
    assert pictures.grid(colours, columns=3).shape == (2, 3, 3)
    assert pictures.beside(tiles[:2], tiles[2:4]).tolist() == [[0, 2], [1, 3]]
    assert pictures.above(tiles[:2], tiles[2:4], columns=2).tolist() == [[0, 1], [2, 3]]


def test_a_png_is_the_picture_enlarged() -> None:
    picture = np.array([[0, 255]], np.uint8)
    with Image.open(io.BytesIO(pictures.png(picture, scale=2))) as read:
        assert np.asarray(read).tolist() == [[0, 0, 255, 255], [0, 0, 255, 255]]
