"""The text of a model card: README.md of a bundle, in Markdown, a function for each section.

Every figure is read from the same contract that model.json holds. Names of pictures are those that `training.card`
writes.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from service.contract import Contract
from training import commands, data, figures
from training.recipe import Recipe, recorded

# Reports of runs to compare with. Cards quote the run of the notebook's settings.
RECORDED: Final = Path(__file__).resolve().parent.parent / "docs" / "runs"
NOTEBOOK_RUN: Final = RECORDED / "mnist-mlp-notebook.json"

RECONSTRUCTIONS: Final = "reconstructions.png"
SAMPLES_NORMAL: Final = "samples-normal.png"
SAMPLES_AGGREGATE: Final = "samples-aggregate.png"
SAMPLES_LABELS: Final = "samples-labels.png"
TRADE: Final = "trade.png"
TRAVERSALS: Final = "traversals.png"
CURVES: Final = "curves.png"
LATENTS: Final = "latents.png"
# Pictures that cannot be drawn again from the bundle: of its training, and of the choice of the defaults of samples.
PLOTTED: Final[tuple[str, ...]] = (CURVES, TRADE)
MOST_ROWS: Final = 10  # of labels, and of latents that are traversed

# The losses that the notebook printed for single validation batches, epochs 20 to 100, each summed over its batch.
NOTEBOOK_BATCH: Final = 128
NOTEBOOK_PRINTED: Final = (9559.11719, 9738.88281, 9306.89160, 8693.73242, 9665.60938)

NETWORKS: Final = {
    "mlp": "a multilayer perceptron with one hidden layer of {hidden} units on each side, ReLU and tanh",
    "resmlp": "a residual multilayer perceptron, {blocks} pre-norm blocks {hidden} wide on each side, GELU and tanh",
    "conv": "a residual convolutional network, {hidden} channels at half size, {blocks} blocks on each side, and tanh",
}
OBJECTIVES: Final = {
    "squared-error": "the sum of squared errors of pixels in [-1, 1] (distortion) plus the KL divergence to a\n"
    "standard normal prior (rate): the negative evidence lower bound of a decoder with a fixed variance of 1/2,\n"
    "without a constant",
    "calibrated": "the negative log-likelihood of pixels in [-1, 1] under a Gaussian whose variance is the\n"
    "mean squared error (distortion) plus the KL divergence to a standard normal prior (rate): the negative evidence\n"
    "lower bound",
    "bernoulli": "the negative log-likelihood of pixels drawn black or white, with the grey level as\n"
    "probability (distortion), plus the KL divergence to a standard normal prior (rate): the negative evidence lower\n"
    "bound",
}


def text(bundle: Contract, plotted: Collection[str] = PLOTTED) -> str:
    """The whole card, with those of the pictures in PLOTTED that are `plotted`."""
    recipe = recorded(bundle.recipe, "The bundle's recipe")
    sections = (
        introduction(bundle, recipe),
        samples(bundle, recipe, plotted),
        measured(bundle, recipe),
        latents(),
        training(bundle, recipe, has_curves=CURVES in plotted),
        tensors(bundle),
        limits(bundle, recipe),
    )
    return "\n".join(sections)


def introduction(bundle: Contract, recipe: Recipe) -> str:
    """What the model is and what it was trained on."""
    metrics = bundle.metrics
    network = NETWORKS[recipe.network].format(hidden=recipe.hidden, blocks=recipe.blocks)
    draws = recipe.importance_samples
    bound = f", tightened by the importance weights of {draws} draws" if draws > 1 else ""
    return f"""# {bundle.id}

A variational autoencoder of {data.title(bundle.dataset)} images: an encoder from an image to the mean and log-variance
of {bundle.latent_dim} latents, and a decoder back. It is {network}:
{metrics["weights"]:,.0f} weights, {metrics["onnx_bytes"] / 1e6:.1f} MB of ONNX. It was trained on
{OBJECTIVES[recipe.objective]}{bound}.

![Test images, each row above its reconstructions]({RECONSTRUCTIONS})

*Test images of each label in turn. Below each row are the model's reconstructions.*
"""


def samples(bundle: Contract, recipe: Recipe, plotted: Collection[str]) -> str:
    """Pictures of samples, and how good they are."""
    metrics = bundle.metrics
    return f"""## Samples

![Samples of each label]({SAMPLES_LABELS})

*Samples of the aggregate prior, one row for each label{_rows(bundle)}: `/sample` with `label`.*

| the aggregate prior, the default of `/sample` | the normal prior, N(0, I) |
|---|---|
| ![Samples from the aggregate prior]({SAMPLES_AGGREGATE}) | ![Samples from the normal prior]({SAMPLES_NORMAL}) |

The aggregate prior is a mixture of {recipe.prior_components} Gaussians for each label, fitted to the codes of the
training images. Samples from N(0, I) are often poor, because the codes of real images do not fill it evenly. No sample
was selected.

{_defaults(bundle) if TRADE in plotted else ""}{_judged(bundle)}

Two small classifiers that this project trained judge (`training/classifier.py`): a plain convolutional network and a
residual one. They are right about {metrics["classifier_accuracy"]:.2%} and {metrics["second_classifier_accuracy"]:.2%}
of the test images. Their SHA-256 are `{bundle.tools["classifier"].removeprefix("sha256:")}`
and `{bundle.tools["second_classifier"].removeprefix("sha256:")}`.
Distances are in their features, so they are not the FID, and compare only with figures of the same classifier. A figure
with brackets is the mean of three draws; in brackets is the largest of the three minus the smallest.

Precision is the share of samples that are near test images, recall the share of test images that are near samples
(Kynkaanniemi et al. 2019, k = 3). Recall is also high for a model that repeats its training images, so here is another
check. The nearest training image is {metrics["nearest_samples"]:.3f} away from a sample (root mean square, pixels in
[0, 1]) and {metrics["nearest_test"]:.3f} from a test image. For a model that repeats its training images, the first
figure is near 0.
"""


def _defaults(bundle: Contract) -> str:
    """The sharpness and the temperature of samples, and what the latter costs."""
    return f"""Samples have a sharpness of {bundle.sharpness:g} and a temperature of {bundle.temperature:g},
unless a request to `/sample` says otherwise; so have those of the pictures and figures here. The sharpness makes dark
pixels darker and light ones lighter, because a decoder's mean image is grey where real strokes are black or white. The
temperature trades diversity for fidelity. Both were chosen on the training images, which the plot is about, too.

![Figures of samples over the temperature]({TRADE})

"""


# Rows of the table of samples: the name of each figure, and what it says.
JUDGED: Final = {
    "frechet_aggregate": "Frechet distance from the test images to samples of the aggregate prior",
    "frechet_normal": "to samples of the normal prior",
    "frechet_reconstructions": "to their reconstructions",
    "frechet_floor": "to as many training images: the floor",
    "label_accuracy": "samples of a label that are taken for that label",
    "label_accuracy_worst": "the same for the worst label",
    "recall": "recall of samples of the aggregate prior",
    "recall_training": "recall of as many training images",
    "precision": "precision of samples of the aggregate prior",
    "precision_training": "precision of as many training images",
}
PROMINENT: Final = ("frechet_aggregate", "label_accuracy", "recall")


def _judged(bundle: Contract) -> str:
    """The table of what both judges say of samples."""
    metrics = bundle.metrics

    def cell(name: str, figure: str) -> str:
        style = ".3f" if name.startswith("frechet") else ".2%"
        value, spread = format(metrics[figure], style), metrics.get(figure + figures.SPREAD)
        shown = f"**{value}**" if name in PROMINENT else value
        return shown if spread is None else f"{shown} ({spread:{style}})"

    rows = [
        f"| {meaning} | {' | '.join(cell(name, prefix + name) for prefix in figures.PREFIXES)} |"
        for name, meaning in JUDGED.items()
    ]
    ratios = [ratio(metrics, f"{prefix}recall") for prefix in figures.PREFIXES]
    rows.append(f"| recall, of that of as many training images | {' | '.join(ratios)} |")
    return "\n".join(["| | first judge | second judge |", "|---|---|---|", *rows])


def ratio(metrics: dict[str, Any], name: str) -> str:
    """A figure of samples, divided by that of training images; nothing where there is none."""
    whole = metrics.get(f"{name}_training")
    return f"{metrics[name] / whole:.2f}" if whole else ""


def _rows(bundle: Contract) -> str:
    """The names of the labels, in the order of the rows."""
    if not bundle.label_names:
        return ""
    shown = ", ".join(bundle.label_names[:MOST_ROWS])
    more = len(bundle.label_names) - MOST_ROWS
    return f" ({shown}{f', and {more} more that are not shown' if more > 0 else ''})"


def measured(bundle: Contract, recipe: Recipe) -> str:
    """The table of figures."""
    metrics = bundle.metrics
    draws = figures.FULL.draws_of(recipe)
    rough = figures.warning(int(metrics["test_images"])) if "test_images" in metrics else None
    calibrated = (
        f"\nThe decoder's standard deviation is {metrics['decoder_std']:.3f}, pixels in [-1, 1]. The logarithm of a "
        "density may be positive, so\ndistortion and total may be negative.\n"
        if "decoder_std" in metrics
        else ""
    )
    rows = "\n".join([row(f"**{bundle.id}**", metrics), *_others(bundle, recipe)])
    return f"""## Figures

{f"**{rough}**{chr(10)}{chr(10)}" if rough else ""}\
Of the {data.title(bundle.dataset)} test set, which training never saw, measured on the ONNX files of this folder.
Distortion, rate and total are nats per image, lower is better, with one draw from each posterior. mse, psnr and ssim
are of images decoded from mu, pixels in [0, 1]. `python -m training evaluate` measures all of them again.

| | distortion | rate | total | mse | psnr (dB) | ssim | latents in use |
|---|---|---|---|---|---|---|---|
{rows}

The importance-weighted estimate of -log p(x), of {draws:,} draws an image and in the units of the total, is
{metrics["nll"]:.2f}.
{calibrated}{_refined(recipe, metrics)}"""


def _refined(recipe: Recipe, metrics: dict[str, float]) -> str:
    """What the refinement of the posteriors is, what it gains and what it costs."""
    if not recipe.refinement_steps:
        return ""
    size, draws = recipe.refinement_step_size, recipe.refinement_draws
    speed, unrefined = metrics[figures.SPEED], metrics[figures.SPEED_UNREFINED]
    return f"""
The encoder's graph refines each posterior in {recipe.refinement_steps} steps of size {size:g} along the natural
gradient of distortion + rate, with {draws} fixed draws in each (Kim et al. 2018, Semi-Amortized Variational
Autoencoders; Marino et al. 2018, Iterative Amortized Inference). Without it, with the same weights, the total is
{metrics[figures.TOTAL_UNREFINED]:.2f}. Its price is speed: one thread of the machine that exported it encodes
**{speed:,.0f}** images a second, and {unrefined:,.0f} without it. The decoder is as fast as before.
"""


def _others(bundle: Contract, recipe: Recipe) -> list[str]:
    """Lines of the table for what the bundle can be compared with."""
    rows = []
    if notebook := notebook_run(recipe):
        rows.append(row(f"recipe `{NOTEBOOK_RUN.stem}`, trained by this code", notebook))
    if recipe.objective == "squared-error":
        if recipe.dataset == "mnist":
            printed = [batch / NOTEBOOK_BATCH for batch in NOTEBOOK_PRINTED]
            rows.append(
                f"| the reference notebook, as it printed: single validation batches of {NOTEBOOK_BATCH} images "
                f"| | | {min(printed):.1f} to {max(printed):.1f} | | | | |"
            )
        rows.append(
            f"| the best linear model with {bundle.latent_dim} latents (probabilistic PCA of the training images, "
            f"closed form) | | | {bundle.metrics['linear_total']:.2f} | | | | |"
        )
    return rows


def latents() -> str:
    """The map of the latents and the traversals."""
    return f"""## Latents

![The test set's mu in the plane of its two principal directions]({LATENTS})

![Traversals of the latents that vary most]({TRAVERSALS})

*The first test image. In each row one latent goes from -3 to 3. The latent that varies most comes first.*
"""


def training(bundle: Contract, recipe: Recipe, *, has_curves: bool) -> str:
    """The command that trains the model, the main values of its recipe, and the curves."""
    averaged = (
        f"weights averaged with a decay of {recipe.averaging_decay:g} per step"
        if recipe.averaging_decay
        else "weights not averaged"
    )
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
    extended = (
        f" The run was extended: it had {' and then '.join(map(str, recipe.extended_from))} epochs before."
        if recipe.extended_from
        else ""
    )
    device = bundle.tools.get("device", "cpu")
    return f"""## How it was trained

    {commands.reproduce(recipe, device)}

{began}{recipe.epochs} epochs of batches of {recipe.batch_size}; Adam, {recipe.schedule} learning rate, at most
{recipe.learning_rate:g}{further}; {averaged}; matrix products in {recipe.precision}; seed {recipe.seed}. The last
{recipe.validation_size:,} training images were used only for validation.{extended} `model.json` has the whole recipe,
the versions of the tools and the commit of the code.
{f"{chr(10)}![Distortion, rate and total over epochs]({CURVES}){chr(10)}" if has_curves else ""}"""


def tensors(bundle: Contract) -> str:
    """The inputs and outputs of the graphs."""
    images = f"[N, {', '.join(map(str, bundle.image_shape))}]"
    codes = f"[N, {bundle.latent_dim}]"
    return f"""## Tensors

| graph | input | output |
|---|---|---|
| `encoder.onnx` | `image` uint8 {images} | `mu`, `logvar` float32 {codes} |
| `decoder.onnx` | `z` float32 {codes} | `image` uint8 {images}; `x_hat` float32 {images} in [-1, 1] |

Scaling from and to grey levels is inside the graphs. They draw no random numbers: z = mu + exp(logvar / 2) * noise is
for the caller to compute. `golden.npz` has a few test images with the outputs that PyTorch gave, `prior.npz` the
aggregate prior, `statistics.npz` what `/score` compares an image with.
"""


def limits(bundle: Contract, recipe: Recipe) -> str:
    """What the model cannot do."""
    blurred = (
        "- The fixed variance of 1/2 in [-1, 1] is far more noise than these pictures have, so the model pays for\n"
        "  every detail it encodes: reconstructions are blurred.\n"
        if recipe.objective == "squared-error"
        else ""
    )
    return f"""## Limits

{blurred}- It knows {data.title(bundle.dataset)} as it is, upright and centred. It also gives an answer for any other
  picture.
- Some samples show nothing that can be named: see the grids, from which nothing was left out.
"""


def row(name: str, metrics: dict[str, Any]) -> str:
    """A line of the table of figures. A figure that an older report does not have stays empty."""
    ssim = f"{metrics['ssim']:.3f}" if "ssim" in metrics else ""
    return (
        f"| {name} | {metrics['distortion']:.2f} | {metrics['rate']:.2f} | {metrics['total']:.2f} | "
        f"{metrics['mse']:.5f} | {metrics['psnr']:.2f} | {ssim} | {metrics['active_units']:.0f} |"
    )


def notebook_run(recipe: Recipe) -> dict[str, float] | None:
    """The figures of the run of the notebook's settings, if they can be compared with the recipe's."""
    report = json.loads(NOTEBOOK_RUN.read_text())
    other = recorded(report["recipe"], "The recorded recipe")
    comparable = (other.dataset, other.objective) == (recipe.dataset, recipe.objective) and other.name != recipe.name
    return report["metrics"] if comparable else None
