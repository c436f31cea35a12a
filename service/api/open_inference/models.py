"""The models of the protocol: what each takes and gives, as metadata and configuration say it.

A bundle `mnist-mlp` is six of them: both graphs, `mnist-mlp.encoder` and `mnist-mlp.decoder`, and four verbs, with
pictures as they are in files, `mnist-mlp.encode`, `mnist-mlp.reconstruct`, `mnist-mlp.score` and `mnist-mlp.sample`.
There is no score of a bundle without statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from pydantic import BaseModel

from service.api.open_inference.tensors import Datatype, Tensor
from service.api.schemas import ImageOptions, ReconstructOptions, SampleRequest, ScoreOptions
from service.contract import IMAGE, LOGVAR, MU, X_HAT, Contract, Z
from service.errors import Unknown
from service.inference.registry import Model, Registry

Shape = tuple[int, ...]

PICTURES: Final = "pictures"
COUNT: Final = "n"
MSE: Final = "mse"
LOG_LIKELIHOOD: Final = "log_likelihood"
SCORES: Final = ("distortion", "rate", "elbo", "typicality", LOG_LIKELIHOOD)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the models that a bundle is.

    `takes` and `gives` are its input and its outputs, for an image's shape and a number of latents. `parameters` are
    those of a request that mean something to it, with what they mean. `needs` are outputs that come only with a
    parameter, and that parameter.
    """

    name: str
    takes: Callable[[Shape, int], Tensor]
    gives: Callable[[Shape, int], tuple[Tensor, ...]]
    platform: str = "onnxruntime_onnx"
    parameters: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)


def _images(shape: Shape, name: str = IMAGE, datatype: Datatype = "UINT8") -> Tensor:
    return Tensor(name, datatype, (-1, *shape))


def _latents(latent_dim: int, *names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, "FP32", (-1, latent_dim)) for name in names)


def _numbers(*names: str) -> tuple[Tensor, ...]:
    """One number for each image."""
    return tuple(Tensor(name, "FP32", (-1,)) for name in names)


# Fields of the verbs' forms that are no parameters: the path names the model, `n` is an input, and a preview is JSON.
_NO_PARAMETERS: Final = frozenset({"model", COUNT, "preview"})


def _parameters(form: type[BaseModel]) -> dict[str, str]:
    """The parameters of a verb, by the form that it takes elsewhere, with their descriptions."""
    return {name: each.description or "" for name, each in form.model_fields.items() if name not in _NO_PARAMETERS}


_FILES: Final = Tensor(PICTURES, "BYTES", (-1,))
_VERB: Final = "vae_service"

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("encoder", lambda shape, _: _images(shape), lambda _, latent_dim: _latents(latent_dim, MU, LOGVAR)),
        Kind(
            "decoder",
            lambda _, latent_dim: _latents(latent_dim, Z)[0],
            lambda shape, _: (_images(shape), _images(shape, X_HAT, "FP32")),
        ),
        Kind(
            "encode",
            lambda *_: _FILES,
            lambda _, latent_dim: _latents(latent_dim, MU, LOGVAR, Z),
            _VERB,
            _parameters(ImageOptions),
            {Z: "sample"},
        ),
        Kind(
            "reconstruct",
            lambda *_: _FILES,
            lambda shape, latent_dim: (_images(shape), *_latents(latent_dim, MU, LOGVAR, Z), *_numbers(MSE)),
            _VERB,
            _parameters(ReconstructOptions),
            {Z: "sample"},
        ),
        Kind(
            "score",
            lambda *_: _FILES,
            lambda *_: _numbers(*SCORES),
            _VERB,
            _parameters(ScoreOptions),
            {LOG_LIKELIHOOD: "k"},
        ),
        Kind(
            "sample",
            lambda *_: Tensor(COUNT, "INT64", (1,)),
            lambda shape, latent_dim: (_images(shape), *_latents(latent_dim, Z)),
            _VERB,
            _parameters(SampleRequest),
        ),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What a request to a model is checked against: `name` is the whole name, as in `mnist-mlp.encoder`.

    The model has one input, `takes`, and the outputs `gives`. There is one object for each, so it can be a key.
    """

    name: str
    kind: Kind
    takes: Tensor
    gives: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of the protocol in one version."""

    signature: Signature
    model: Model

    @property
    def name(self) -> str:
        """Its whole name."""
        return self.signature.name

    @property
    def contract(self) -> Contract:
        """The contract of its bundle."""
        return self.model.engine.contract

    @property
    def version(self) -> str:
        """Its version, as the protocol has it."""
        return str(self.contract.version)


def find(registry: Registry, name: str, version: str | None = None) -> ServedModel:
    """The model of this name: the version asked for, or the highest. Raises Unknown."""
    bundle, _, kind = name.rpartition(".")
    if kind not in KINDS or "@" in bundle:
        raise Unknown(f"There is no model {name[:80]!r}; the names are those of a bundle, then .{', .'.join(KINDS)}.")
    if version is None:
        model = registry.find(bundle)
    else:
        try:
            model = registry.find(f"{bundle}@{version}")
        except Unknown as error:
            raise Unknown(f"There is no version {version[:20]!r} of a model {name[:80]!r}.") from error
    if not _has(model, kind):
        raise Unknown(f"There is no model {name!r} of {model.autoencoder.id}: its bundle has no statistics.")
    return _served(name, kind, model)


def served(registry: Registry) -> Iterator[ServedModel]:
    """Every model of the protocol, in every version."""
    for model in registry:
        for kind in KINDS:
            if _has(model, kind):
                yield _served(f"{model.engine.contract.name}.{kind}", kind, model)


def versions(registry: Registry, found: ServedModel) -> list[ServedModel]:
    """A model in every version."""
    return [each for each in served(registry) if each.name == found.name]


def metadata(registry: Registry, found: ServedModel) -> dict[str, object]:
    """The metadata of a model: its versions, its input and its outputs, and what the parameters of a request mean."""
    kind = found.signature.kind
    return {
        "name": found.name,
        "versions": [each.version for each in versions(registry, found)],
        "platform": kind.platform,
        "inputs": [found.signature.takes.document()],
        "outputs": [tensor.document() for tensor in found.signature.gives],
        "properties": dict(kind.parameters),
    }


def configuration(found: ServedModel, max_batch: int) -> dict[str, object]:
    """The configuration of a model, in the form of Triton's ModelConfig. It has the sides of one image or latent."""
    kind, batched = found.signature.kind, found.signature.takes.shape[0] == -1
    return {
        "name": found.name,
        "platform": kind.platform,
        "backend": kind.platform.removesuffix("_onnx"),
        "max_batch_size": max_batch if batched else 0,
        "input": [_configured(found.signature.takes, batched)],
        "output": [_configured(tensor, batched) for tensor in found.signature.gives],
        "version_policy": {"all": {}},
        **({"dynamic_batching": {}} if batched else {}),
        "parameters": {name: {"string_value": meaning} for name, meaning in kind.parameters.items()},
    }


def _has(model: Model, kind: str) -> bool:
    """Whether a bundle is a model of this kind, too."""
    return kind != "score" or model.autoencoder.statistics is not None


def _served(name: str, kind: str, model: Model) -> ServedModel:
    contract = model.engine.contract
    return ServedModel(_signature(name, kind, contract.image_shape, contract.latent_dim), model)


@lru_cache(maxsize=1024)  # names are those of bundles
def _signature(name: str, kind: str, shape: Shape, latent_dim: int) -> Signature:
    return Signature(name, KINDS[kind], KINDS[kind].takes(shape, latent_dim), KINDS[kind].gives(shape, latent_dim))


def _configured(tensor: Tensor, batched: bool) -> dict[str, object]:
    kind = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
    return {"name": tensor.name, "data_type": kind, "dims": list(tensor.shape[1:] if batched else tensor.shape)}
