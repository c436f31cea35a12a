from __future__ import annotations

import json

import numpy as np
import pytest

from service import contract
from training import data, samples
from training.classifier import Judges, judges_of
from training.data import Sets
from training.fidelity import Manifold, frechet_distance
from training.figures import PREFIXES
from training.graphs import Graphs
from training.prior import Prior
from training.sampler import Sampler

from . import subset
from .conftest import Run


@pytest.fixture
def sets() -> Sets:
    return data.load_both("mnist", subset.DIRECTORY)


@pytest.fixture
def graphs(finished: Run) -> Graphs:
    return Graphs(*((finished.bundle / name).read_bytes() for name in (contract.ENCODER_FILE, contract.DECODER_FILE)))


@pytest.fixture
def prior(finished: Run) -> Prior:
    return Prior.from_bytes((finished.bundle / contract.PRIOR_FILE).read_bytes())


@pytest.fixture
def judges(sets: Sets) -> Judges:
    return judges_of("mnist", sets.train_images, sets.train_labels)


@pytest.fixture
def sampler(finished: Run, graphs: Graphs, prior: Prior) -> Sampler:
    bundle = contract.Contract.from_json((finished.bundle / contract.CONTRACT_FILE).read_bytes())
    return Sampler(graphs, prior, bundle.sharpness, bundle.temperature)


@pytest.fixture
def figures(finished: Run) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((finished.bundle / contract.CONTRACT_FILE).read_text())["metrics"]
    return metrics


def test_samples_are_of_the_prior_the_label_and_the_seed_that_are_asked_for(graphs: Graphs, prior: Prior) -> None:
    sampler = Sampler(graphs, prior)
    drawn = sampler.images(5, 3)
    np.testing.assert_array_equal(drawn, graphs.images(prior.draw(5, 3)))
    np.testing.assert_array_equal(sampler.images(5, 3, label=7), graphs.images(prior.draw(5, 3, 7)))
    assert (sampler.normal(5, 3) != drawn).any()
    assert (sampler.images(5, 4) != drawn).any()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_each_judge_s_figures_are_means_of_three_draws_and_their_spread(
    prefix: str, sampler: Sampler, sets: Sets, judges: Judges, figures: dict[str, float]
) -> None:
    reference = judges[prefix].classify(sets.test_images.numpy())[0]
    drawn = [judges[prefix].classify(sampler.images(200, seed))[0] for seed in (0, 1, 2)]
    distances = [frechet_distance(each, reference) for each in drawn]
    assert figures[f"{prefix}frechet_aggregate"] == pytest.approx(np.mean(distances), rel=1e-4)
    assert figures[f"{prefix}frechet_aggregate_spread"] == pytest.approx(max(distances) - min(distances), rel=1e-3)
    recalls = [Manifold.of(each).share_of(reference) for each in drawn]
    assert figures[f"{prefix}recall"] == pytest.approx(np.mean(recalls), abs=1e-5)
    precisions = [Manifold.of(reference).share_of(each) for each in drawn]
    assert figures[f"{prefix}precision"] == pytest.approx(np.mean(precisions), abs=1e-5)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_training_images_are_nearer_to_test_images_than_samples_of_a_hasty_model(
    prefix: str, figures: dict[str, float]
) -> None:
    assert figures[f"{prefix}frechet_floor"] < figures[f"{prefix}frechet_aggregate"]
    assert figures[f"{prefix}recall_training"] > figures[f"{prefix}recall"]
    assert figures[f"{prefix}label_accuracy_worst"] <= figures[f"{prefix}label_accuracy"]


def test_training_images_of_the_floor_are_random_and_do_not_repeat(sets: Sets) -> None:
    drawn = [samples.some_training_images(sets, 200, seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    assert len(np.unique(drawn[0].reshape(200, -1), axis=0)) == 200
    assert len(samples.some_training_images(sets, 10_000, seed=0)) == 600
