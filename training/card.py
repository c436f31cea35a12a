"""The model card: README.md of a bundle, written from the same numbers as its model.json, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service.contract import CARD_FILE, Contract
from training import data, pictures, plots
from training.checkpoint import Trained
from training.data import Sets
from training.evaluate import IMPORTANCE_SAMPLES, IMPORTANCE_SAMPLES_BERNOULLI, Graphs
from training.prior import Prior
from training.recipe import Recipe, command

REPORT: Final = "metrics.json"
# Reports of runs to compare with; cards quote the notebook's.
RECORDED: Final = Path(__file__).resolve().parent.parent / "docs" / "runs"
NOTEBOOK_RUN: Final = RECORDED / "mnist-mlp-notebook.json"

RECONSTRUCTIONS: Final = "reconstructions.png"
SAMPLES_NORMAL: Final = "samples-normal.png"
SAMPLES_AGGREGATE: Final = "samples-aggregate.png"
SAMPLES_LABELS: Final = "samples-labels.png"
TRAVERSALS: Final = "traversals.png"
CURVES: Final = "curves.png"
LATENTS: Final = "latents.png"
SCALE: Final = 2
COLUMNS: Final = 10
SAMPLE_SEED: Final = 0
MOST_ROWS: Final = 10  # of labels, and of latents that are traversed
TRAVERSED: Final = np.linspace(-3, 3, COLUMNS, dtype=np.float32)

# What the notebook printed for single validation batches of 128 images, epochs 20 to 100, summed over the batch.
NOTEBOOK_BATCH: Final = 128
NOTEBOOK_PRINTED: Final = (9559.11719, 9738.88281, 9306.89160, 8693.73242, 9665.60938)

NETWORKS: Final = {
    "mlp": "a multilayer perceptron with one hidden layer of {hidden} units on each side, ReLU and tanh",
    "resmlp": "a residual multilayer perceptron, {blocks} pre-norm blocks {hidden} wide on each side, GELU and tanh",
    "conv": "a residual convolutional network, {hidden} channels at half size, {blocks} blocks on each side, and tanh",
}
OBJECTIVES: Final = {
    "squared-error": "the sum of squared errors of pixels in [-1, 1] (distortion) plus the KL divergence to a\n"
    "standard normal prior (rate): the negative evidence lower bound of a decoder with a fixed variance of 1/2, but\n"
    "for a constant",
    "calibrated": "the negative log-likelihood of pixels in [-1, 1] under a Gaussian whose variance is the\n"
    "mean squared error (distortion) plus the KL divergence to a standard normal prior (rate): the negative evidence\n"
    "lower bound",
    "bernoulli": "the negative log-likelihood of pixels drawn black or white, with the grey level as\n"
    "probability (distortion), plus the KL divergence to a standard normal prior (rate): the negative evidence lower\n"
    "bound",
}


def report(run: Trained, bundle: Contract, path: Path) -> None:
    """Write metrics.json of a run: its recipe, its figures on the test set, how long it took, and what made them."""
    document = {
        "command": command(run.recipe),
        "git_commit": bundle.git_commit,
        "metrics": bundle.metrics,
        "recipe": bundle.recipe,
        "seconds": round(run.seconds, 1),
        "tools": bundle.tools,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def write(
    bundle: Contract, graphs: Graphs, prior: Prior, sets: Sets, history: Sequence[tuple[float, float, float, float]]
) -> dict[str, bytes]:
    """The card and its pictures as files of the bundle, by name; what they show is what the graphs give."""
    shown = sets.test_images[data.some_of_each_label(sets.test_labels, 2 * COLUMNS)]
    shown = shown[: len(shown) // COLUMNS * COLUMNS or len(shown)]
    mu, _ = graphs.encode(shown)
    columns = min(COLUMNS, len(shown))
    normal = np.random.Generator(np.random.PCG64(SAMPLE_SEED)).standard_normal(
        (COLUMNS**2, bundle.latent_dim), np.float32
    )
    labels = prior.labels[:MOST_ROWS]
    by_label = np.concatenate([prior.draw(COLUMNS, SAMPLE_SEED, int(label)) for label in labels])
    codes = graphs.encode(sets.test_images)[0].numpy()

    def grid(z: npt.NDArray[np.float32]) -> bytes:
        return pictures.png(pictures.grid(graphs.images(z), COLUMNS), SCALE)

    return {
        CARD_FILE: text(bundle, has_curves=bool(history)).encode(),
        RECONSTRUCTIONS: pictures.png(pictures.above(shown.numpy(), graphs.images(mu.numpy()), columns), SCALE),
        SAMPLES_NORMAL: grid(normal),
        SAMPLES_AGGREGATE: grid(prior.draw(COLUMNS**2, SAMPLE_SEED)),
        SAMPLES_LABELS: grid(by_label),
        TRAVERSALS: grid(traversals(codes)),
        LATENTS: plots.latent_map(codes, sets.test_labels.numpy()),
    } | ({CURVES: plots.curves(history)} if history else {})


def traversals(codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Latents float32 [rows * 10, L] for a grid: the first code, in each row with one latent moved from -3 to 3.

    `codes` are the mu of the test set, [N, L]; the latents that vary most among them come first.
    """
    busiest = codes.var(0).argsort()[::-1][:MOST_ROWS]
    z = np.repeat(codes[:1], len(busiest) * COLUMNS, axis=0)
    for row, latent in enumerate(busiest):
        z[row * COLUMNS : (row + 1) * COLUMNS, latent] = TRAVERSED
    return z


def text(bundle: Contract, *, has_curves: bool = True) -> str:
    """The card in Markdown."""
    recipe = Recipe.model_validate(bundle.recipe)
    title = data.title(bundle.dataset)
    metrics = bundle.metrics
    images = f"[N, {', '.join(map(str, bundle.image_shape))}]"
    latents = f"[N, {bundle.latent_dim}]"
    printed = [batch / NOTEBOOK_BATCH for batch in NOTEBOOK_PRINTED]
    averaged = (
        f"weights averaged with a decay of {recipe.averaging_decay:g} per step"
        if recipe.averaging_decay
        else "weights not averaged"
    )
    network = NETWORKS[recipe.network].format(hidden=recipe.hidden, blocks=recipe.blocks)
    draws = IMPORTANCE_SAMPLES_BERNOULLI if recipe.objective == "bernoulli" else IMPORTANCE_SAMPLES
    several = recipe.importance_samples
    bound = f", tightened by the importance weights of {several} draws" if several > 1 else ""
    numbers = {
        "beta": (recipe.beta, 1.0),
        "KL warm-up": (recipe.kl_warmup, 0.0),
        "free bits": (recipe.free_bits, 0.0),
        "weight decay": (recipe.weight_decay, 0.0),
        "gradients clipped at": (recipe.gradient_limit, 0.0),
        "share of warped images": (recipe.augmentation, 0.0),
    }
    further = "".join(f"; {name} {value:g}" for name, (value, usual) in numbers.items() if value != usual)
    began = f"From the weights of the run `{recipe.start_from}`: " if recipe.start_from else ""
    rows = [row(f"**{bundle.id}**", metrics)]
    if figures := notebook_run(recipe):
        rows.append(row(f"recipe `{NOTEBOOK_RUN.stem}`, trained by this code", figures))
    if recipe.objective == "squared-error":
        if recipe.dataset == "mnist":
            rows.append(
                f"| the notebook this follows, as it printed: single validation batches of {NOTEBOOK_BATCH} images "
                f"| | | {min(printed):.1f} to {max(printed):.1f} | | | | |"
            )
        rows.append(
            f"| the best linear model with {bundle.latent_dim} latents (probabilistic PCA of the training images, "
            f"closed form) | | | {metrics['linear_total']:.2f} | | | | |"
        )
    calibrated = (
        f"\nThe decoder's standard deviation is {metrics['decoder_std']:.3f}, pixels in [-1, 1]. A density's logarithm "
        "may be positive:\ndistortion and total may be negative.\n"
        if "decoder_std" in metrics
        else ""
    )
    curves = f"![Distortion, rate and total over epochs]({CURVES})\n" if has_curves else ""
    blurred = (
        "- The fixed variance of 1/2 in [-1, 1] is far more noise than these pictures have, so the model pays for\n"
        "  every detail it encodes: reconstructions are blurred.\n"
        if recipe.objective == "squared-error"
        else ""
    )
    return f"""# {bundle.id}

A variational autoencoder of {title} images: an encoder from an image to the mean and log-variance of
{bundle.latent_dim} latents, and a decoder back. It is {network}: {metrics["weights"]:,.0f} weights,
{metrics["onnx_bytes"] / 1e6:.1f} MB of ONNX. It was trained on {OBJECTIVES[recipe.objective]}{bound}.

![Test images, each row above its reconstructions]({RECONSTRUCTIONS})

*Test images of each label in turn; below each row what the model makes of them.*

## Samples

![Samples of each label]({SAMPLES_LABELS})

*The aggregate prior of each label, a row a label: `/sample` with `label`.*

| the aggregate prior, the default of `/sample` | the normal prior, N(0, I) |
|---|---|
| ![Samples from the aggregate prior]({SAMPLES_AGGREGATE}) | ![Samples from the normal prior]({SAMPLES_NORMAL}) |

The aggregate prior is a mixture of {recipe.prior_components} Gaussians for each label, fitted to the codes of the
training images; what a decoder makes of N(0, I) is often poor, because codes of real images fill it unevenly. None of
these is selected.

| | Frechet distance to the test images |
|---|---|
| samples of the aggregate prior | **{metrics["frechet_aggregate"]:.2f}** |
| samples of the normal prior | {metrics["frechet_normal"]:.2f} |
| the test images' own reconstructions | {metrics["frechet_reconstructions"]:.2f} |
| as many training images: the floor | {metrics["frechet_floor"]:.2f} |

In the features of a small classifier trained by this project (`training/classifier.py`; it is right about
{metrics["classifier_accuracy"]:.2%} of the test images; its SHA-256 is
`{bundle.tools["classifier"].removeprefix("sha256:")}`), so this is not the FID and compares
only with figures of the same classifier. Samples of a label are taken for that label in
**{metrics["label_accuracy"]:.2%}** of cases ({metrics["label_accuracy_worst"]:.2%} for the worst label).
The nearest training image is {metrics["nearest_samples"]:.3f} away from a sample (root mean square, pixels in [0, 1]),
{metrics["nearest_test"]:.3f} from a test image: a model that repeats its training images would bring the first near 0.

## Figures

On the {title} test set, which training never saw, through the ONNX files of this folder. Distortion, rate and total
are nats per image, lower is better, with one draw from each posterior; mse, psnr and ssim are of images decoded from
mu, pixels in [0, 1]. `python -m training.evaluate` measures them anew.

| | distortion | rate | total | mse | psnr (dB) | ssim | latents in use |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The importance-weighted estimate of -log p(x), of {draws:,} draws an image and in the units of the total, is
{metrics["nll"]:.2f}.
{calibrated}
## Latents

![The test set's mu in the plane of its two principal directions]({LATENTS})

![Traversals of the latents that vary most]({TRAVERSALS})

*The first test image; in each row one latent goes from -3 to 3, the busiest first.*

## How it was trained

    {command(recipe)}

{began}{recipe.epochs} epochs of batches of {recipe.batch_size}; Adam, {recipe.schedule} learning rate, at most
{recipe.learning_rate:g}{further}; {averaged}; matrix products in {recipe.precision}; seed {recipe.seed}; the last
{recipe.validation_size:,} training images only validated. `model.json` has the whole recipe, the versions of the
tools and the commit of the code.

{curves}
## Tensors

| graph | input | output |
|---|---|---|
| `encoder.onnx` | `image` uint8 {images} | `mu`, `logvar` float32 {latents} |
| `decoder.onnx` | `z` float32 {latents} | `image` uint8 {images}; `x_hat` float32 {images} in [-1, 1] |

Scaling from and to grey levels is inside the graphs, which draw no random numbers: z = mu + exp(logvar / 2) * noise is
the caller's. `golden.npz` has a few test images with the outputs PyTorch gave, `prior.npz` the aggregate prior.

## Limits

{blurred}- It knows {title} as it is, upright and centred, and gives an answer to any other picture too.
- Of some samples nobody could say what they are: see the grids, which are not selected.
"""


def row(name: str, metrics: dict[str, Any]) -> str:
    """A line of the card's table of figures; what an older report lacks stays empty."""
    ssim = f"{metrics['ssim']:.3f}" if "ssim" in metrics else ""
    return (
        f"| {name} | {metrics['distortion']:.2f} | {metrics['rate']:.2f} | {metrics['total']:.2f} | "
        f"{metrics['mse']:.5f} | {metrics['psnr']:.2f} | {ssim} | {metrics['active_units']:.0f} |"
    )


def notebook_run(recipe: Recipe) -> dict[str, float] | None:
    """The figures of the notebook's settings as trained by this code, where they can be compared with the recipe's."""
    report = json.loads(NOTEBOOK_RUN.read_text())
    other = Recipe.model_validate(report["recipe"])
    comparable = (other.dataset, other.objective) == (recipe.dataset, recipe.objective) and other.name != recipe.name
    return report["metrics"] if comparable else None
