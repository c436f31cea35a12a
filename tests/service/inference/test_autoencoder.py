from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import Fault, InvalidInput, Unknown
from service.inference.autoencoder import SEED_LIMIT, Autoencoder, new_seed, noise
from service.inference.batcher import Batcher
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.inference.job import Job
from service.inference.prior import AggregatePrior, Mixture
from service.inference.walks import Interpolation
from tests.bundles import write_bundle

IMAGES = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (5, 6, 4), np.uint8)


@pytest.fixture
def vae(tmp_path: Path) -> Iterator[Autoencoder]:
    engine = Engine(read_bundle(write_bundle(tmp_path)), provider="cpu", threads=1)
    batcher = Batcher("tiny", max_rows=8, inline_rows=4)
    yield Autoencoder(engine.contract, engine, batcher)
    batcher.close()


def test_encode_gives_the_posterior_and_draws_only_when_asked(vae: Autoencoder) -> None:
    posterior = asyncio.run(vae.encode(IMAGES, Job()))
    assert posterior.mu.shape == posterior.logvar.shape == (5, 3)
    assert posterior.mu.dtype == np.float32
    assert posterior.z is None
    assert posterior.seed is None


def test_a_draw_is_mu_plus_the_standard_deviation_times_seeded_noise(vae: Autoencoder) -> None:
    posterior = asyncio.run(vae.encode(IMAGES, Job(), sample=True, seed=3))
    assert posterior.seed == 3
    assert posterior.z is not None
    assert posterior.z.dtype == np.float32
    expected = posterior.mu + np.exp(0.5 * posterior.logvar.astype(float)) * noise((5, 3), 3)
    np.testing.assert_allclose(posterior.z, expected, rtol=1e-5)


def test_draws_follow_the_posterior(vae: Autoencoder) -> None:
    """20,000 draws for one image have its mean and standard deviation, within five standard errors."""
    posterior = asyncio.run(vae.encode(np.repeat(IMAGES[:1], 20_000, axis=0), Job(), sample=True, seed=0))
    assert posterior.z is not None
    std = np.exp(posterior.logvar[0] / 2)
    assert (np.abs(posterior.z.mean(axis=0) - posterior.mu[0]) < 5 * std / np.sqrt(20_000)).all()
    assert (np.abs(posterior.z.std(axis=0) / std - 1) < 5 / np.sqrt(2 * 20_000)).all()


def test_reconstruct_decodes_mu_and_measures_the_error_on_unit_pixels(vae: Autoencoder) -> None:
    result = asyncio.run(vae.reconstruct(IMAGES, Job()))
    decoded = asyncio.run(vae.decode(result.posterior.mu, Job()))
    np.testing.assert_array_equal(result.images, decoded)
    expected = ((IMAGES / 255 - decoded / 255) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(result.mse, expected, rtol=1e-5)


def test_reconstruct_with_sample_decodes_the_draw(vae: Autoencoder) -> None:
    result = asyncio.run(vae.reconstruct(IMAGES, Job(), sample=True, seed=9))
    assert result.posterior.z is not None
    np.testing.assert_array_equal(result.images, asyncio.run(vae.decode(result.posterior.z, Job())))


def test_samples_with_the_same_seed_are_equal_and_a_longer_one_starts_the_same(vae: Autoencoder) -> None:
    short = asyncio.run(vae.sample(4, Job(), seed=1))
    long = asyncio.run(vae.sample(9, Job(), seed=1))
    other = asyncio.run(vae.sample(4, Job(), seed=2))
    assert short.images.tobytes() == long.images[:4].tobytes()
    assert not np.array_equal(short.z, other.z)


def test_a_sample_without_a_seed_returns_the_one_it_used(vae: Autoencoder) -> None:
    first = asyncio.run(vae.sample(4, Job()))
    again = asyncio.run(vae.sample(4, Job(), seed=first.seed))
    assert first.images.tobytes() == again.images.tobytes()
    assert first.prior == "normal"


def test_temperature_scales_the_prior(vae: Autoencoder) -> None:
    warm = asyncio.run(vae.sample(4, Job(), seed=1, temperature=2.0))
    np.testing.assert_array_equal(warm.z, 2 * asyncio.run(vae.sample(4, Job(), seed=1)).z)
    assert not asyncio.run(vae.sample(4, Job(), seed=1, temperature=0)).z.any()


def test_a_missing_prior_or_label_is_unknown(vae: Autoencoder) -> None:
    with pytest.raises(Unknown, match="tiny@1 has no aggregate prior"):
        asyncio.run(vae.sample(1, Job(), prior="aggregate"))
    with pytest.raises(Unknown, match="tiny@1 has no aggregate prior for label 7"):
        asyncio.run(vae.sample(1, Job(), label=7))


@pytest.fixture
def fitted(tmp_path: Path) -> Iterator[Autoencoder]:
    """A model with a prior. Its Gaussians have their means at 10 and 20 (label 1), and at 30 and 40 (label 4)."""
    bundle = read_bundle(write_bundle(tmp_path, "fitted", prior=True))
    batcher = Batcher("fitted", max_rows=8, inline_rows=4)
    yield Autoencoder(bundle.contract, Engine(bundle, provider="cpu", threads=1), batcher, bundle.prior)
    batcher.close()


class TestAggregatePrior:
    def test_it_is_the_default_where_there_is_one(self, fitted: Autoencoder) -> None:
        assert (fitted.priors, fitted.labels) == (["normal", "aggregate"], [1, 4])
        default = asyncio.run(fitted.sample(50, Job(), seed=1))
        asked = asyncio.run(fitted.sample(50, Job(), seed=1, prior="aggregate"))
        assert default.prior == "aggregate"
        np.testing.assert_array_equal(default.z, asked.z)
        assert default.z.dtype == np.float32
        assert default.z.min() > 5

    def test_the_normal_prior_can_be_chosen(self, fitted: Autoencoder, vae: Autoencoder) -> None:
        normal = asyncio.run(fitted.sample(4, Job(), seed=1, prior="normal"))
        assert normal.prior == "normal"
        np.testing.assert_array_equal(normal.z, noise((4, 3), 1))

    def test_a_label_draws_from_its_own_gaussians(self, fitted: Autoencoder) -> None:
        for label, means in ((1, {10, 20}), (4, {30, 40})):
            sample = asyncio.run(fitted.sample(200, Job(), seed=3, label=label))
            assert set((sample.z / 10).round().mean(axis=1).astype(int) * 10) == means
            assert sample.prior == "aggregate"

    def test_a_longer_sample_starts_like_a_shorter_one(self, fitted: Autoencoder) -> None:
        for label in (None, 4):
            short = asyncio.run(fitted.sample(4, Job(), seed=1, label=label))
            long = asyncio.run(fitted.sample(9, Job(), seed=1, label=label))
            assert short.z.tobytes() == long.z[:4].tobytes()
            assert short.images.tobytes() == long.images[:4].tobytes()
            assert short.z.tobytes() != asyncio.run(fitted.sample(4, Job(), seed=2, label=label)).z.tobytes()

    def test_temperature_scales_the_distance_from_the_mean_of_the_gaussian(self, fitted: Autoencoder) -> None:
        cold, warm, hot = (
            asyncio.run(fitted.sample(20, Job(), seed=1, temperature=each)).z for each in (0.0, 1.0, 2.0)
        )
        assert set(cold.flatten().tolist()) <= {10, 20, 30, 40}
        np.testing.assert_allclose(hot - cold, 2 * (warm - cold), atol=1e-5)

    def test_a_missing_label_is_unknown(self, fitted: Autoencoder) -> None:
        with pytest.raises(Unknown, match="fitted@1 has no aggregate prior for label 7"):
            asyncio.run(fitted.sample(1, Job(), label=7))
        with pytest.raises(Unknown, match="fitted@1 has no normal prior for label 1"):
            asyncio.run(fitted.sample(1, Job(), label=1, prior="normal"))


class TestBusiest:
    """The order of the latents by how much they differ from image to image."""

    def test_the_latent_with_the_largest_variance_comes_first(self, tmp_path: Path) -> None:
        engine = Engine(read_bundle(write_bundle(tmp_path)), provider="cpu", threads=1)
        mean, cholesky = np.zeros((1, 3), np.float32), np.diag(np.array([1, 3, 2], np.float32))
        prior = AggregatePrior(Mixture(np.ones(1, np.float32), mean, cholesky[None]), {})
        batcher = Batcher("tiny", max_rows=8, inline_rows=4)
        assert Autoencoder(engine.contract, engine, batcher, prior).busiest == [1, 2, 0]
        batcher.close()

    def test_a_bundle_without_a_prior_does_not_say(self, vae: Autoencoder) -> None:
        with pytest.raises(Unknown, match="tiny@1 has no figures"):
            _ = vae.busiest


def test_latents_that_are_not_finite_are_named(vae: Autoencoder) -> None:
    z = np.zeros((4, 3), np.float32)
    z[1, 0], z[3, 2] = np.nan, np.inf
    z[2] = [1e6, -1e6, 0]
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(vae.decode(z, Job()))
    assert [fault.path for fault in caught.value.faults] == [("z", 1), ("z", 3)]


def test_a_new_seed_can_be_sent_back_by_any_client() -> None:
    seeds = {new_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < SEED_LIMIT for seed in seeds)


class TestOverflow:
    """A decoder that cannot take some latents."""

    @pytest.fixture
    def strict(self, vae: Autoencoder, monkeypatch: pytest.MonkeyPatch) -> Autoencoder:
        async def refuse(*_: object) -> None:
            raise InvalidInput([Fault(("z", 2), "too much")])

        for queue in (vae._decode, vae._reconstruct):
            monkeypatch.setattr(queue, "submit", refuse)
        return vae

    @pytest.mark.parametrize("sample", [False, True])
    def test_a_reconstruction_names_the_image(self, strict: Autoencoder, sample: bool) -> None:
        images = np.zeros((3, *strict.contract.image_shape), np.uint8)
        with pytest.raises(InvalidInput) as caught:
            asyncio.run(strict.reconstruct(images, Job(), sample=sample))
        assert [fault.path for fault in caught.value.faults] == [("images", 2)]

    @pytest.mark.parametrize(("steps", "point"), [(2, 2), (3, 1), (4, 0)])
    def test_a_walk_names_the_point_that_it_comes_from(self, strict: Autoencoder, steps: int, point: int) -> None:
        walk = Interpolation(steps, "linear")
        z = walk.place(np.zeros((4, 3), np.float32))
        with pytest.raises(InvalidInput) as caught:
            asyncio.run(strict.decode_walk(z, walk, Job(), given="images"))
        assert caught.value.faults == (Fault(("images", point), "On the walk from it: too much"),)

    def test_a_walk_between_usable_points_may_leave_the_limit(self, vae: Autoencoder) -> None:
        walk = Interpolation(3, "spherical")
        z = walk.place(np.array([[1e6, 1e6, 0], [1e6, -1e6, 0], [0, 0, 1]], np.float32))
        with pytest.raises(InvalidInput) as caught:
            asyncio.run(vae.decode_walk(z, walk, Job(), given="z"))
        assert [fault.path for fault in caught.value.faults] == [("z", 0)]

    def test_a_sample_names_the_temperature(self, strict: Autoencoder) -> None:
        with pytest.raises(InvalidInput) as caught:
            asyncio.run(strict.sample(3, Job(), temperature=100))
        assert [fault.path for fault in caught.value.faults] == [("temperature",)]
