"""Where training and serving meet: both see the same digit as the same array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.digits import encoded
from harness.paths import DATA
from service import contract
from service.contract import Contract
from service.images import codec
from service.images.preprocess import Preprocess
from service.inference import autoencoder
from service.inference.prior import read_prior
from tests.bundles import write_bundle
from tests.training.subset import SUBSET
from training import data
from training.prior import Prior


@pytest.mark.parametrize("preprocess", ["none", "resize"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_the_services_array_of_a_digits_png_is_the_training_array_of_that_digit(
    monkeypatch: pytest.MonkeyPatch, part: data.Part, preprocess: Preprocess
) -> None:
    monkeypatch.setitem(data.DATASETS, "mnist", SUBSET)
    images, _ = data.load("mnist", part, DATA / "mnist")
    trained_on = images.numpy()
    served = codec.images_from_pictures(
        [encoded(image) for image in trained_on],
        trained_on.shape[1:],
        preprocess=preprocess,
        background=data.DATASETS["mnist"].background,
        max_pixels=trained_on.size,
    )
    np.testing.assert_array_equal(served, trained_on)


@pytest.mark.parametrize("label", [None, 1, 4])
def test_the_samples_that_training_measures_are_those_that_the_service_draws(tmp_path: Path, label: int | None) -> None:
    folder = write_bundle(tmp_path, prior=True)
    content = (folder / contract.PRIOR_FILE).read_bytes()
    served = read_prior("tiny/1", content, Contract.from_json((folder / contract.CONTRACT_FILE).read_bytes()))
    mixture = served.overall if label is None else served.by_label[label]
    z = mixture.place(autoencoder.choices(500, 7), autoencoder.noise((500, 3), 7), 1.0)
    np.testing.assert_array_equal(z, Prior.from_bytes(content).draw(500, 7, label))
