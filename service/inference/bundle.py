"""A bundle on disk, read once: `models/<name>/<version>/`, every file checked against its SHA-256.

The engine opens the same bytes that were hashed, so a later change of a file on disk has no effect here.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service import contract as names
from service.contract import Contract
from service.errors import BundleRefused
from service.inference.prior import AggregatePrior, read_prior


@dataclass(frozen=True, slots=True)
class Golden:
    """The self-test: inputs and the outputs of PyTorch for them. K images, L latents.

    `image` uint8 [K, *image_shape] -> `mu`, `logvar` float32 [K, L]; `z` float32 [K, L] -> `decoded` uint8
    [K, *image_shape].
    """

    image: npt.NDArray[np.uint8]
    mu: npt.NDArray[np.float32]
    logvar: npt.NDArray[np.float32]
    z: npt.NDArray[np.float32]
    decoded: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A complete bundle in memory. Its hashes are verified; the graphs are not opened yet."""

    contract: Contract
    encoder: bytes
    decoder: bytes
    golden: Golden
    prior: AggregatePrior | None
    card: str


def read_bundle(folder: Path) -> Bundle:
    """Read `<models>/<name>/<version>` and check everything that can be checked without onnxruntime.

    Raises BundleRefused, with one sentence, when a file is missing, does not match its SHA-256, or contradicts the
    contract.
    """
    place = f"{folder.parent.name}/{folder.name}"
    try:
        contract = Contract.from_json(_read(folder, names.CONTRACT_FILE))
    except ValueError as error:
        raise BundleRefused(f"{place}: {names.CONTRACT_FILE}: {error}.") from error
    if (contract.name, str(contract.version)) != (folder.parent.name, folder.name):
        raise BundleRefused(f"{place}: {names.CONTRACT_FILE} says that it is {contract.name}/{contract.version}.")

    files = {name: _read(folder, name) for name in contract.files}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != contract.files[name]:
            raise BundleRefused(f"{place}: {name} is not the file that {names.CONTRACT_FILE} has the SHA-256 of.")
    return Bundle(
        contract,
        files[names.ENCODER_FILE],
        files[names.DECODER_FILE],
        _golden(place, files[names.GOLDEN_FILE], contract),
        read_prior(place, files[names.PRIOR_FILE], contract) if names.PRIOR_FILE in files else None,
        files[names.CARD_FILE].decode("utf-8", "replace"),
    )


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleRefused(f"{folder.parent.name}/{folder.name}: {name} cannot be read ({error.strerror}).") from error


def _golden(place: str, data: bytes, contract: Contract) -> Golden:
    refused = BundleRefused(f"{place}: {names.GOLDEN_FILE} does not hold the arrays of a self-test.")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            golden = Golden(
                image=arrays[names.IMAGE],
                mu=arrays[names.MU],
                logvar=arrays[names.LOGVAR],
                z=arrays[names.Z],
                decoded=arrays[names.GOLDEN_DECODED],
            )
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise refused from error
    count = len(golden.image)
    images = (np.dtype(np.uint8), (count, *contract.image_shape))
    latents = (np.dtype(np.float32), (count, contract.latent_dim))
    expected = {"image": images, "mu": latents, "logvar": latents, "z": latents, "decoded": images}
    if count == 0 or any(
        (array.dtype, array.shape) != kind for name, kind in expected.items() for array in [getattr(golden, name)]
    ):
        raise refused
    return golden
