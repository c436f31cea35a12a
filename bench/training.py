"""How fast training is, against what it could be: its matrix products alone, and a DataLoader of single images.

    python -m bench.training --data-dir DIR [--rounds 7]

Three ways through one epoch of MNIST with the network and batch size of a recipe, taken in turns, so that a busy
machine is busy for all of them:

- the training loop itself (`training.train.epoch`), with its schedule, averaging of weights and progress;
- the matrix products of its forward and backward passes, and nothing else;
- the same network fed in the style of pytorch/examples' vae/main.py: a DataLoader over images that become tensors one
  by one, as torchvision makes them, and Adam as it comes.

Prints a Markdown table; takes one to three minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from bench.machine import machine
from training import checkpoint, data, networks, recipe, train
from training.progress import Progress
from training.recipe import Recipe

LOOP, PRODUCTS, LOADER = "training loop", "its matrix products alone", "DataLoader of single images"
MOST_OF_PRODUCTS: Final = 2.2
LEAST_OF_LOADER: Final = 2.5


def training_loop(wanted: Recipe, images: Tensor) -> Callable[[], None]:
    state = checkpoint.start(wanted, tuple(images.shape[1:]), torch.device("cpu"))

    def run() -> None:
        with Progress(wanted.epochs, len(images), state.epoch) as progress:
            train.epoch(wanted, state, images, progress.advance)
        state.epoch += 1

    return run


def matrix_products(wanted: Recipe, images: Tensor) -> Callable[[], None]:
    widths = [
        images[0].numel(),
        wanted.hidden,
        2 * wanted.latent_dim,
        wanted.latent_dim,
        wanted.hidden,
        images[0].numel(),
    ]
    layers = [(widths[0], widths[1]), (widths[1], widths[2]), (widths[3], widths[4]), (widths[4], widths[5])]

    def step(batch: int) -> Callable[[], None]:
        # For each layer: input x [B, i], weight w [o, i], and the gradient dy [B, o] of its output.
        tensors = [(torch.randn(batch, i), torch.randn(o, i), torch.randn(batch, o)) for i, o in layers]
        out = [(torch.empty(batch, o), torch.empty(o, i), torch.empty(batch, i)) for i, o in layers]

        def run() -> None:
            for (x, w, _), (y, _, _) in zip(tensors, out, strict=True):
                torch.mm(x, w.T, out=y)
            for index in reversed(range(len(layers))):
                (x, w, dy), (_, dw, dx) = tensors[index], out[index]
                torch.mm(dy.T, x, out=dw)
                if index:  # the gradient of the images is not needed
                    torch.mm(dy, w, out=dx)

        return run

    full, rest = divmod(len(images), wanted.batch_size)
    whole, last = step(wanted.batch_size), step(rest) if rest else None

    def run() -> None:
        with torch.no_grad():
            for _ in range(full):
                whole()
            if last:
                last()

    return run


class SingleImages(Dataset[tuple[Tensor, int]]):
    """MNIST as torchvision's data set, ToTensor and Normalize((0.5,), (0.5,)) give it, step by step."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image at `index`, float32 [1, 28, 28] in [-1, 1], and its label."""
        picture, label = Image.fromarray(self.images[index].numpy()), int(self.labels[index])
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        pixels = pixels.view(picture.height, picture.width, 1).permute(2, 0, 1).contiguous()
        pixels = pixels.to(torch.float32).div(255)
        mean, std = torch.as_tensor((0.5,)), torch.as_tensor((0.5,))
        if (std == 0).any():
            raise ValueError("a standard deviation of zero")
        return pixels.clone().sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1)), label


def data_loader(wanted: Recipe, images: Tensor, labels: Tensor) -> Callable[[], None]:
    model = networks.build(wanted, tuple(images.shape[1:]))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(SingleImages(images, labels), batch_size=wanted.batch_size, shuffle=True)

    def run() -> None:
        model.train()
        train_loss = 0.0
        for pixels, _ in loader:
            optimiser.zero_grad()
            mu, logvar = model.encode(pixels)
            std = torch.exp(0.5 * logvar)
            x_hat = model.decode(mu + torch.randn_like(std) * std)
            squared = F.mse_loss(x_hat.flatten(1), pixels.flatten(1), reduction="sum")
            kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss = squared + kld
            loss.backward()  # type: ignore[no-untyped-call]
            train_loss += loss.item()
            optimiser.step()

    return run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.training", description="How fast training is.")
    parser.add_argument("--data-dir", type=Path, help="directory of MNIST's files; without it they are downloaded")
    parser.add_argument("--recipe", default="mnist-mlp", help="whose network and batch size (default: mnist-mlp)")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each kind (default: 7)")
    options = parser.parse_args()
    train.prepare_cpu()  # for all three
    wanted = recipe.read(options.recipe)
    images, labels = data.load(wanted.dataset, "train", options.data_dir)
    images, _ = data.split(images, wanted.validation_size)

    kinds = {
        LOOP: training_loop(wanted, images),
        PRODUCTS: matrix_products(wanted, images),
        LOADER: data_loader(wanted, images, labels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(options.rounds + 1):
        for name, run in kinds.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
        took = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        print(f"round {turn} of {options.rounds}{'' if turn else ' (warm-up, not counted)'}: {took}", file=sys.stderr)

    counted = {name: times[1:] for name, times in seconds.items()}
    ratios = {
        name: statistics.median(other / loop for other, loop in zip(times, counted[LOOP], strict=True))
        for name, times in counted.items()
    }
    print(
        f"\nOne epoch of {len(images):,} images, batches of {wanted.batch_size}; {options.rounds} rounds; {machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| | median s | fastest s | images/s | times the loop (median of rounds) |\n|---|---|---|---|---|")
    for name, times in counted.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.2f} | {min(times):.2f} | {len(images) / median:,.0f} | {ratios[name]:.2f} |")
    print(
        f"\nThe loop takes {1 / ratios[PRODUCTS]:.2f} times its matrix products (at most {MOST_OF_PRODUCTS} wanted); "
        f"the DataLoader takes {ratios[LOADER]:.2f} times the loop (at least {LEAST_OF_LOADER} wanted)."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
