from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training import classifier, data
from training.classifier import JUDGES, Classifier, JudgeRecipe, judges_of
from training.data import Sets

from . import subset


@pytest.fixture(scope="module")
def sets() -> Sets:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(data.DATASETS, "mnist", subset.SUBSET)
        return data.load_both("mnist", subset.DIRECTORY)


def test_both_committed_judges_know_digits(sets: Sets) -> None:
    judges = judges_of("mnist", sets.train_images, sets.train_labels)
    assert list(judges) == ["", "second_"]
    for judge in judges.values():
        assert judge.accuracy(sets.test_images.numpy(), sets.test_labels.numpy()) >= 0.98
        features, labels = judge.classify(sets.test_images.numpy())
        assert features.dtype == np.float32
        assert features.shape == (200, classifier.FEATURES)
        assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert len({judge.sha256 for judge in judges.values()}) == 2
    assert classifier.hashes(judges)["second_classifier"] == f"sha256:{judges['second_'].sha256}"


def test_judges_of_unknown_pictures_are_trained_alike_every_time(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "LEAST_STEPS", 24)
    before = torch.get_rng_state()
    one, other = (judges_of("folder:digits", sets.train_images[:240], sets.train_labels[:240]) for _ in range(2))
    assert classifier.hashes(one) == classifier.hashes(other)
    assert torch.equal(torch.get_rng_state(), before)
    for judge in one.values():
        assert judge.accuracy(sets.test_images.numpy(), sets.test_labels.numpy()) > 0.15  # a tenth by chance


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: judge.name)
def test_colour_pictures_of_any_size_are_classified(judge: JudgeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "LEAST_STEPS", 1)
    images = torch.randint(0, 256, (20, 9, 14, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    trained = Classifier(classifier.train(images, torch.arange(20) % 2, judge))
    assert trained.classify(images.numpy())[0].shape == (20, classifier.FEATURES)


def test_the_command_writes_the_judge_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier, "CLASSIFIERS", tmp_path)
    monkeypatch.setattr(classifier, "LEAST_STEPS", 1)
    monkeypatch.setattr(classifier, "EPOCHS", 1)
    assert classifier.main(["mnist", "--judge=second", f"--data-dir={subset.DIRECTORY}"]) == 0
    (written,) = tmp_path.iterdir()
    assert written.name == "mnist-second.onnx"
    assert capsys.readouterr().out.endswith(f"SHA-256 {Classifier(written.read_bytes()).sha256}\n")
