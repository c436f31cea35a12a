"""The work itself without a server: what batches of 256 could cost in one thread, with the fastest stock libraries.

    BENCH_ENCODER=encoder.onnx python -m bench.serving.tight IMAGES SECONDS < BODIES

The same bytes in and the same kind of bytes out as the service has, for "encode JSON", "encode npy" (in and out),
"reconstruct JSON", "score JSON", "interpolate JSON" and "traverse JSON"; the other files of the bundle lie beside the
encoder. Prints one line of JSON: for each job the images per second and the microseconds per image of each stage. Of
walks the images that are made count, and they are as many.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import orjson
import pybase64
from zlib_ng import zlib_ng

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class Stages:
    """Seconds spent in each stage, by its name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


class Work:
    """The two graphs, and the jobs done with them."""

    def __init__(self, encoder: Path) -> None:
        self.encoder, self.decoder = _session(encoder), _session(encoder.with_name("decoder.onnx"))
        self.density = Density(encoder.with_name("prior.npz"), encoder.with_name("statistics.npz"))

    def encode_json(self, body: bytes, stage: Stages) -> bytes:
        """Base64 PNGs in JSON to latents in JSON."""
        images = self._images(body, stage)
        mu, logvar = self._encode(images, stage)
        return _dump({"mu": mu, "logvar": logvar}, stage)

    def encode_npy(self, body: bytes, stage: Stages) -> bytes:
        """An npy array to an npy array."""
        with stage("read npy"):
            images = np.load(io.BytesIO(body), allow_pickle=False)
        mu, logvar = self._encode(images, stage)
        with stage("write npy"):
            stream = io.BytesIO()
            np.save(stream, np.stack((mu, logvar)), allow_pickle=False)
            return stream.getvalue()

    def reconstruct_json(self, body: bytes, stage: Stages) -> bytes:
        """Base64 PNGs in JSON to base64 PNGs, latents and errors in JSON."""
        images = self._images(body, stage)
        mu, logvar = self._encode(images, stage)
        with stage("run decoder"):
            (decoded,) = self.decoder.run(["image"], {"z": mu})
        with stage("squared error"):
            off = (images.astype(np.int16) - decoded).astype(np.float32).reshape(len(images), -1)
            mse = np.einsum("np,np->n", off, off) / np.float32(off.shape[1] * 255.0**2)
        return _dump({"images": self._texts(decoded, stage), "mu": mu, "logvar": logvar, "mse": mse}, stage)

    def interpolate_json(self, body: bytes, stage: Stages) -> bytes:
        """Base64 PNGs in JSON to those on the straight lines between them, with the latents."""
        images = self._images(body, stage)
        mu, _ = self._encode(images, stage)
        with stage("walk"):
            steps = orjson.loads(body)["steps"] - 1
            t = np.arange(steps)[:, None] / steps
            z = np.append(((1 - t) * mu[:-1, None] + t * mu[1:, None]).reshape(-1, mu.shape[1]), mu[-1:], 0)
            z = z.astype(np.float32)
        return self._decoded(mu, z, stage)

    def traverse_json(self, body: bytes, stage: Stages) -> bytes:
        """A base64 PNG in JSON to those with one latent changed, with the latents."""
        images = self._images(body, stage)
        mu, _ = self._encode(images, stage)
        with stage("walk"):
            asked = orjson.loads(body)
            z = np.tile(mu, (len(asked["dims"]), asked["steps"], 1))
            for row, dim in enumerate(asked["dims"]):
                z[row, :, dim] = np.linspace(-3, 3, asked["steps"])
            z = z.reshape(-1, mu.shape[1])
        return self._decoded(mu, z, stage)

    def _decoded(self, mu: Floats, z: Floats, stage: Stages) -> bytes:
        with stage("run decoder"):
            (decoded,) = self.decoder.run(["image"], {"z": z})
        return _dump({"images": self._texts(decoded, stage), "mu": mu, "z": z}, stage)

    def _texts(self, images: Images, stage: Stages) -> list[str]:
        with stage("write PNG"):
            files = png_files(images)
        with stage("base64"):
            return [pybase64.b64encode_as_string(file) for file in files]

    def score_json(self, body: bytes, stage: Stages) -> bytes:
        """Base64 PNGs in JSON to distortion, rate, elbo and typicality in JSON."""
        images = self._images(body, stage)
        mu, logvar = self._encode(images, stage)
        with stage("run decoder"):
            (x_hat,) = self.decoder.run(["x_hat"], {"z": mu})
        with stage("squared error"):
            off = (images * np.float32(2 / 255) - np.float32(1) - x_hat).reshape(len(images), -1)
            distortion = np.einsum("np,np->n", off, off)
        with stage("rate"):
            rate = 0.5 * (mu * mu + np.exp(logvar) - 1 - logvar).sum(1)
        with stage("typicality"):
            typicality = self.density.typicality(mu, np.log1p(np.stack((distortion, rate), 1)))
        fields = {"distortion": distortion, "rate": rate, "elbo": -(distortion + rate), "typicality": typicality}
        return _dump(fields, stage)

    def _images(self, body: bytes, stage: Stages) -> Images:
        with stage("parse JSON"):
            texts = orjson.loads(body)["images"]
        with stage("unbase64"):
            files = [pybase64.b64decode(text, validate=True) for text in texts]
        with stage("read PNG"):
            return np.stack([imagecodecs.spng_decode(file) for file in files])

    def _encode(self, images: Images, stage: Stages) -> tuple[Floats, Floats]:
        with stage("run encoder"):
            mu, logvar = self.encoder.run(["mu", "logvar"], {"image": images})
        return mu, logvar


class Density:
    """What typicality compares with; see `service/inference/statistics.py`.

    Here one product takes a whole batch, so the last bits of a row depend on the rows beside it.
    """

    def __init__(self, prior: Path, statistics: Path) -> None:
        with np.load(prior) as file, np.load(statistics) as other:
            latents = file["means"].shape[-1]
            cholesky = file["cholesky"].reshape(-1, latents, latents).astype(np.float64)
            term_cholesky = other["term_cholesky"].astype(np.float64)
            self.term_means, self.surprisals = other["term_means"], other["surprisals"]
            means, weights = file["means"].reshape(-1, latents, 1), file["shares"][:, None] * file["weights"]
        whiten, term_whiten = np.linalg.inv(cholesky), np.linalg.inv(term_cholesky).astype(np.float32)
        determinants = [np.diagonal(each, axis1=1, axis2=2).prod(1) for each in (cholesky, term_cholesky)]
        self.log_weights = np.log(weights.ravel() / determinants[0] / determinants[1]).astype(np.float32)
        self.whiten = np.ascontiguousarray(whiten.reshape(-1, latents).T, np.float32)
        self.offset = (whiten @ means).ravel().astype(np.float32)
        self.term_whiten = term_whiten[:, 0, 0], term_whiten[:, 1, 0], term_whiten[:, 1, 1]
        excess = self.surprisals - self.surprisals[int(0.9 * len(self.surprisals))]
        self.tail = excess[excess >= 0].mean()

    def typicality(self, mu: Floats, terms: Floats) -> Floats:
        """The typicality of codes [N, L] with terms [N, 2]: [N]. Some rows at a time, which stay in the cache."""
        return np.concatenate(
            [self._typicality(mu[row : row + 32], terms[row : row + 32]) for row in range(0, len(mu), 32)]
        )

    def _typicality(self, mu: Floats, terms: Floats) -> Floats:
        away = (mu @ self.whiten - self.offset).reshape(len(mu), len(self.log_weights), -1)
        first, second = (terms[:, place, None] - self.term_means[:, place] for place in (0, 1))
        of_first, of_both, of_second = self.term_whiten
        distance = np.einsum("nkl,nkl->nk", away, away)
        distance += (of_first * first) ** 2 + (of_both * first + of_second * second) ** 2
        joint = self.log_weights - distance / 2
        largest = joint.max(1)
        surprisal = -np.log(np.exp(joint - largest[:, None]).sum(1)) - largest
        count = len(self.surprisals)
        below = np.interp(surprisal, self.surprisals, (np.arange(count) + 0.5) / count)
        beyond = np.maximum(surprisal - self.surprisals[-1], 0)
        found: Floats = ((1 - below) * np.exp(-beyond / self.tail)).astype(np.float32)
        return found


def png_files(images: Images) -> list[bytes]:
    """Small grey images as PNGs: a header that is the same for all, no filters, and zlib-ng at its fastest level."""
    count, height, width = images.shape
    rows = np.zeros((count, height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, :, 1:] = images
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib_ng.crc32(header))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib_ng.crc32(b"IEND"))
    word, raw, size = struct.Struct(">I").pack, rows.tobytes(), rows[0].size
    files = []
    for first in range(0, len(raw), size):
        chunk = b"IDAT" + zlib_ng.compress(raw[first : first + size], 1)
        files.append(b"".join((start, word(len(chunk) - 4), chunk, word(zlib_ng.crc32(chunk)), end)))
    return files


def _session(graph: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _dump(fields: dict[str, Any], stage: Stages) -> bytes:
    with stage("write JSON"):
        return orjson.dumps({"model": "mnist-mlp@1", **fields}, option=orjson.OPT_SERIALIZE_NUMPY)


def measure(job: Callable[[bytes, Stages], bytes], body: bytes, images: int, seconds: float) -> dict[str, Any]:
    """Do a job again and again for so many seconds."""
    job(body, Stages())
    stages, done, began = Stages(), 0, time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        job(body, stages)
        done += images
    return {
        "images_rate": done / (now - began),
        "stages": {name: 1e6 * spent / done for name, spent in stages.seconds.items()},
    }


JOBS: Final = {
    "encode JSON": Work.encode_json,
    "encode npy": Work.encode_npy,
    "reconstruct JSON": Work.reconstruct_json,
    "score JSON": Work.score_json,
    "interpolate JSON": Work.interpolate_json,
    "traverse JSON": Work.traverse_json,
}


def main() -> None:
    """Read the bodies, in JSON by the names of their jobs and in base64; do the jobs, print what they cost."""
    bodies = {name: pybase64.b64decode(text) for name, text in json.load(sys.stdin).items()}
    work, images, seconds = Work(Path(os.environ["BENCH_ENCODER"])), int(sys.argv[1]), float(sys.argv[2])
    print(json.dumps({name: measure(job.__get__(work), bodies[name], images, seconds) for name, job in JOBS.items()}))


if __name__ == "__main__":
    main()
