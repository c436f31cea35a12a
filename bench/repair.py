"""What `/reconstruct` makes of damaged digits, again and again: a table on standard output, and pictures.

    python -m bench.repair [ADDRESS [FOLDER]]        (of a running service, and for the pictures)

The digits are the 200 of the test set that are in the repository. They are damaged, and reconstructed ten times over;
where it is known which pixels are good, these are put back after each time (as Rezende, Mohamed and Wierstra impute
missing data, Stochastic Backpropagation and Approximate Inference in Deep Generative Models, 2014; they draw each time,
and here the mean is decoded). How many are read right is what the classifier says with which training measures samples.
"""

from __future__ import annotations

import http.client
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

from harness.digits import Images, digits, labels
from harness.paths import ROOT

CLASSIFIER: Final = ROOT / "training" / "classifiers" / "mnist.onnx"
NPY: Final = {"content-type": "application/x-npy", "accept": "application/x-npy"}
ROUNDS: Final = (0, 1, 10)  # after so many the digits are looked at
SHOWN: Final = 12  # digits in a picture
ZOOM: Final = 2


@dataclass(frozen=True)
class Damage:
    """Damaged digits. `good` says which pixels are known to be as they were; None: nobody knows."""

    name: str
    images: Images
    good: npt.NDArray[np.bool_] | None


def damages() -> Iterator[Damage]:
    """The digits, damaged in every way; the random numbers are the same every time."""
    random = np.random.Generator(np.random.PCG64(0))
    rows = np.arange(28)[:, None] + np.zeros(28, int)
    for name, good in (
        ("four rows lost", (rows < 12) | (rows >= 16)),
        ("half of the pixels lost", random.random((28, 28)) < 0.5),
        ("lower half lost", rows < 14),
    ):
        yield Damage(name, np.where(good, digits(), 0).astype(np.uint8), good)
    for level in (60, 120):
        noisy = digits() + random.normal(0, level, digits().shape)
        yield Damage(f"noise of {level} grey levels", noisy.round().clip(0, 255).astype(np.uint8), None)


def repaired(damage: Damage, address: str) -> Iterator[Images]:
    """The digits after each of `ROUNDS`, by the service at this address."""
    images = damage.images
    for number in range(max(ROUNDS) + 1):
        if number in ROUNDS:
            yield images
        stream = io.BytesIO()
        np.save(stream, images)
        connection = http.client.HTTPConnection(address)
        connection.request("POST", "/reconstruct", stream.getvalue(), NPY)
        answer = np.load(io.BytesIO(connection.getresponse().read()))
        connection.close()
        images = answer if damage.good is None else np.where(damage.good, damage.images, answer)


def main(address: str = "localhost:8000", folder: str = "docs/latent-space") -> None:
    """Damage, repair, measure, and print."""
    classifier = ort.InferenceSession(CLASSIFIER, providers=["CPUExecutionProvider"])
    print("| | damaged | after one | after ten |\n|---|---|---|---|")
    for damage in damages():
        cells, rows = [], [digits()]
        for images in repaired(damage, address):
            (logits,) = classifier.run(["logit"], {"image": images})
            right = (logits.argmax(axis=1) == labels()).mean()
            error = np.square((images - digits().astype(float)) / 255).mean()
            cells.append(f"{right:.0%}, {error:.3f}")
            rows.append(images)
        print(f"| {damage.name} | {' | '.join(cells)} |")
        picture = np.vstack([np.hstack(list(images[:SHOWN])) for images in rows])
        large = picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        Image.fromarray(large).save(Path(folder) / f"{damage.name.replace(' ', '-')}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
