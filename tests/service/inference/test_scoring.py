from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import DeadlineExceeded, Fault, InvalidInput, Unknown
from service.inference.autoencoder import Autoencoder
from service.inference.batcher import Batcher
from service.inference.bundle import read_bundle
from service.inference.engine import Engine, Floats, Images
from service.inference.job import Job
from tests.bundles import write_bundle

IMAGES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (5, 6, 4), np.uint8)


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    batcher = Batcher("tiny", max_rows=8, inline_rows=4)
    yield batcher
    batcher.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    folder = write_bundle(tmp_path, objective="squared-error", statistics=True)
    return Engine(read_bundle(folder), provider="cpu", threads=1)


def scored(tmp_path: Path, engine: Engine, batcher: Batcher) -> Autoencoder:
    bundle = read_bundle(tmp_path / "tiny" / "1")
    return Autoencoder(bundle.contract, engine, batcher, bundle.prior, bundle.statistics)


def test_the_busiest_latents_are_those_of_the_highest_rate(tmp_path: Path, engine: Engine, batcher: Batcher) -> None:
    assert scored(tmp_path, engine, batcher).busiest == [2, 1, 0]


def test_without_statistics_the_busiest_latents_are_those_that_the_prior_varies_most(
    tmp_path: Path, engine: Engine, batcher: Batcher
) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "other", prior=True))
    assert bundle.prior is not None
    z = bundle.prior.overall.place(
        np.random.Generator(np.random.PCG64(0)).random(100_000),
        np.random.Generator(np.random.PCG64(1)).standard_normal((100_000, 3), np.float32),
        1.0,
    )
    np.testing.assert_allclose(bundle.prior.overall.variance(), z.var(axis=0), rtol=0.02)
    order = np.argsort(-bundle.prior.overall.variance()).tolist()
    assert Autoencoder(bundle.contract, engine, batcher, bundle.prior).busiest == order


def test_without_statistics_there_is_no_score(engine: Engine, batcher: Batcher) -> None:
    with pytest.raises(Unknown, match=r"^tiny@1 cannot score images: its bundle has no statistics of a test set\.$"):
        asyncio.run(Autoencoder(engine.contract, engine, batcher).score(IMAGES, Job()))


def test_a_fault_of_a_draw_is_one_of_its_image(
    tmp_path: Path, engine: Engine, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.decode_means

    def decode(z: Floats) -> tuple[Images, Floats]:
        if len(z) > len(IMAGES):  # these are the draws, not mu
            raise InvalidInput([Fault(("z", row), "too far out") for row in (4, 13, 14)])
        return real(z)

    monkeypatch.setattr(engine, "decode_means", decode)
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(scored(tmp_path, engine, batcher).score(IMAGES, Job(), k=3, seed=0))
    assert [fault.path for fault in caught.value.faults] == [("images", 1), ("images", 4)]


def test_terms_that_are_not_finite_are_a_fault_of_their_image(
    tmp_path: Path, engine: Engine, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.encode

    def encode(images: Images) -> tuple[Floats, Floats]:
        mu, logvar = real(images)
        logvar[2] = 200  # its variance is more than float32 has
        return mu, logvar

    monkeypatch.setattr(engine, "encode", encode)
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(scored(tmp_path, engine, batcher).score(IMAGES, Job()))
    assert [fault.path for fault in caught.value.faults] == [("images", 2)]


@pytest.mark.parametrize("k", [None, 2])
def test_after_its_deadline_nothing_is_scored(tmp_path: Path, engine: Engine, batcher: Batcher, k: int | None) -> None:
    job = Job()
    job.deadline = 0.0
    with pytest.raises(DeadlineExceeded):
        asyncio.run(scored(tmp_path, engine, batcher).score(IMAGES, job, k=k))


def test_every_run_is_counted_by_its_kind(tmp_path: Path, engine: Engine) -> None:
    runs: list[tuple[str, int]] = []
    batcher = Batcher("tiny", max_rows=8, inline_rows=4, count=lambda kind, rows: runs.append((kind, rows)))
    asyncio.run(scored(tmp_path, engine, batcher).score(IMAGES, Job(), k=3, seed=0))
    batcher.close()
    assert runs == [("score", 5), ("score_draws", 15)]
