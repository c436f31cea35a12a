"""The models of the protocol: what each takes and gives, as metadata and configuration say it.

A bundle `mnist-mlp` is five of them: both graphs, `mnist-mlp.encoder` and `mnist-mlp.decoder`, and three verbs, with
pictures as they are in files, `mnist-mlp.encode`, `mnist-mlp.reconstruct` and `mnist-mlp.sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from service.api.open_inference.tensors import Datatype, Tensor
from service.contract import IMAGE, LOGVAR, MU, X_HAT, Contract, Z
from service.errors import Unknown
from service.inference.registry import Model, Registry

Shape = tuple[int, ...]

PICTURES: Final = "pictures"
COUNT: Final = "n"
MSE: Final = "mse"


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the models that a bundle is. `parameters` are those of a request that mean something to it.

    `takes` and `gives` are its input and its outputs, for an image's shape and a number of latents.
    """

    name: str
    takes: Callable[[Shape, int], Tensor]
    gives: Callable[[Shape, int], tuple[Tensor, ...]]
    platform: str = "onnxruntime_onnx"
    parameters: frozenset[str] = frozenset()


def _images(shape: Shape, name: str = IMAGE, datatype: Datatype = "UINT8") -> Tensor:
    return Tensor(name, datatype, (-1, *shape))


def _latents(latent_dim: int, *names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, "FP32", (-1, latent_dim)) for name in names)


_FILES: Final = Tensor(PICTURES, "BYTES", (-1,))


_VERB: Final = "vae_service"
_OF_SAMPLES: Final = frozenset({"seed", "temperature", "label", "prior"})

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
            lambda _, latent_dim: _latents(latent_dim, MU, LOGVAR),
            _VERB,
            frozenset({"preprocess"}),
        ),
        Kind(
            "reconstruct",
            lambda *_: _FILES,
            lambda shape, latent_dim: (_images(shape), *_latents(latent_dim, MU, LOGVAR), Tensor(MSE, "FP32", (-1,))),
            _VERB,
            frozenset({"preprocess"}),
        ),
        Kind(
            "sample",
            lambda *_: Tensor(COUNT, "INT64", (1,)),
            lambda shape, latent_dim: (_images(shape), *_latents(latent_dim, Z)),
            _VERB,
            _OF_SAMPLES,
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
        return _served(name, kind, registry.find(bundle))
    try:
        return _served(name, kind, registry.find(f"{bundle}@{version}"))
    except Unknown as error:
        raise Unknown(f"There is no version {version[:20]!r} of a model {name[:80]!r}.") from error


def served(registry: Registry) -> Iterator[ServedModel]:
    """Every model of the protocol, in every version."""
    for model in registry:
        for kind in KINDS:
            yield _served(f"{model.engine.contract.name}.{kind}", kind, model)


def metadata(registry: Registry, found: ServedModel) -> dict[str, object]:
    """The metadata of a model: its versions, its input and its outputs."""
    return {
        "name": found.name,
        "versions": [each.version for each in served(registry) if each.name == found.name],
        "platform": found.signature.kind.platform,
        "inputs": [found.signature.takes.document()],
        "outputs": [tensor.document() for tensor in found.signature.gives],
    }


def configuration(found: ServedModel, max_batch: int) -> dict[str, object]:
    """The configuration of a model, in the form of Triton's ModelConfig. It has the sides of one image or latent."""
    batched = found.signature.takes.shape[0] == -1
    onnx = found.signature.kind.platform.startswith("onnx")
    return {
        "name": found.name,
        "platform": found.signature.kind.platform,
        "backend": "onnxruntime" if onnx else found.signature.kind.platform,
        "max_batch_size": max_batch if batched else 0,
        "input": [_configured(found.signature.takes, batched)],
        "output": [_configured(tensor, batched) for tensor in found.signature.gives],
        "version_policy": {"all": {}},
        "dynamic_batching": {},
    }


def _served(name: str, kind: str, model: Model) -> ServedModel:
    contract = model.engine.contract
    return ServedModel(_signature(name, kind, contract.image_shape, contract.latent_dim), model)


@lru_cache(maxsize=1024)  # names are those of bundles
def _signature(name: str, kind: str, shape: Shape, latent_dim: int) -> Signature:
    return Signature(name, KINDS[kind], KINDS[kind].takes(shape, latent_dim), KINDS[kind].gives(shape, latent_dim))


def _configured(tensor: Tensor, batched: bool) -> dict[str, object]:
    kind = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
    return {"name": tensor.name, "data_type": kind, "dims": list(tensor.shape[1:] if batched else tensor.shape)}
