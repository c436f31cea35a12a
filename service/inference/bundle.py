"""A bundle on disk, read once: `models/<name>/<version>/`, every file checked against its SHA-256.

The engine opens the same bytes that were hashed, so a later change of a file on disk has no effect here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from service import contract as names
from service.contract import Contract
from service.errors import BundleRefused, BundleUnreadable, Unknown
from service.inference.files import MAX_BUNDLE_BYTES, MAX_CONTRACT_BYTES, read_arrays, read_regular
from service.inference.prior import AggregatePrior, read_prior
from service.inference.statistics import Statistics, read_statistics


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
    statistics: Statistics | None
    card: str


def read_bundle(folder: Path) -> Bundle:
    """Read `<models>/<name>/<version>` and check everything that can be checked without onnxruntime.

    Raises BundleRefused, with one sentence, when a file is missing, too large, does not match its SHA-256, or
    contradicts the contract; BundleUnreadable when that may be the fault of the moment.
    """
    place = f"{folder.parent.name}/{folder.name}"
    text = _read(folder, names.CONTRACT_FILE, MAX_CONTRACT_BYTES)
    try:
        contract = Contract.from_json(text)
    except ValueError as error:
        raise BundleRefused(f"{place}: {names.CONTRACT_FILE}: {error}.") from error
    if (contract.name, str(contract.version)) != (folder.parent.name, folder.name):
        raise BundleRefused(f"{place}: {names.CONTRACT_FILE} says that it is {contract.name}/{contract.version}.")

    files = {}
    left = MAX_BUNDLE_BYTES
    for name, digest in contract.files.items():
        data = _read(folder, name, left)
        left -= len(data)
        if hashlib.sha256(data).hexdigest() != digest:
            raise BundleRefused(f"{place}: {name} is not the file that {names.CONTRACT_FILE} has the SHA-256 of.")
        if name in _USED:
            files[name] = data
    prior = read_prior(place, files[names.PRIOR_FILE], contract) if names.PRIOR_FILE in files else None
    statistics = files.get(names.STATISTICS_FILE)
    return Bundle(
        contract,
        files[names.ENCODER_FILE],
        files[names.DECODER_FILE],
        _golden(place, files[names.GOLDEN_FILE], contract),
        prior,
        None if statistics is None else read_statistics(place, statistics, contract, prior),
        files[names.CARD_FILE].decode("utf-8", "replace"),
    )


def read_again(folder: Path, contract: Contract, name: str, hold: Callable[[int], None]) -> bytes:
    """A file of the bundle in `folder`, one of `contract.files`, checked against its SHA-256 as at the opening.

    `hold` reserves memory for so many bytes before they are read, and this raises what it raises. Raises Unknown when
    the folder does not have that file any more.
    """
    changed = Unknown(f"{name} of {contract.id} is not there any more as it was when the model was opened.")
    try:
        size = (folder / name).stat().st_size
        hold(size)
        data = read_regular(folder / name, size)
    except (OSError, ValueError) as error:
        raise changed from error
    if hashlib.sha256(data).hexdigest() != contract.files[name]:
        raise changed
    return data


_USED: Final = (*names.REQUIRED_FILES, names.PRIOR_FILE, names.STATISTICS_FILE)


def _read(folder: Path, name: str, most: int) -> bytes:
    place = f"{folder.parent.name}/{folder.name}"
    try:
        return read_regular(folder / name, most)
    except OSError as error:
        raise BundleUnreadable(f"{place}: {name} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise BundleRefused(f"{place}: {name} {error}.") from error


def _golden(place: str, data: bytes, contract: Contract) -> Golden:
    refused = BundleRefused(f"{place}: {names.GOLDEN_FILE} does not hold the arrays of a self-test.")
    arrays = (names.IMAGE, names.MU, names.LOGVAR, names.Z, names.GOLDEN_DECODED)
    try:
        golden = Golden(*read_arrays(data, arrays))
    except ValueError as error:
        raise refused from error
    if not golden.image.shape:
        raise refused
    count = len(golden.image)
    images = (np.dtype(np.uint8), (count, *contract.image_shape))
    latents = (np.dtype(np.float32), (count, contract.latent_dim))
    expected = {"image": images, "mu": latents, "logvar": latents, "z": latents, "decoded": images}
    if count == 0 or any(
        (array.dtype, array.shape) != kind for name, kind in expected.items() for array in [getattr(golden, name)]
    ):
        raise refused
    return golden
