"""The models of the protocol: what each takes and gives, as metadata and configuration say it.

A bundle `mnist-mlp` is five of them: both graphs, `mnist-mlp.encoder` and `mnist-mlp.decoder`, and three verbs, with
pictures as they are in files, `mnist-mlp.encode`, `mnist-mlp.reconstruct` and `mnist-mlp.sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from service.api.open_inference.tensors import Datatype, Tensor
from service.contract import IMAGE, LOGVAR, MU, X_HAT, Contract, Z
from service.errors import Unknown
from service.inference.registry import Model, Registry

PICTURES: Final = "pictures"
COUNT: Final = "n"
MSE: Final = "mse"


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the models that a bundle is. `parameters` are those of a request that mean something to it."""

    name: str
    takes: Callable[[Contract], Tensor]
    gives: Callable[[Contract], tuple[Tensor, ...]]
    platform: str = "onnxruntime_onnx"
    parameters: frozenset[str] = frozenset()


def _images(contract: Contract, name: str = IMAGE, datatype: Datatype = "UINT8") -> Tensor:
    return Tensor(name, datatype, (-1, *contract.image_shape))


def _latents(contract: Contract, *names: str) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, "FP32", (-1, contract.latent_dim)) for name in names)


def _files(_: Contract) -> Tensor:
    return Tensor(PICTURES, "BYTES", (-1,))


_VERB: Final = "vae_service"
_OF_SAMPLES: Final = frozenset({"seed", "temperature", "label", "prior"})

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("encoder", _images, lambda contract: _latents(contract, MU, LOGVAR)),
        Kind(
            "decoder",
            lambda contract: _latents(contract, Z)[0],
            lambda contract: (_images(contract), _images(contract, X_HAT, "FP32")),
        ),
        Kind("encode", _files, lambda contract: _latents(contract, MU, LOGVAR), _VERB, frozenset({"preprocess"})),
        Kind(
            "reconstruct",
            _files,
            lambda contract: (_images(contract), *_latents(contract, MU, LOGVAR), Tensor(MSE, "FP32", (-1,))),
            _VERB,
            frozenset({"preprocess"}),
        ),
        Kind(
            "sample",
            lambda _: Tensor(COUNT, "INT64", (1,)),
            lambda contract: (_images(contract), *_latents(contract, Z)),
            _VERB,
            _OF_SAMPLES,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of the protocol in one version. `name` is its whole name, as in `mnist-mlp.encoder`."""

    name: str
    kind: Kind
    model: Model

    @property
    def contract(self) -> Contract:
        """The contract of its bundle."""
        return self.model.engine.contract

    @property
    def version(self) -> str:
        """Its version, as the protocol has it."""
        return str(self.contract.version)

    @property
    def takes(self) -> Tensor:
        """Its one input."""
        return self.kind.takes(self.contract)

    @property
    def gives(self) -> tuple[Tensor, ...]:
        """Its outputs."""
        return self.kind.gives(self.contract)


def find(registry: Registry, name: str, version: str | None = None) -> ServedModel:
    """The model of this name: the version asked for, or the highest. Raises Unknown."""
    bundle, _, kind = name.rpartition(".")
    if kind not in KINDS or "@" in bundle:
        raise Unknown(f"There is no model {name[:80]!r}; the names are those of a bundle, then .{', .'.join(KINDS)}.")
    if version is None:
        return ServedModel(name, KINDS[kind], registry.find(bundle))
    try:
        return ServedModel(name, KINDS[kind], registry.find(f"{bundle}@{version}"))
    except Unknown as error:
        raise Unknown(f"There is no version {version[:20]!r} of a model {name[:80]!r}.") from error


def served(registry: Registry) -> Iterator[ServedModel]:
    """Every model of the protocol, in every version."""
    for model in registry:
        for kind in KINDS.values():
            yield ServedModel(f"{model.engine.contract.name}.{kind.name}", kind, model)


def metadata(registry: Registry, found: ServedModel) -> dict[str, object]:
    """The metadata of a model: its versions, its input and its outputs."""
    return {
        "name": found.name,
        "versions": [each.version for each in served(registry) if each.name == found.name],
        "platform": found.kind.platform,
        "inputs": [found.takes.document()],
        "outputs": [tensor.document() for tensor in found.gives],
    }


def configuration(found: ServedModel, max_batch: int) -> dict[str, object]:
    """The configuration of a model, in the form of Triton's ModelConfig. It has the sides of one image or latent."""
    batched = found.takes.shape[0] == -1
    onnx = found.kind.platform.startswith("onnx")
    return {
        "name": found.name,
        "platform": found.kind.platform,
        "backend": "onnxruntime" if onnx else found.kind.platform,
        "max_batch_size": max_batch if batched else 0,
        "input": [_configured(found.takes, batched)],
        "output": [_configured(tensor, batched) for tensor in found.gives],
        "version_policy": {"all": {}},
        "dynamic_batching": {},
    }


def _configured(tensor: Tensor, batched: bool) -> dict[str, object]:
    kind = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
    return {"name": tensor.name, "data_type": kind, "dims": list(tensor.shape[1:] if batched else tensor.shape)}
