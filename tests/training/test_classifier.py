from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training import classifier, data
from training.classifier import Classifier, classifier_of, frechet_distance
from training.data import Sets

from . import subset


@pytest.fixture(scope="module")
def sets() -> Sets:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, "mnist", subset.SUBSET)
        return data.load_both("mnist", subset.DIRECTORY)


def test_the_committed_classifier_knows_digits(sets: Sets) -> None:
    committed = classifier_of("mnist", sets.train_images, sets.train_labels)
    assert committed.accuracy(sets.test_images.numpy(), sets.test_labels.numpy()) >= 0.98
    features, labels = committed.classify(sets.test_images.numpy())
    assert features.dtype == np.float32
    assert features.shape == (200, classifier.FEATURES)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_a_classifier_of_unknown_pictures_is_trained_alike_every_time(
    sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "LEAST_STEPS", 120)
    before = torch.get_rng_state()
    one, other = (classifier_of("folder:digits", sets.train_images, sets.train_labels) for _ in range(2))
    assert one.sha256 == other.sha256
    assert torch.equal(torch.get_rng_state(), before)
    assert one.accuracy(sets.test_images.numpy(), sets.test_labels.numpy()) > 0.5


def test_colour_pictures_of_any_size_are_classified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "LEAST_STEPS", 1)
    images = torch.randint(0, 256, (20, 9, 14, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    trained = Classifier(classifier.train(images, torch.arange(20) % 2))
    assert trained.classify(images.numpy())[0].shape == (20, classifier.FEATURES)


class TestFrechetDistance:
    def test_it_is_nothing_between_equal_sets(self) -> None:
        features = np.random.Generator(np.random.PCG64(0)).standard_normal((500, 6))
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)

    def test_of_a_move_and_a_stretch_it_is_what_the_formula_gives(self) -> None:
        """|m1 - m2|^2 + sum (s1 - s2)^2 of axes that covary alike (Dowson & Landau 1982)."""
        features = np.random.Generator(np.random.PCG64(0)).standard_normal((500, 2))
        features -= features.mean(0)
        features /= np.sqrt(np.linalg.eigvalsh(np.cov(features.T))).mean()
        stretched = 3 * features + [1, 2]
        variances = np.linalg.eigvalsh(np.cov(features.T))
        assert frechet_distance(features, stretched) == pytest.approx(5 + 4 * variances.sum(), rel=1e-9)

    def test_of_one_axis_it_is_that_of_two_bell_curves(self) -> None:
        draw = np.random.Generator(np.random.PCG64(0)).standard_normal
        one, other = 2 * draw((100_000, 2)), 0.5 * draw((100_000, 2)) + 1
        assert frechet_distance(one, other) == pytest.approx(2 * (1 + (2 - 0.5) ** 2), rel=0.02)
        assert math.isclose(frechet_distance(one, other), frechet_distance(other, one), rel_tol=1e-6)
