"""Scores of images: the terms of the objective, typicality, and the importance-weighted log-likelihood.

A request without draws is one run of both graphs, which it shares with others. With draws, the latents of all its
images are a second run, of the decoder, that reduces each mean image to a number before the next batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from service.contract import Contract, Z
from service.errors import Fault, InvalidInput
from service.inference.batcher import Arrays, Batcher
from service.inference.engine import Floats, Images
from service.inference.job import Job
from service.inference.objective import log_likelihoods, rates, squared_errors
from service.inference.pace import Paces
from service.inference.statistics import Statistics

# Up to so many draws are prepared on the event loop; more take longer than a hop to a thread and back.
_INLINE_DRAWS: Final = 64

Result = TypeVar("Result")


@dataclass(slots=True)
class Score:
    """The score of N images, float32 [N] each. `elbo` is -(distortion + rate).

    `distortion` is of the image decoded from mu, or with draws the mean over them; then there are also
    `log_likelihood`, and the `seed` of the draws. `rate` is in nats, and so is the rest, as far as
    `Objective.distortions` says. `typicality` is in 0 to 1, and always that of mu.
    """

    distortion: Floats
    rate: Floats
    elbo: Floats
    typicality: Floats
    log_likelihood: Floats | None = None
    seed: int | None = None


class ScoredGraphs(Protocol):
    """What scoring needs from an engine."""

    def encode(self, images: Images) -> tuple[Floats, Floats]: ...  # noqa: D102
    def decode_means(self, z: Floats) -> tuple[Images, Floats]: ...  # noqa: D102


class Scorer:
    """Scores images by one model and the statistics of its bundle."""

    def __init__(
        self, contract: Contract, engine: ScoredGraphs, batcher: Batcher, statistics: Statistics, paces: Paces
    ) -> None:
        self._executor = batcher.executor
        objective = statistics.objective
        draw = [(Z, np.float32, (contract.latent_dim,)), ("image", np.uint8, contract.image_shape)]
        self._draw = np.dtype(draw)  # a latent with the image that it is a draw for

        def score(images: Images) -> Arrays:
            mu, logvar = engine.encode(images)
            _, x_hat = engine.decode_means(mu)
            squares, rate = squared_errors(x_hat, images), rates(mu, logvar)
            return mu, logvar, objective.distortions(x_hat, images), rate, statistics.typicality(mu, squares, rate)

        def distortions(rows: Any) -> Arrays:
            _, x_hat = engine.decode_means(np.ascontiguousarray(rows[Z]))
            return (objective.distortions(x_hat, rows["image"]),)

        self._score = batcher.queue("score", score, paces.encode + paces.decode + paces.typicality)
        self._distortions = batcher.queue("score_draws", distortions, paces.decode)

    async def score(self, images: Images, job: Job, k: int | None, noise: Callable[[tuple[int, ...]], Floats]) -> Score:
        """The score of images, uint8 [N, *image_shape], with `k` draws from each posterior, or without any.

        `noise` gives standard normal noise, float32, of a shape; it is called for [N, k, latent_dim]. Raises
        RuntimeFailed, and InvalidInput for images with latents that the decoder cannot take, or terms that are not
        finite.
        """
        with _faults_of_images(1):
            mu, logvar, distortion, rate, typicality = await self._score.submit(images, job)
        score = _checked(Score(distortion, rate, -(distortion + rate), typicality))
        if k is None:
            return score

        def draw() -> tuple[Floats, Floats, Any]:
            eps = noise((len(images), k, mu.shape[1]))
            z = mu[:, np.newaxis] + np.exp(logvar / np.float32(2))[:, np.newaxis] * eps
            rows = np.empty(len(images) * k, self._draw)
            rows[Z] = z.reshape(len(rows), -1)
            rows["image"] = np.repeat(images, k, axis=0)
            return eps, z, rows

        eps, z, rows = await self._aside(job, len(images) * k, draw)
        with _faults_of_images(k):
            (flat,) = await self._distortions.submit(rows, job)
        distortions = flat.reshape(len(images), k)
        log_likelihood = await self._aside(job, len(rows), lambda: log_likelihoods(distortions, logvar, eps, z))
        distortion = distortions.mean(axis=1)
        return _checked(Score(distortion, rate, -(distortion + rate), typicality, log_likelihood))

    async def _aside(self, job: Job, draws: int, work: Callable[[], Result]) -> Result:
        """What `work` gives, in the thread of the engine if there are many draws."""
        if draws <= _INLINE_DRAWS:
            return work()
        began = time.perf_counter()
        result = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        job.compute += time.perf_counter() - began
        return result


@contextmanager
def _faults_of_images(draws: int) -> Iterator[None]:
    """Faults of latents, of which each image has so many, become faults of their images."""
    try:
        yield
    except InvalidInput as error:
        reasons = {int(fault.path[1]) // draws: fault.reason for fault in error.faults}
        raise InvalidInput([Fault(("images", image), reason) for image, reason in reasons.items()]) from error


def _checked(score: Score) -> Score:
    """The same. Raises InvalidInput with one fault for each image whose terms are not finite."""
    finite = np.isfinite(score.elbo) & np.isfinite(score.typicality)
    if score.log_likelihood is not None:
        finite &= np.isfinite(score.log_likelihood)
    if not finite.all():
        reason = "The terms of the model's objective are not finite for it."
        raise InvalidInput([Fault(("images", int(row)), reason) for row in np.flatnonzero(~finite)])
    return score
