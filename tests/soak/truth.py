"""What the service must answer, computed beforehand with the engine alone: no server, no batches, no threads."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from harness.digits import base64_png, decoded, digits, encoded
from harness.paths import MODELS
from service.contract import GOLDEN_TOLERANCE, GREY_LEVEL_TOLERANCE
from service.images.codec import npy_bytes
from service.inference.autoencoder import noise, squared_error
from service.inference.bundle import read_bundle
from service.inference.engine import Engine
from service.inference.walks import Interpolation

BUNDLE: Final = MODELS / "mnist-mlp" / "1"


@dataclass(frozen=True)
class Question:
    """One request, and whether an answer (status, body) to it is right; `images` is how many it holds."""

    path: str
    content_type: str
    body: bytes
    right: Callable[[int, bytes], bool]
    images: int
    good: bool = True


class Truth:
    """Every digit's latents and reconstruction, each computed alone, on the CPU.

    A CPU has to give the same, bit for bit. A GPU computes sums in another order.
    """

    def __init__(self, *, exact: bool = True) -> None:
        self._off, self._levels = (0.0, 0) if exact else (GOLDEN_TOLERANCE, GREY_LEVEL_TOLERANCE)
        engine = Engine(read_bundle(BUNDLE), provider="cpu", threads=1)
        self._engine = engine
        self.digits = digits()
        self.texts = [base64_png(digit) for digit in self.digits]
        alone = [engine.encode(digit[None]) for digit in self.digits]
        self.mu = np.concatenate([mu for mu, _ in alone])
        self.logvar = np.concatenate([logvar for _, logvar in alone])
        self.decoded = np.concatenate([engine.decode(mu) for mu, _ in alone])
        self.mse = squared_error(self.decoded, self.digits)

    def ask(self, draw: random.Random, most: int) -> Question:
        """A good request of 1 to `most` images, small ones more often; one in a hundred is a bad one."""
        if draw.random() < 0.01:
            return self._bad(draw)
        count = round(most ** draw.random())
        which = [draw.randrange(len(self.digits)) for _ in range(count)]
        return draw.choice(
            (self._encode_json, self._encode_npy, self._reconstruct, self._decode, self._sample, self._walk)
        )(which, draw)

    def _encode_json(self, which: list[int], _: random.Random) -> Question:
        def right(status: int, body: bytes) -> bool:
            answer = json.loads(body)
            return (
                status == 200
                and same(answer["mu"], self.mu[which], self._off)
                and same(answer["logvar"], self.logvar[which], self._off)
            )

        return Question("/encode", "application/json", self._pictures(which), right, len(which))

    def _encode_npy(self, which: list[int], _: random.Random) -> Question:
        def right(status: int, body: bytes) -> bool:
            answer = json.loads(body)
            return (
                status == 200
                and same(answer["mu"], self.mu[which], self._off)
                and same(answer["logvar"], self.logvar[which], self._off)
            )

        return Question("/encode", "application/x-npy", npy_bytes(self.digits[which]), right, len(which))

    def _encoded(self, answer: dict[str, Any], which: list[int]) -> bool:
        mu, logvar = (
            same(answer["mu"], self.mu[which], self._off),
            same(answer["logvar"], self.logvar[which], self._off),
        )
        return mu and logvar

    def _reconstruct(self, which: list[int], _: random.Random) -> Question:
        def right(status: int, body: bytes) -> bool:
            answer = json.loads(body)
            return (
                status == 200
                and same(answer["mu"], self.mu[which], self._off)
                and same(answer["mse"], self.mse[which], self._off)
                and images(answer, self.decoded[which], self._levels)
            )

        return Question("/reconstruct", "application/json", self._pictures(which), right, len(which))

    def _decode(self, which: list[int], _: random.Random) -> Question:
        def right(status: int, body: bytes) -> bool:
            return status == 200 and images(json.loads(body), self.decoded[which], self._levels)

        body = json.dumps({"z": self.mu[which].tolist()}).encode()
        return Question("/decode", "application/json", body, right, len(which))

    def _sample(self, which: list[int], draw: random.Random) -> Question:
        count, seed = len(which), draw.randrange(2**53)
        z = noise((count, self.mu.shape[1]), seed)

        def right(status: int, body: bytes) -> bool:
            answer = json.loads(body)
            return (
                status == 200
                and same(answer["z"], z, self._off)
                and images(answer, self._engine.decode(z), self._levels)
            )

        body = json.dumps({"n": count, "seed": seed, "prior": "normal"}).encode()
        return Question("/sample", "application/json", body, right, count)

    def _walk(self, which: list[int], draw: random.Random) -> Question:
        ends, steps = (which * 2)[:2], max(2, len(which))
        walk = Interpolation(steps, "linear" if draw.random() < 0.5 else "spherical")

        def right(status: int, body: bytes) -> bool:
            answer = json.loads(body)
            z = walk.place(self.mu[ends])
            return (
                status == 200
                and same(answer["z"], z, self._off)
                and images(answer, self._engine.decode(z), self._levels)
            )

        pictures = {"images": [self.texts[number] for number in ends], "preprocess": "none"}
        body = json.dumps(pictures | {"steps": steps, "path": walk.path}).encode()
        return Question("/interpolate", "application/json", body, right, steps)

    def _bad(self, draw: random.Random) -> Question:
        picture = encoded(self.digits[0])
        cut = picture[: draw.randrange(len(picture) - 40)]  # some pixels are missing, not only checksums
        bodies: tuple[tuple[str, str, bytes, int], ...] = (
            ("/encode", "application/json", b'{"images": [', 400),
            ("/encode", "application/json", json.dumps({"images": [self.texts[0], "!"]}).encode(), 422),
            ("/encode", "application/json", json.dumps({"images": [base64.b64encode(cut).decode()]}).encode(), 422),
            ("/reconstruct", "image/png", cut, 422),
            ("/encode", "application/x-npy", npy_bytes(np.zeros((3, 28, 28), np.float64)), 422),
            ("/encode", "text/plain", b"digits, please", 415),
            ("/sample", "application/json", b'{"n": 1000000}', 413),
            ("/sample", "application/json", b'{"model": "nobody"}', 404),
            ("/decode", "application/json", b'{"z": [[1, 2, 3]]}', 422),
            ("/traverse", "application/json", b'{"z": [[1, 2, 3]]}', 422),
        )
        path, content_type, body, wanted = draw.choice(bodies)
        return Question(path, content_type, body, lambda status, _: status == wanted, 0, good=False)

    def _pictures(self, which: list[int]) -> bytes:
        return json.dumps({"images": [self.texts[number] for number in which], "preprocess": "none"}).encode()


def same(numbers: Any, truth: Any, off: float = 0.0) -> bool:
    """Whether numbers from JSON are these float32 ones: bit for bit, or off by at most so much."""
    return bool((np.abs(np.array(numbers, np.float32) - truth) <= off).all())


def images(answer: dict[str, Any], truth: Any, levels: int = 0) -> bool:
    """Whether the answer's pictures are these: pixel for pixel, or off by at most so many grey levels."""
    found = np.stack([decoded(picture) for picture in answer["images"]])
    return bool((np.abs(found.astype(np.int16) - truth) <= levels).all())
