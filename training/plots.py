"""The diagrams of the card: loss curves and the map of the latents. Equal numbers give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

# The figures of samples, by their names, at each temperature.
Trade = Mapping[float, Mapping[str, float]]


def trade(found: Trade, chosen: float) -> bytes:
    """Fidelity against diversity, as a PNG file: each figure of samples over the temperature that they are drawn at.

    The temperature that was `chosen` is a vertical line.
    """
    temperatures = sorted(found)
    names = list(found[temperatures[0]])
    figure = Figure(figsize=(3 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.plot(temperatures, [found[temperature][name] for temperature in temperatures], marker="o", markersize=3)
        axes.axvline(chosen, color="grey", linewidth=0.8)
        axes.set_title(name)
        axes.set_xlabel("temperature")
    return _png(figure)


def curves(history: Sequence[tuple[float, float, float, float]]) -> bytes:
    """Distortion, rate and total over epochs, in training and on the validation images, as a PNG file.

    `history` has for each epoch: distortion and rate in training, then those of the averaged weights in validation. The
    vertical axis does not show the high values of the first epochs, so that the others can be told apart.
    """
    met = np.array(history, np.float64).reshape(-1, 4)  # [E, 4]
    epochs = np.arange(1, len(met) + 1)
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, name, columns in zip(
        figure.subplots(1, 3), ("distortion", "rate", "total"), ([0], [1], [0, 1]), strict=True
    ):
        training, validation = met[:, columns].sum(1), met[:, [each + 2 for each in columns]].sum(1)
        axes.plot(epochs, training, label="training")
        axes.plot(epochs, validation, label="validation")
        settled = np.concatenate([training, validation])[np.concatenate([epochs, epochs]) > len(met) / 10]
        if settled.size:
            low, high = settled.min(), settled.max()
            axes.set_ylim(low - 0.05 * (high - low) - 0.1, high + 0.05 * (high - low) + 0.1)
        axes.set_title(f"{name}, nats per image")
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    return _png(figure)


def latent_map(mu: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8], names: Sequence[str] = ()) -> bytes:
    """A map of images as a PNG file: the plane of the two directions in which their mu [N, L] varies most.

    Each label in `labels` [N] has its colour. `names` are the names of the labels 0, 1, 2, ..., if they have any.
    """
    centred = mu.astype(np.float64) - mu.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # rising order
    plane = vectors[:, ::-1][:, :2]
    # An eigenvector and its opposite are equally right: take the one whose largest entry is positive.
    plane *= np.sign(plane[np.abs(plane).argmax(0), range(plane.shape[1])])
    places = centred @ plane  # [N, 2], or [N, 1] of a single latent
    across, up = places[:, 0], places[:, -1]
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for label in np.unique(labels):
        chosen = labels == label
        axes.scatter(
            across[chosen],
            up[chosen],
            s=3,
            linewidths=0,
            color=f"C{label % 10}",
            label=names[label] if names else str(label),
        )
    axes.set_xlabel("first principal direction of mu")
    axes.set_ylabel("second")
    axes.legend(markerscale=4, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + labels.max() // 20)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return file.getvalue()
