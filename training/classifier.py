"""Two small classifiers for each data set: the judges, in whose features evaluation compares sets of images.

    python -m training.classifier mnist --data-dir DIR                 (writes training/classifiers/mnist.onnx)
    python -m training.classifier mnist --judge second --data-dir DIR  (writes training/classifiers/mnist-second.onnx)

The first is a plain convolutional network, the second a residual one with another seed and warped images. A figure that
both give is less likely to be a quirk of one of them. What is chosen is chosen by the first alone. Each is an ONNX
file, so that every model on any machine is measured with the same one, known by its SHA-256. For a folder of pictures
the classifiers are trained when they are needed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import augment, data, figures, onnx_graph, parallel
from training.errors import TrainingError
from training.model import to_signal
from training.steps import SILENT, Steps
from training.train import prepare_cpu

CLASSIFIERS: Final = Path(__file__).parent / "classifiers"

FEATURES: Final = 64
EPOCHS: Final = 12
LEAST_STEPS: Final = 500  # a small data set gets more epochs
BATCH_SIZE: Final = 128
WARPED: Final = 0.8  # the share of a batch that is warped while the second judge is trained
SHIFT: Final = 2  # most pixels that a batch is moved while training, up or down and sideways
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


class ResidualBlock(nn.Module):
    """[N, C, H, W] -> [N, C, H, W]: relu(h + two convolutions with batch normalisation) (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _normalised(channels, channels), _normalised(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        """The input plus the output of two layers."""
        return F.relu(h + self.second(F.relu(self.first(h))))


class ResidualNetwork(nn.Module):
    """image uint8 [N, H, W] or [N, H, W, 3] -> features [N, 64], and logits [N, labels] of the labels in order.

    The features are the means of 64 channels over all places.
    """

    def __init__(self, image_shape: tuple[int, ...], labels: int) -> None:
        super().__init__()
        colours = image_shape[2] if len(image_shape) == 3 else 1
        self.convolutions = nn.Sequential(
            _normalised(colours, 16),
            nn.ReLU(),
            _normalised(16, 32, stride=2),
            nn.ReLU(),
            ResidualBlock(32),
            _normalised(32, FEATURES, stride=2),
            nn.ReLU(),
            ResidualBlock(FEATURES),
        )
        self.logits = nn.Linear(FEATURES, labels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of a batch."""
        x = to_signal(image)
        x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x.unsqueeze(1)  # [N, 1 or 3, H, W]
        feature = self.convolutions(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))  # [N, 64]
        return feature, self.logits(feature)


def _normalised(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


Augment = Callable[[Tensor, torch.Generator], Tensor]


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """A batch of images, all moved by the same few pixels."""
    down, across = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
    return images.roll((down, across), (1, 2))


def _warped(images: Tensor, generator: torch.Generator) -> Tensor:
    """A batch of images, of which most are warped, each in its own way."""
    return augment.warped(images, WARPED, generator)


@dataclass(frozen=True, slots=True)
class JudgeRecipe:
    """How one of the classifiers of a data set is trained.

    `file_suffix` is the end of its file's name.
    """

    name: str
    file_suffix: str
    network: Callable[[tuple[int, ...], int], nn.Module]
    augment: Augment
    learning_rate: float
    seed: int

    def path(self, dataset: str) -> Path:
        """The file of the classifier of a data set, which need not exist."""
        return CLASSIFIERS / f"{dataset}{self.file_suffix}.onnx"


FIRST: Final = JudgeRecipe("first", "", Network, _moved, learning_rate=2e-3, seed=0)
SECOND: Final = JudgeRecipe("second", "-second", ResidualNetwork, _warped, learning_rate=4e-3, seed=1)
JUDGES: Final = (FIRST, SECOND)


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


Judges = Mapping[str, Classifier]  # by what the names of their figures begin with


def judges_of(dataset: str, images: Tensor, labels: Tensor, steps: Steps = SILENT) -> Judges:
    """Both judges of a data set: the files in training/classifiers/, or else trained now on these images."""
    found = (_classifier_of(judge, dataset, images, labels, steps) for judge in JUDGES)
    return dict(zip(figures.PREFIXES, found, strict=True))


def hashes(judges: Judges) -> dict[str, str]:
    """What a bundle's `tools` say of the judges that measured it: `classifier` and `second_classifier`."""
    return {f"{prefix}classifier": f"sha256:{judge.sha256}" for prefix, judge in judges.items()}


def _classifier_of(judge: JudgeRecipe, dataset: str, images: Tensor, labels: Tensor, steps: Steps) -> Classifier:
    path = judge.path(dataset)
    if path.is_file():
        return Classifier(path.read_bytes())
    with steps.step(f"{judge.name} classifier of these pictures", epochs_of(len(images))) as advance:
        return Classifier(train(images, labels, judge, advance))


def epochs_of(images: int) -> int:
    """How often a classifier sees each of so many images."""
    return max(EPOCHS, -(-LEAST_STEPS // -(-images // BATCH_SIZE)))


def train(
    images: Tensor, labels: Tensor, judge: JudgeRecipe = FIRST, advance: Callable[[int], None] = lambda _: None
) -> bytes:
    """The ONNX graph of a classifier of uint8 images [N, *image_shape] with labels uint8 [N], 0 to the largest.

    Adam with a one-cycle learning rate. The first judge's batches are moved by up to two pixels, the second's images
    warped. Equal images give equal bytes. `advance` is called with 1 after each epoch.
    """
    with torch.random.fork_rng(devices=[]), parallel.one_thread():
        torch.manual_seed(judge.seed)  # for the first weights and for dropout, which take no generator
        network = judge.network(tuple(images.shape[1:]), int(labels.max()) + 1)
        order, changes = (torch.Generator().manual_seed(judge.seed + stream) for stream in (1, 2))
        batches = -(-len(images) // BATCH_SIZE)
        epochs = epochs_of(len(images))
        optimiser = torch.optim.Adam(network.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, judge.learning_rate, total_steps=epochs * batches)
        for _ in range(epochs):
            for indices in torch.split(torch.randperm(len(images), generator=order), BATCH_SIZE):
                batch = judge.augment(images.index_select(0, indices), changes)
                _, logits = network(batch)
                loss = F.cross_entropy(logits, labels[indices].long())
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
            advance(1)
    return onnx_graph.graph(network.eval(), images[:2], inputs=[IMAGE], outputs=[FEATURE, LOGIT], metadata={})


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.classifier", description="Train a classifier of a data set."
    )
    parser.add_argument("dataset", choices=sorted(data.DATASETS))
    parser.add_argument(
        "--judge", choices=[judge.name for judge in JUDGES], default=FIRST.name, help="which of the two (first)"
    )
    data.add_option(parser)
    options = parser.parse_args(arguments)
    (judge,) = (each for each in JUDGES if each.name == options.judge)
    prepare_cpu()
    try:
        with Steps() as steps:
            train_images, train_labels = data.load(options.dataset, "train", options.data_dir)
            with steps.step(f"{judge.name} classifier", epochs_of(len(train_images))) as advance:
                graph = train(train_images, train_labels, judge, advance)
        images, labels = data.load(options.dataset, "test", options.data_dir)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 1
    path = judge.path(options.dataset)
    path.write_bytes(graph)
    classifier = Classifier(graph)
    accuracy = classifier.accuracy(images.numpy(), labels.numpy())
    print(f"{path}: right about {accuracy:.2%} of the test images, SHA-256 {classifier.sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
