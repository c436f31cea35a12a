"""Small random bundles of any shape, for tests of sizes, colour, corruption and versions."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from service import contract as names
from service.contract import Contract, graph_metadata


def write_bundle(
    models: Path,
    name: str = "tiny",
    version: int = 1,
    *,
    image_shape: tuple[int, ...] = (6, 4),
    latent_dim: int = 3,
    background: int = 0,
    seed: int = 0,
    prior: bool = False,
    objective: str = "none",
    statistics: bool = False,
) -> Path:
    """Write a bundle with random weights to `models/name/version` and return that folder.

    With `prior` it has one: of labels 1 and 4, two Gaussians each. With `statistics` it has those, too, made up.
    """
    folder = models / name / str(version)
    folder.mkdir(parents=True)
    pixels = int(np.prod(image_shape))
    draw = np.random.Generator(np.random.PCG64(seed)).standard_normal
    into = draw((pixels, 2 * latent_dim), np.float32) / np.float32(pixels)
    out = draw((latent_dim, pixels), np.float32)
    contract = Contract(
        name=name,
        version=version,
        identity=hashlib.sha256(into.tobytes() + out.tobytes()).hexdigest(),
        dataset="noise",
        image_shape=image_shape,
        background=background,
        latent_dim=latent_dim,
        objective=objective,
        recipe={},
        metrics={"total": 1.0},
        files={},
        tools={},
        git_commit="unknown",
    )
    (folder / names.ENCODER_FILE).write_bytes(_encoder(contract, into))
    (folder / names.DECODER_FILE).write_bytes(_decoder(contract, out))
    if prior:
        np.savez(folder / names.PRIOR_FILE, **mixtures(latent_dim, seed))  # type: ignore[arg-type]
    if statistics:
        arrays = made_up_statistics(latent_dim, 4 if prior else 1)
        np.savez(folder / names.STATISTICS_FILE, **arrays)  # type: ignore[arg-type]
    (folder / names.CARD_FILE).write_text(f"# {contract.id}\n")

    image = np.random.Generator(np.random.PCG64(seed + 1)).integers(0, 256, (4, *image_shape), np.uint8)
    hidden = (image.reshape(4, -1).astype(np.float32) * np.float32(2 / 255) - 1) @ into
    mu, logvar = hidden[:, :latent_dim], hidden[:, latent_dim:]
    x_hat = np.tanh(mu @ out)
    decoded = ((x_hat + 1) * np.float32(127.5)).round().clip(0, 255).astype(np.uint8).reshape(image.shape)
    arrays = {
        names.IMAGE: image,
        names.MU: mu,
        names.LOGVAR: logvar,
        names.Z: mu,
        names.GOLDEN_DECODED: decoded,
    }
    np.savez(folder / names.GOLDEN_FILE, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for options
    seal(folder, contract)
    return folder


def mixtures(latent_dim: int, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a prior.npz: Gaussians so far apart that a draw shows which of them it is from."""
    draw = np.random.Generator(np.random.PCG64(seed + 2)).standard_normal
    return {
        names.PRIOR_LABELS: np.array([1, 4]),
        names.PRIOR_SHARES: np.array([0.75, 0.25], np.float32),
        names.PRIOR_WEIGHTS: np.array([[0.5, 0.5], [0.9, 0.1]], np.float32),
        names.PRIOR_MEANS: np.array([[10], [20], [30], [40]], np.float32).repeat(latent_dim, 1).reshape(2, 2, -1),
        names.PRIOR_CHOLESKY: np.tril(draw((2, 2, latent_dim, latent_dim), np.float32) / 4),
    }


def made_up_statistics(latent_dim: int, components: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a statistics.npz for so many Gaussians over the latents."""
    return {
        names.STATISTICS_RATE: np.arange(latent_dim, dtype=np.float32) % 3,
        names.STATISTICS_MU_MEAN: np.zeros(latent_dim, np.float32),
        names.STATISTICS_MU_STD: np.ones(latent_dim, np.float32),
        names.STATISTICS_TERM_MEANS: np.full((components, 2), 2, np.float32),
        names.STATISTICS_TERM_CHOLESKY: np.tile(np.eye(2, dtype=np.float32), (components, 1, 1)),
        names.STATISTICS_SURPRISALS: np.linspace(0, 20, 100, dtype=np.float32),
        names.STATISTICS_VARIANCE: np.full((), 0.5, np.float32),
    }


def seal(folder: Path, contract: Contract | None = None, **claims: Any) -> None:
    """Write `model.json` with the present hashes of the files. `claims` replace its own fields."""
    path = folder / names.CONTRACT_FILE
    document = json.loads(path.read_text()) if contract is None else asdict(contract)
    files = sorted(file.name for file in folder.iterdir() if file.name != names.CONTRACT_FILE)
    hashes = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}
    path.write_text(json.dumps(document | {"files": hashes} | claims))


def _encoder(contract: Contract, weights: npt.NDArray[np.float32]) -> bytes:
    pixels = weights.shape[0]
    return _graph(
        contract,
        [
            helper.make_node("Cast", [names.IMAGE], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["float", "flat"], ["x"]),
            helper.make_node("Mul", ["x", "scale"], ["scaled"]),
            helper.make_node("Sub", ["scaled", "one"], ["centred"]),
            helper.make_node("MatMul", ["centred", "weights"], ["hidden"]),
            helper.make_node("Split", ["hidden"], [names.MU, names.LOGVAR], axis=1, num_outputs=2),
        ],
        {names.IMAGE: (TensorProto.UINT8, contract.image_shape)},
        dict.fromkeys((names.MU, names.LOGVAR), (TensorProto.FLOAT, (contract.latent_dim,))),
        {
            "flat": np.array([-1, pixels], np.int64),
            "scale": np.float32(2 / 255),
            "one": np.float32(1),
            "weights": weights,
        },
    )


def _decoder(contract: Contract, weights: npt.NDArray[np.float32]) -> bytes:
    return _graph(
        contract,
        [
            helper.make_node("MatMul", [names.Z, "weights"], ["hidden"]),
            helper.make_node("Tanh", ["hidden"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], [names.X_HAT]),
            helper.make_node("Add", [names.X_HAT, "one"], ["shifted"]),
            helper.make_node("Mul", ["shifted", "half"], ["grey"]),
            helper.make_node("Round", ["grey"], ["rounded"]),
            helper.make_node("Clip", ["rounded", "black", "white"], ["clipped"]),
            helper.make_node("Cast", ["clipped"], [names.IMAGE], to=TensorProto.UINT8),
        ],
        {names.Z: (TensorProto.FLOAT, (contract.latent_dim,))},
        {
            names.IMAGE: (TensorProto.UINT8, contract.image_shape),
            names.X_HAT: (TensorProto.FLOAT, contract.image_shape),
        },
        {
            "weights": weights,
            "shape": np.array([-1, *contract.image_shape], np.int64),
            "one": np.float32(1),
            "half": np.float32(127.5),
            "black": np.float32(0),
            "white": np.float32(255),
        },
    )


def _graph(
    contract: Contract,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, tuple[int, ...]]],
    outputs: dict[str, tuple[int, tuple[int, ...]]],
    constants: dict[str, Any],
) -> bytes:
    takes, gives = (
        [helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, contract.name, takes, gives, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, graph_metadata(contract))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
