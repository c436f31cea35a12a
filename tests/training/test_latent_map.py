from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service import contract
from training import data, rewrite
from training.graphs import Graphs
from training.latent_map import MOST_NUMBERS, LatentMap

from . import subset
from .conftest import Run

Doubles = npt.NDArray[np.float64]


def draw(*shape: int) -> Doubles:
    return np.random.Generator(np.random.PCG64(1)).standard_normal(shape)


def read(content: bytes) -> dict[str, Any]:
    """A map as the playground reads it: arrays, and mu in its own units."""
    document = json.loads(content)
    scale = np.array(document[contract.MAP_SCALE])
    codes = np.frombuffer(base64.b64decode(document[contract.MAP_MU]), np.int8).reshape(-1, len(scale))
    return {name: np.array(value) for name, value in document.items()} | {contract.MAP_MU: codes * scale}


def share_between(places: Doubles, labels: npt.NDArray[np.int64]) -> float:
    """The share of the variance of places that is between the labels' means."""
    middles = np.stack([places[labels == label].mean(0) for label in range(int(labels.max()) + 1)])
    return float(middles[labels].var(0).sum() / places.var(0).sum())


def test_an_export_writes_the_codes_of_test_images_with_their_labels(finished: Run) -> None:
    content = (finished.bundle / contract.MAP_FILE).read_bytes()
    found = read(content)
    _, files = rewrite.read(finished.bundle)
    sets = data.load_both("mnist", subset.DIRECTORY)
    graphs = Graphs(files[contract.ENCODER_FILE], files[contract.DECODER_FILE])
    mu, _ = graphs.encode(sets.test_images)
    np.testing.assert_allclose(found[contract.MAP_MU], mu.numpy(), atol=found[contract.MAP_SCALE].max() / 2 + 1e-4)
    assert found[contract.MAP_LABELS].tolist() == sets.test_labels.tolist()
    assert LatentMap.measure(graphs, sets).to_bytes() == content


def test_a_place_stands_for_a_latent_that_is_at_this_place() -> None:
    found = read(LatentMap.of(draw(500, 6) @ draw(6, 6), np.arange(500) % 5).to_bytes())
    np.testing.assert_allclose(found[contract.MAP_PROJECT] @ found[contract.MAP_LIFT].T, np.eye(2), atol=1e-3)


def test_the_plane_tells_labels_apart_that_the_directions_of_most_variance_do_not() -> None:
    labels = np.arange(900) % 3
    mu = draw(900, 5) * [9, 9, 1, 1, 1]
    mu[:, 2:] += 4 * np.eye(3)[labels]
    found = LatentMap.of(mu, labels)
    assert share_between((mu - found.mean) @ found.project.T, labels) > 0.5
    assert share_between(mu[:, :2], labels) < 0.01


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_labels_are_shown_in_the_directions_of_most_variance(count: int) -> None:
    found = LatentMap.of(draw(400, 3) * [1, 9, 4], np.arange(400) % count)
    assert np.abs(found.project).argmax(1).tolist() == [1, 2]


@pytest.mark.parametrize("latents", [1, 2, 700])
def test_any_number_of_latents_has_a_map_of_bounded_size(latents: int) -> None:
    mu = draw(50, latents)
    mu[:, 0] = 1.5  # never varies
    content = LatentMap.of(mu, np.arange(50) % 10).to_bytes()
    found = read(content)
    assert found[contract.MAP_MU].size <= MOST_NUMBERS
    assert len(content) < 150_000
    assert found[contract.MAP_PROJECT].shape == found[contract.MAP_LIFT].shape == (2, latents)
    assert all(np.isfinite(array).all() for array in found.values())
