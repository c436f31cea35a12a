"""What a VAE can do: encode, decode, reconstruct, sample, score. NumPy arrays in and out; no HTTP, no onnxruntime.

All noise is drawn here and passed into the graphs. It comes from NumPy's PCG64 with the request's seed, in the order of
the request's rows. So the same request with the same seed has the same result, whatever else the engine is running.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.contract import LATENT_LIMIT, Contract
from service.errors import Fault, InvalidInput, Unknown
from service.inference.batcher import Batcher
from service.inference.engine import Floats, Images
from service.inference.job import Job
from service.inference.pace import UNBOUNDED, Paces
from service.inference.prior import AggregatePrior, Mixture
from service.inference.scoring import Score, ScoredGraphs, Scorer
from service.inference.statistics import Statistics
from service.inference.walks import Walk

Prior = Literal["normal", "aggregate"]

# Every JSON parser reads integers below 2^53 exactly (RFC 8259, section 6), so clients get seeds back unchanged.
SEED_LIMIT: Final = 2**53


@dataclass(slots=True)
class Posterior:
    """q(z|x) of N images: `mu` and `logvar` (log of the variance), float32 [N, latent_dim].

    If a draw was requested, `z`, float32 [N, latent_dim], is one draw from it with `seed`.
    """

    mu: Floats
    logvar: Floats
    z: Floats | None = None
    seed: int | None = None


@dataclass(slots=True)
class Reconstruction:
    """`images`, uint8 [N, *image_shape], decoded from the posterior's z if one was drawn, otherwise from its mu.

    `mse` float32 [N]: the mean over an image's pixels of the squared difference to the input, pixels on [0, 1].
    """

    images: Images
    posterior: Posterior
    mse: Floats


@dataclass(slots=True)
class Sample:
    """New `images` uint8 [N, *image_shape], the `z` float32 [N, latent_dim] behind them, and how z was drawn."""

    images: Images
    z: Floats
    seed: int
    prior: Prior
    temperature: float


class EncoderDecoder(ScoredGraphs, Protocol):
    """What an autoencoder needs from an engine. Tests use a fake one."""

    def decode(self, z: Floats) -> Images: ...  # noqa: D102


class Autoencoder:
    """One model, with its operations."""

    def __init__(
        self,
        contract: Contract,
        engine: EncoderDecoder,
        batcher: Batcher,
        prior: AggregatePrior | None = None,
        statistics: Statistics | None = None,
        paces: Paces = UNBOUNDED,
    ) -> None:
        self.contract = contract
        self.id = contract.id  # stored: each request reads it
        # The most bytes that one image takes from being read to its answer: arrays of bytes and of floats, the error of
        # its reconstruction, files, base64; and of each latent three numbers as float32 and as text.
        self.cost = 24 * math.prod(contract.image_shape) + 80 * contract.latent_dim
        self._prior = prior
        self.statistics = statistics
        self._scorer = None if statistics is None else Scorer(contract, engine, batcher, statistics, paces)
        self._encode = batcher.queue("encode", engine.encode, paces.encode)
        self._decode = batcher.queue("decode", engine.decode_means, paces.decode)

        def reconstruct(images: Images) -> tuple[Floats, Floats, Images, Floats]:
            mu, logvar = engine.encode(images)
            decoded = engine.decode(mu)
            return mu, logvar, decoded, squared_error(decoded, images)

        # One run of both graphs: it waits once.
        self._reconstruct = batcher.queue("reconstruct", reconstruct, paces.encode + paces.decode)

    @property
    def priors(self) -> list[Prior]:
        """What `sample` can draw from; the last one is the default."""
        return ["normal"] if self._prior is None else ["normal", "aggregate"]

    @property
    def labels(self) -> list[int]:
        """The labels that `sample` can draw, in ascending order."""
        return [] if self._prior is None else sorted(self._prior.by_label)

    @property
    def label_names(self) -> list[str]:
        """The names of these labels, in the same order; nothing where the bundle names none."""
        names = self.contract.label_names
        return [names[label] for label in self.labels] if names else []

    @cached_property
    def busiest(self) -> list[int]:
        """All latents, those first that say most about an image.

        They are in the order of their mean rate over the test set; in a bundle without statistics, of their variance
        over the codes of images, by the aggregate prior. A latent that the decoder does not use has a rate of 0, and
        the same code for every image (Burda et al., Importance Weighted Autoencoders, 2016, "active units"). Raises
        Unknown where the bundle has neither.
        """
        if self.statistics is not None:
            use = self.statistics.rate.astype(np.float64)
        elif self._prior is not None:
            use = self._prior.overall.variance()
        else:
            raise Unknown(f"{self.id} has no figures that say which latents are the busiest; name them in `dims`.")
        found: list[int] = np.argsort(-use, kind="stable").tolist()
        return found

    def label_of(self, name: str) -> int:
        """The label of this name, or whose number this is; raises Unknown where the model has none such."""
        if name in self.contract.label_names:
            return self.contract.label_names.index(name)
        if name.isascii() and name.isdigit():
            return int(name)
        known = ", ".join(self.label_names)
        raise Unknown(f"{self.id} has no label {name!r}; {f'it has {known}' if known else 'its labels have no names'}.")

    async def encode(
        self, images: Images, job: Job, *, sample: bool = False, seed: int | None = None, eps: Floats | None = None
    ) -> Posterior:
        """The posterior of images, uint8 [N, *image_shape]; with `sample`, also a draw from it.

        With `eps`, float32 [N, latent_dim], the draw has that noise, and no seed. Kingma and Welling, Auto-Encoding
        Variational Bayes (2014), section 2.4. Raises RuntimeFailed.
        """
        mu, logvar = await self._encode.submit(images, job)
        if eps is not None:
            return Posterior(mu, logvar, place(mu, logvar, eps))
        if not sample:
            return Posterior(mu, logvar)
        return Posterior(mu, logvar, *draw(mu, logvar, seed))

    async def decode(self, z: Floats, job: Job) -> Images:
        """The images, uint8 [N, *image_shape], of latents z, float32 [N, latent_dim].

        Raises InvalidInput with one fault for each row of z that is beyond LATENT_LIMIT or that the decoder cannot
        take, and RuntimeFailed.
        """
        return (await self.decode_means(z, job))[0]

    async def decode_means(self, z: Floats, job: Job) -> tuple[Images, Floats]:
        """As `decode`, and also the mean images behind them: x_hat, float32 [N, *image_shape] in [-1, 1]."""
        check_latents(z)
        images, x_hat = await self._decode.submit(z, job)
        return images, x_hat

    async def decode_walk(self, z: Floats, walk: Walk, job: Job, *, given: str) -> Images:
        """The images of a walk's z, as `decode` has them. `given` is the field of the request with the walk's points.

        Raises InvalidInput with one fault for each given point from which the walk goes where the decoder cannot, and
        RuntimeFailed.
        """
        try:
            return await self.decode(z, job)
        except InvalidInput as error:
            faults = {walk.origin(int(fault.path[1])): fault.reason for fault in reversed(error.faults)}
            walked = [Fault((given, point), f"On the walk from it: {why}") for point, why in sorted(faults.items())]
            raise InvalidInput(walked) from error

    async def reconstruct(
        self, images: Images, job: Job, *, sample: bool = False, seed: int | None = None, eps: Floats | None = None
    ) -> Reconstruction:
        """Encode and decode images, uint8 [N, *image_shape]: decode mu, or with `sample` a draw from the posterior.

        With `eps` the draw is as in `encode`. Raises RuntimeFailed, and InvalidInput for images whose latents the
        decoder cannot take.
        """
        try:
            if not sample and eps is None:
                mu, logvar, decoded, mse = await self._reconstruct.submit(images, job)
                return Reconstruction(decoded, Posterior(mu, logvar), mse)
            mu, logvar = await self._encode.submit(images, job)
            z, seed = draw(mu, logvar, seed) if eps is None else (place(mu, logvar, eps), None)
            decoded, _ = await self._decode.submit(z, job)
        except InvalidInput as error:
            raise InvalidInput([Fault(("images", *fault.path[1:]), fault.reason) for fault in error.faults]) from error
        return Reconstruction(decoded, Posterior(mu, logvar, z, seed), squared_error(decoded, images))

    async def score(self, images: Images, job: Job, *, k: int | None = None, seed: int | None = None) -> Score:
        """How well the model explains images, uint8 [N, *image_shape], and how typical they are of its test set.

        With `k` also the importance-weighted log-likelihood, of k draws from each posterior (Burda et al., Importance
        Weighted Autoencoders, 2016, equation 8). Raises Unknown when the bundle has no statistics, RuntimeFailed, and
        InvalidInput for images whose latents the decoder cannot take.
        """
        if self._scorer is None:
            raise Unknown(f"{self.id} cannot score images: its bundle has no statistics of a test set.")
        if k is None:
            return await self._scorer.score(images, job, None, partial(noise, seed=0))
        seed = new_seed() if seed is None else seed
        score = await self._scorer.score(images, job, k, partial(noise, seed=seed))
        score.seed = seed
        return score

    async def sample(
        self,
        n: int,
        job: Job,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        prior: Prior | None = None,
        label: int | str | None = None,
    ) -> Sample:
        """Decode `n` draws from a prior: N(0, I), or the bundle's mixture of Gaussians, for all images or one label.

        The default is the aggregate prior if the bundle has one, otherwise N(0, I). `temperature`, by default the
        bundle's, scales the distance of a draw from its mean: the mean of N(0, I), or of the mixture's Gaussian. With
        the same seed, the first rows of a longer sample equal those of a shorter one. `label` is a label's number or
        its name. Raises Unknown for a prior or a label that the model does not have, InvalidInput when the draws are
        too far out for the decoder, and RuntimeFailed.
        """
        if isinstance(label, str):
            label = self.label_of(label)
        if prior is None:
            prior = "normal" if self._prior is None and label is None else "aggregate"
        if temperature is None:
            temperature = self.contract.temperature
        seed = new_seed() if seed is None else seed
        eps = noise((n, self.contract.latent_dim), seed)
        if prior == "normal" and label is None:
            z = eps * np.float32(temperature)
        else:
            z = self._mixture(prior, label).place(choices(n, seed), eps, temperature)
        try:
            images = await self.decode(z, job)
        except InvalidInput as error:
            reason = "The model's decoder gives values that are not finite so far from the prior's mean."
            raise InvalidInput([Fault(("temperature",), reason)]) from error
        return Sample(images, z, seed, prior, temperature)

    def _mixture(self, prior: Prior, label: int | None) -> Mixture:
        """The mixture for this prior and label. Raises Unknown if the bundle does not have it."""
        if prior == "aggregate" and self._prior is not None:
            if label is None:
                return self._prior.overall
            if label in self._prior.by_label:
                return self._prior.by_label[label]
        raise Unknown(f"{self.contract.id} has no {prior} prior{'' if label is None else f' for label {label}'}.")


def check_latents(z: Floats) -> None:
    """Raise InvalidInput with one fault for each row of z, float32 [N, latent_dim], that is beyond LATENT_LIMIT."""
    usable = (np.abs(z) <= LATENT_LIMIT).all(axis=1)  # NaN is not
    if not usable.all():
        reason = f"Not all values are between -{LATENT_LIMIT:.0f} and {LATENT_LIMIT:.0f}."
        raise InvalidInput([Fault(("z", int(row)), reason) for row in np.flatnonzero(~usable)])


def draw(mu: Floats, logvar: Floats, seed: int | None) -> tuple[Floats, int]:
    """One draw for each row, z = mu + exp(logvar / 2) eps, float32 [N, latent_dim], and the seed of eps."""
    seed = new_seed() if seed is None else seed
    return place(mu, logvar, noise(mu.shape, seed)), seed


def place(mu: Floats, logvar: Floats, eps: Floats) -> Floats:
    """The draw with the noise eps, float32 [N, latent_dim]: z = mu + exp(logvar / 2) eps."""
    z: Floats = (mu + np.exp(logvar / np.float32(2)) * eps).astype(np.float32, copy=False)
    return z


def squared_error(decoded: Images, images: Images) -> Floats:
    """The mean squared difference over the pixels of each image, with pixels scaled to [0, 1]: float32 [N]."""
    difference = (decoded.astype(np.float32) - images) / np.float32(255)
    mse: Floats = np.square(difference).reshape(len(images), -1).mean(axis=1)
    return mse


def new_seed() -> int:
    """A random seed in 0..2^53 - 1."""
    return secrets.randbelow(SEED_LIMIT)


def noise(shape: tuple[int, ...], seed: int) -> Floats:
    """Standard normal noise, float32, from PCG64 seeded with `seed` alone."""
    return Noise(seed).draw(shape)


class Noise:
    """The noise of a seed, piece by piece: together the pieces are what `noise` gives at once."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def draw(self, shape: tuple[int, ...]) -> Floats:
        """The next piece, float32."""
        return self._generator.standard_normal(shape, np.float32)


def choices(n: int, seed: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), float64 [n], from a stream of PCG64 that does not overlap with that of `noise`."""
    return np.random.Generator(np.random.PCG64(seed).jumped()).random(n)
