"""A small classifier for each data set. Evaluation compares sets of images in its features.

    python -m training.classifier mnist --data-dir DIR        (writes training/classifiers/mnist.onnx)

It is an ONNX file, so that every model on any machine is measured with the same one, known by its SHA-256. The Frechet
distance in its features follows Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule. It is not the FID,
which is defined by the features of Inception-v3, a network for photographs. For a folder of pictures the classifier is
trained when it is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import data, onnx_graph, parallel
from training.errors import TrainingError
from training.model import to_signal
from training.steps import SILENT, Steps
from training.train import prepare_cpu

CLASSIFIERS: Final = Path(__file__).parent / "classifiers"

FEATURES: Final = 64
EPOCHS: Final = 12
LEAST_STEPS: Final = 500  # a small data set gets more epochs
BATCH_SIZE: Final = 128
LEARNING_RATE: Final = 2e-3
SHIFT: Final = 2  # most pixels that a batch is moved while training, up or down and sideways
SEED: Final = 0
CHUNK: Final = 1_000  # images at a time

IMAGE: Final = "image"
FEATURE: Final = "feature"
LOGIT: Final = "logit"

Array = npt.NDArray[Any]


class Network(nn.Module):
    """image uint8 [N, H, W] or [N, H, W, 3] -> features [N, 64], and logits [N, labels] of the labels in order."""

    def __init__(self, image_shape: tuple[int, ...], labels: int) -> None:
        super().__init__()
        colours = image_shape[2] if len(image_shape) == 3 else 1
        self.convolutions = nn.Sequential(
            nn.Conv2d(colours, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.features = nn.Linear(32 * (image_shape[0] // 4) * (image_shape[1] // 4), FEATURES)
        self.logits = nn.Linear(FEATURES, labels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of a batch."""
        x = to_signal(image)
        x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x.unsqueeze(1)  # [N, 1 or 3, H, W]
        feature = F.relu(self.features(self.convolutions(x)))  # [N, 64]
        return feature, self.logits(F.dropout(feature, 0.2, self.training))


class Classifier:
    """A trained classifier in onnxruntime. `sha256` is that of its ONNX file."""

    def __init__(self, graph: bytes) -> None:
        self.sha256 = hashlib.sha256(graph).hexdigest()
        self._session = onnx_graph.session(graph)

    def classify(self, images: Array) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Features float32 [N, 64] of uint8 images [N, *image_shape], and the label each is taken for, int64 [N]."""

        def run(start: int) -> tuple[Array, Array]:
            feature, logit = self._session.run([FEATURE, LOGIT], {IMAGE: images[start : start + CHUNK]})
            return feature, logit

        chunks = parallel.ordered(run, range(0, len(images), CHUNK))
        features, logits = (np.concatenate(arrays) for arrays in zip(*chunks, strict=True))
        return features, logits.argmax(1)

    def accuracy(self, images: Array, labels: Array) -> float:
        """The share of uint8 images [N, *image_shape] that are taken for their own label in `labels` [N], 0 to 1."""
        return float((self.classify(images)[1] == labels).mean())


def classifier_of(dataset: str, images: Tensor, labels: Tensor, steps: Steps = SILENT) -> Classifier:
    """The classifier of a data set: the file in training/classifiers/, or else one trained now on these images."""
    path = CLASSIFIERS / f"{dataset}.onnx"
    if path.is_file():
        return Classifier(path.read_bytes())
    with steps.step("classifier of these pictures", epochs_of(len(images))) as advance:
        return Classifier(train(images, labels, advance))


def epochs_of(images: int) -> int:
    """How often a classifier sees each of so many images."""
    return max(EPOCHS, -(-LEAST_STEPS // -(-images // BATCH_SIZE)))


def train(images: Tensor, labels: Tensor, advance: Callable[[int], None] = lambda _: None) -> bytes:
    """The ONNX graph of a classifier of uint8 images [N, *image_shape] with labels uint8 [N], 0 to the largest.

    Adam with a one-cycle learning rate, each batch moved by up to two pixels. Equal images give equal bytes. `advance`
    is called with 1 after each epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)  # for the first weights and for dropout, which take no generator
        network = Network(tuple(images.shape[1:]), int(labels.max()) + 1)
        order, shifts = (torch.Generator().manual_seed(SEED + stream) for stream in (1, 2))
        batches = -(-len(images) // BATCH_SIZE)
        epochs = epochs_of(len(images))
        optimiser = torch.optim.Adam(network.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * batches)
        for _ in range(epochs):
            for indices in torch.split(torch.randperm(len(images), generator=order), BATCH_SIZE):
                down, across = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=shifts).tolist()
                batch = images.index_select(0, indices).roll((down, across), (1, 2))
                _, logits = network(batch)
                loss = F.cross_entropy(logits, labels[indices].long())
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
            advance(1)
    return onnx_graph.graph(network.eval(), images[:2], inputs=[IMAGE], outputs=[FEATURE, LOGIT], metadata={})


def frechet_distance(one: Array, other: Array) -> float:
    """The Frechet distance between Gaussians with the moments of two sets of features, [N, F] and [M, F].

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson & Landau 1982). The eigenvalues of C1 C2 are those of the
    symmetric C1^(1/2) C2 C1^(1/2), whose square roots are real.
    """
    means = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    first, second = (np.cov(features, rowvar=False, dtype=np.float64) for features in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    roots = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0))
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots.sum())


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.classifier", description="Train the classifier of a data set."
    )
    parser.add_argument("dataset", choices=sorted(data.DATASETS))
    parser.add_argument("--data-dir", type=Path, help="directory of the data set's files; else they are downloaded")
    options = parser.parse_args(arguments)
    prepare_cpu()
    try:
        graph = train(*data.load(options.dataset, "train", options.data_dir))
        images, labels = data.load(options.dataset, "test", options.data_dir)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    path = CLASSIFIERS / f"{options.dataset}.onnx"
    path.write_bytes(graph)
    classifier = Classifier(graph)
    accuracy = classifier.accuracy(images.numpy(), labels.numpy())
    print(f"{path}: right about {accuracy:.2%} of the test images, SHA-256 {classifier.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
