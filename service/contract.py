"""The model contract: what `training` writes into a bundle and `service` demands of it.

A bundle is the folder `models/<name>/<version>/`. Both sides read the names below and nothing else of each
other, so this module uses the standard library only. Tensors, N being the batch:

    encoder.onnx   image uint8 [N, *image_shape] -> mu, logvar float32 [N, latent_dim]
    decoder.onnx   z float32 [N, latent_dim]     -> image uint8 [N, *image_shape], x_hat float32 in [-1, 1], same shape
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

CONTRACT_VERSION: Final = 1

# Files of a bundle. Every other file in `Contract.files` is hashed too (the card and its pictures).
CONTRACT_FILE: Final = "model.json"
ENCODER_FILE: Final = "encoder.onnx"
DECODER_FILE: Final = "decoder.onnx"
GOLDEN_FILE: Final = "golden.npz"
PRIOR_FILE: Final = "prior.npz"  # optional
STATISTICS_FILE: Final = "statistics.npz"  # optional
MAP_FILE: Final = "map.json"  # optional; the service hands it out and does not read it
CARD_FILE: Final = "README.md"
REQUIRED_FILES: Final = (ENCODER_FILE, DECODER_FILE, GOLDEN_FILE, CARD_FILE)

# Tensors of the graphs. `golden.npz` holds `image`, `mu`, `logvar`, `z` under the same names, and as `decoded` the
# uint8 image that PyTorch decoded from `z`.
IMAGE: Final = "image"
MU: Final = "mu"
LOGVAR: Final = "logvar"
Z: Final = "z"
X_HAT: Final = "x_hat"
GOLDEN_DECODED: Final = "decoded"

# Arrays of `prior.npz`, a mixture of K Gaussians over L latents for each of G labels: the labels, int64 [G]; each one's
# share of the images, float32 [G]; and weights [G, K], means [G, K, L] and cholesky [G, K, L, L], float32.
PRIOR_LABELS: Final = "labels"
PRIOR_SHARES: Final = "shares"
PRIOR_WEIGHTS: Final = "weights"
PRIOR_MEANS: Final = "means"
PRIOR_CHOLESKY: Final = "cholesky"
PRIOR_ARRAYS: Final = (PRIOR_LABELS, PRIOR_SHARES, PRIOR_WEIGHTS, PRIOR_MEANS, PRIOR_CHOLESKY)

# Arrays of `statistics.npz`, float32, of the test set unless something else is said. For each of L latents: the mean of
# its part of the rate, and mean and standard deviation of mu, [L]. What typicality needs: for each of K Gaussians over
# the latents, mean [K, 2] and lower triangular factor of the covariance [K, 2, 2] of the terms log(1 + squared error)
# and log(1 + rate) of the training images that belong to it; and Q quantiles of the surprisal, ascending, [Q], at the
# probabilities (i + 1/2) / Q. The Gaussians are those of `prior.npz`, labels in order, or where there is none a single
# one with mean `mu_mean` and standard deviations `mu_std`. `variance` [] is that of the objective's Gaussian, for
# pixels in [-1, 1]; 0 where the objective has none.
STATISTICS_RATE: Final = "rate"
STATISTICS_MU_MEAN: Final = "mu_mean"
STATISTICS_MU_STD: Final = "mu_std"
STATISTICS_TERM_MEANS: Final = "term_means"
STATISTICS_TERM_CHOLESKY: Final = "term_cholesky"
STATISTICS_SURPRISALS: Final = "surprisals"
STATISTICS_VARIANCE: Final = "variance"
STATISTICS_ARRAYS: Final = (
    STATISTICS_RATE,
    STATISTICS_MU_MEAN,
    STATISTICS_MU_STD,
    STATISTICS_TERM_MEANS,
    STATISTICS_TERM_CHOLESKY,
    STATISTICS_SURPRISALS,
    STATISTICS_VARIANCE,
)

# Members of `map.json`, latents of N test images in a plane: `mean`, L numbers; `project` and `lift`, two lists of L
# each: a latent z is at project (z - mean), and a place p stands for mean + p lift; `mu`, int8 [N, L] in base64, row by
# row, in units of `scale`, L numbers; and `labels`, N integers.
MAP_MEAN: Final = "mean"
MAP_PROJECT: Final = "project"
MAP_LIFT: Final = "lift"
MAP_SCALE: Final = "scale"
MAP_MU: Final = "mu"
MAP_LABELS: Final = "labels"

# The objectives whose terms the service can compute.
SQUARED_ERROR: Final = "squared-error"
CALIBRATED: Final = "calibrated"
BERNOULLI: Final = "bernoulli"
OBJECTIVES: Final = (SQUARED_ERROR, CALIBRATED, BERNOULLI)

# A probability that is read off x_hat in float32 counts as at least this.
LEAST_PROBABILITY: Final = 1e-6

# Beyond the last quantile of the surprisal, typicality falls exponentially, by a factor of e for each `scale`: the mean
# excess of the surprisals over their quantile of this probability.
TAIL: Final = 0.9

# How far a runtime may be from PyTorch: at export, on the machine that exports; at load, on any machine or provider,
# where float32 sums are taken in another order. Images may differ by one grey level: values lie on rounding edges.
EXPORT_TOLERANCE: Final = 1e-5
GOLDEN_TOLERANCE: Final = 1e-4
GREY_LEVEL_TOLERANCE: Final = 1

# The largest magnitude of a latent that a decoder has to take. Latents of images are about 1, and products of larger
# numbers may overflow.
LATENT_LIMIT: Final = 1e6

# The largest sharpness and temperature that a bundle or a request may have. At a sharpness of 8 almost two of three
# grey levels become black or white.
SHARPNESS_LIMIT: Final = 8.0
TEMPERATURE_LIMIT: Final = 100.0

NAME_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,63}"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Contract:
    """What `model.json` says of a bundle.

    `identity` is the SHA-256 of the weights; both graphs carry it, so an encoder never meets a stranger's decoder.
    `image_shape` is (height, width) for grey or (height, width, 3) for colour images; `background` is the grey level
    (0 to 255) of empty paper in the data set. `files` maps each other file of the bundle to its SHA-256, and is empty
    only while an exporter still writes them. `label_names` has a name for each label 0, 1, 2, ... in order; where the
    labels have no names it is empty, and `model.json` leaves it out. `sharpness` (see `tone_curve`; 1 to
    SHARPNESS_LIMIT) and `temperature` (0 to TEMPERATURE_LIMIT) are the defaults of samples; `model.json` leaves out
    those that are 1.
    """

    name: str
    version: int
    identity: str
    dataset: str
    image_shape: tuple[int, ...]
    background: int
    latent_dim: int
    objective: str
    recipe: dict[str, Any]
    metrics: dict[str, float]
    files: dict[str, str]
    tools: dict[str, str]
    git_commit: str
    contract_version: int = CONTRACT_VERSION
    label_names: tuple[str, ...] = ()
    sharpness: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError, in one sentence, for a value that no bundle may have."""
        checks = {
            f"name {self.name!r} is not like {NAME_PATTERN}": re.fullmatch(NAME_PATTERN, self.name),
            f"version {self.version} is not a positive integer": self.version >= 1,
            f"identity {self.identity!r} is not a SHA-256": _SHA256.fullmatch(self.identity),
            f"image_shape {list(self.image_shape)} is neither [height, width] nor [height, width, 3]": (
                all(side >= 1 for side in self.image_shape)
                and (len(self.image_shape) == 2 or self.image_shape[2:] == (3,))
            ),
            f"background {self.background} is not a grey level": 0 <= self.background <= 255,
            f"latent_dim {self.latent_dim} is not a positive integer": self.latent_dim >= 1,
            "files names something that is not a plain file name with a SHA-256": all(
                re.fullmatch(r"[\w-][\w.-]*", name) and name != CONTRACT_FILE and _SHA256.fullmatch(digest)
                for name, digest in self.files.items()
            ),
            "label_names has an empty name or one twice": (
                all(self.label_names) and len(set(self.label_names)) == len(self.label_names)
            ),
            f"sharpness {self.sharpness} is not between 1 and {SHARPNESS_LIMIT:.0f}": (
                1 <= self.sharpness <= SHARPNESS_LIMIT
            ),
            f"temperature {self.temperature} is not between 0 and {TEMPERATURE_LIMIT:.0f}": (
                0 <= self.temperature <= TEMPERATURE_LIMIT
            ),
        }
        for sentence, holds in checks.items():
            if not holds:
                raise ValueError(sentence)

    @property
    def id(self) -> str:
        """`name@version`, as requests and answers spell it."""
        return f"{self.name}@{self.version}"

    @property
    def refinement_draws(self) -> int:
        """How many draws of each image `encoder.onnx` decodes at once to refine its posterior; 0 if it does not."""
        steps, draws = (self.recipe.get(name) for name in ("refinement_steps", "refinement_draws"))
        return draws if type(steps) is int and type(draws) is int and min(steps, draws) > 0 else 0

    def to_json(self) -> str:
        """The text of `model.json`: sorted keys, so that equal contracts are equal bytes."""
        document = asdict(self)
        for field in fields(self):
            if field.name in _OPTIONAL and document[field.name] == field.default:
                del document[field.name]
        return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Contract:
        """Read `model.json`.

        Raises ValueError, in one sentence, when the text is not JSON, a key is missing, unknown or of the wrong type,
        or a value breaks the contract or cannot be written as JSON again.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error
        except RecursionError as error:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep") from error
        if not isinstance(document, dict):
            raise ValueError("not a JSON object")
        _check_values(document)
        if (version := document.get("contract_version")) != CONTRACT_VERSION:
            raise ValueError(f"contract_version is {version!r}, and this code reads {CONTRACT_VERSION}")
        document = _OPTIONAL | document
        known = {field.name for field in fields(cls)}
        if document.keys() != known:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(document.keys() ^ known))}")
        for key, kind in _JSON_KINDS.items():
            if type(document[key]) is not kind and not (kind is float and type(document[key]) is int):
                raise ValueError(f"{key} is not a JSON {_KIND_WORDS[kind]}")
        if not all(type(side) is int for side in document["image_shape"]):
            raise ValueError("image_shape is not a list of integers")
        if not all(type(name) is str for name in document["label_names"]):
            raise ValueError("label_names is not a list of strings")
        for key in ("files", "tools"):
            if not all(type(text) is str for text in document[key].values()):
                raise ValueError(f"{key} is not an object of strings")
        if not all(type(figure) in (int, float) for figure in document["metrics"].values()):
            raise ValueError("metrics is not an object of numbers")
        if not document["files"].keys() >= set(REQUIRED_FILES):
            raise ValueError(f"files lacks one of {', '.join(REQUIRED_FILES)}")
        return cls(**document | {name: tuple(document[name]) for name in ("image_shape", "label_names")})


def _check_values(value: Any, depth: int = 1) -> None:
    """Raise ValueError for a value, at any depth, that Python's parser takes and other JSON does not have."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, str) and _SURROGATE.search(value):
        raise ValueError(f"the string {value[:80]!a} is no text")
    if (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, int) and abs(value) >= _MOST):
        raise ValueError(f"the number {str(value)[:80]} is not finite, or an integer of more than 64 bits")
    if isinstance(value, list | dict):
        for part in value:
            _check_values(part, depth + 1)
    if isinstance(value, dict):
        for part in value.values():
            _check_values(part, depth + 1)


_MAX_DEPTH: Final = 32
_MOST: Final = 2**63
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")

# What `model.json` may leave out, and what that means. Bundles from before a key was there are valid.
_OPTIONAL: Final[dict[str, Any]] = {"label_names": [], "sharpness": 1.0, "temperature": 1.0}
_KIND_WORDS: Final = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
_JSON_KINDS: Final[dict[str, type]] = {
    "name": str,
    "version": int,
    "identity": str,
    "dataset": str,
    "image_shape": list,
    "background": int,
    "latent_dim": int,
    "objective": str,
    "recipe": dict,
    "metrics": dict,
    "files": dict,
    "tools": dict,
    "git_commit": str,
    "contract_version": int,
    "label_names": list,
    "sharpness": float,
    "temperature": float,
}


def graph_metadata(contract: Contract) -> dict[str, str]:
    """The `metadata_props` that both graphs of a bundle carry, word for word; `files` plays no part in them."""
    return {
        "vae.contract_version": str(contract.contract_version),
        "vae.name": contract.name,
        "vae.version": str(contract.version),
        "vae.identity": contract.identity,
        "vae.dataset": contract.dataset,
        "vae.objective": contract.objective,
        "vae.image_shape": ",".join(map(str, contract.image_shape)),
        "vae.latent_dim": str(contract.latent_dim),
        "vae.git_commit": contract.git_commit,
    }


def tone_curve(sharpness: float) -> bytes:
    """The grey level that each of the 256 grey levels becomes, as `bytes.translate` takes it.

    The decoder's activation a is made larger by a factor, the sharpness: with x_hat = tanh(a) in [-1, 1], what becomes
    of it is tanh(sharpness * a). For p = (x_hat + 1) / 2 that is p^s / (p^s + (1 - p)^s). At 1 nothing changes; above
    it dark becomes darker and light lighter. The reason: x_hat is a mean of what an image may be, and a mean of black
    and white is grey, where real strokes are one or the other.
    """
    levels = bytearray(256)
    for level in range(256):
        light, dark = (level / 255) ** sharpness, (1 - level / 255) ** sharpness
        levels[level] = round(255 * light / (light + dark))
    return bytes(levels)
