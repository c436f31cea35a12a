from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service import contract
from training import data, onnx_graph, rewrite, statistics
from training.data import Sets
from training.density import Density
from training.errors import ExportError
from training.graphs import Graphs
from training.prior import Prior
from training.recipe import recorded
from training.statistics import Statistics, Terms

from . import subset
from .conftest import Run


@pytest.fixture
def sets() -> Sets:
    return data.load_both("mnist", subset.DIRECTORY)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_statistics(finished: Run, tmp_path: Path) -> Path:
    """The finished run's bundle, as an export of older code wrote it."""
    folder = Path(shutil.copytree(finished.bundle, tmp_path / "mnist-mlp" / "1"))
    path = folder / contract.CONTRACT_FILE
    document = json.loads(path.read_text())
    for name in (contract.STATISTICS_FILE, contract.MAP_FILE):
        (folder / name).unlink()
        del document["files"][name]
    path.write_text(contract.Contract.from_json(json.dumps(document)).to_json())
    return folder


def parts(bundle: Path) -> tuple[Graphs, Prior, Statistics]:
    _, files = rewrite.read(bundle)
    return (
        Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE]),
        Prior.from_bytes(files[contract.PRIOR_FILE]),
        Statistics.from_bytes(files[contract.STATISTICS_FILE]),
    )


def test_the_figures_of_each_latent_are_those_of_the_test_set(finished: Run, sets: Sets) -> None:
    graphs, _, found = parts(finished.bundle)
    mu, _ = graphs.encode(sets.test_images)
    metrics = json.loads((finished.bundle / contract.CONTRACT_FILE).read_text())["metrics"]
    assert found.rate.sum() == pytest.approx(metrics["rate"], abs=1e-3)
    np.testing.assert_allclose(found.mu_mean, mu.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.mu_std, mu.std(0, correction=0), atol=1e-5)
    assert found.variance == 0.5
    assert {getattr(found, name).dtype for name in contract.STATISTICS_ARRAYS} == {np.dtype(np.float32)}


def test_the_typicality_of_the_test_set_is_uniform(finished: Run, sets: Sets) -> None:
    graphs, prior, found = parts(finished.bundle)
    typicality = np.sort(found.typicality(prior, Terms.of(graphs, sets.test_images)))
    np.testing.assert_allclose(typicality, (np.arange(len(typicality)) + 0.5) / len(typicality), atol=1e-3)


def test_the_typicality_of_images_that_were_held_out_is_uniform_too(finished: Run, sets: Sets) -> None:
    """Measured on one half of the test set, asked for the other. Within the bound of Kolmogorov and Smirnov, 0.1 %."""
    graphs, prior, _ = parts(finished.bundle)
    recipe = recorded(json.loads((finished.bundle / contract.CONTRACT_FILE).read_text())["recipe"], "It")
    half = len(sets.test_images) // 2
    known = Statistics.measure(graphs, recipe, prior, sets.first_of_test(half))
    typicality = np.sort(known.typicality(prior, Terms.of(graphs, sets.test_images[half:])))
    apart = np.abs(typicality - (np.arange(len(typicality)) + 0.5) / len(typicality)).max()
    assert apart < 1.95 * np.sqrt(1 / half + 1 / len(typicality))


def test_equal_statistics_are_equal_bytes_which_read_back(finished: Run) -> None:
    content = (finished.bundle / contract.STATISTICS_FILE).read_bytes()
    assert Statistics.from_bytes(content).to_bytes() == content


def test_a_bundle_that_gets_statistics_in_place_is_what_an_export_writes(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_statistics(finished, tmp_path)
    assert statistics.main([str(folder), f"--data-dir={subset.DIRECTORY}", "--overwrite"]) == 0
    assert contents(folder) == contents(finished.bundle)
    assert capsys.readouterr().out == f"{folder} has statistics.npz and map.json, measured on 200 test images.\n"


def test_a_bundle_that_gets_statistics_as_a_new_version_is_whole(finished: Run, tmp_path: Path, sets: Sets) -> None:
    folder = without_statistics(finished, tmp_path)
    before = contents(folder)
    added = statistics.add(folder, sets)
    assert (added.name, contents(folder)) == ("2", before)
    bundle, files = rewrite.read(added)
    assert bundle.id == "mnist-mlp@2"
    assert bundle.metrics["onnx_bytes"] == len(files[contract.ENCODER_FILE]) + len(files[contract.DECODER_FILE])
    assert files[contract.CARD_FILE].startswith(b"# mnist-mlp@2\n")
    assert b"mnist-mlp@1" not in files[contract.CARD_FILE]
    session = onnx_graph.session(files[contract.ENCODER_FILE])
    assert session.get_modelmeta().custom_metadata_map == contract.graph_metadata(bundle)
    assert files[contract.STATISTICS_FILE] == (finished.bundle / contract.STATISTICS_FILE).read_bytes()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / contract.ENCODER_FILE).write_bytes(b""), "is damaged: encoder.onnx does not have"),
        (lambda folder: (folder / contract.CONTRACT_FILE).unlink(), "is not a bundle: "),
        (lambda folder: (folder / contract.CONTRACT_FILE).write_text("{}"), "is not a bundle: "),
    ],
)
def test_what_is_no_bundle_is_one_sentence(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, sentence: str
) -> None:
    folder = without_statistics(finished, tmp_path)
    damage(folder)  # type: ignore[operator]
    assert statistics.main([str(folder), f"--data-dir={subset.DIRECTORY}", "--overwrite"]) == 1
    assert capsys.readouterr().err.startswith(f"{folder} {sentence}")


def test_a_bundle_without_a_prior_has_to_be_exported_again(finished: Run, tmp_path: Path, sets: Sets) -> None:
    folder = without_statistics(finished, tmp_path)
    path = folder / contract.CONTRACT_FILE
    document = json.loads(path.read_text())
    del document["files"][contract.PRIOR_FILE]
    path.write_text(json.dumps(document))
    with pytest.raises(ExportError, match=r"has no prior\.npz: export its run again\."):
        statistics.add(folder, sets)


def test_each_gaussian_gets_the_terms_of_its_own_images() -> None:
    draw = np.random.Generator(np.random.PCG64(0)).standard_normal
    codes = np.concatenate([draw((500, 2)) - 9, draw((500, 2)) + 9])
    terms = np.concatenate([draw((500, 2)) * [0.1, 0.2] + [1, 2], draw((500, 2)) * [0.3, 0.1] + [4, 3]])
    prior = Prior.fit(codes, np.repeat([0, 1], 500), components=1)
    found = Density.fit(prior, codes.astype(np.float32), terms)
    np.testing.assert_allclose(found.term_means, [[1, 2], [4, 3]], atol=0.1)
    spread = found.term_cholesky @ found.term_cholesky.transpose(0, 2, 1)
    np.testing.assert_allclose(spread[:, [0, 1], [0, 1]], [[0.01, 0.04], [0.09, 0.01]], atol=0.1)
    ordinary, swapped = (found.surprisal(codes.astype(np.float32), each) for each in (terms, terms[::-1]))
    assert ordinary.max() < swapped.min()
