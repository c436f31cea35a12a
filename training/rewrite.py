"""Bundles that are written again, with something added or measured anew, without training."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from service import contract
from service.contract import Contract
from training import onnx_graph, versions
from training.errors import ExportError


def renumbered(bundle: Contract, files: dict[str, bytes], version: int) -> tuple[Contract, dict[str, bytes]]:
    """The same under another version, which the graphs and the card name, too."""
    found = dataclasses.replace(bundle, version=version)
    metadata = contract.graph_metadata(found)
    graphs = {
        name: onnx_graph.with_metadata(files[name], metadata) for name in (contract.ENCODER_FILE, contract.DECODER_FILE)
    }
    card = files[contract.CARD_FILE].replace(bundle.id.encode(), found.id.encode())
    metrics = found.metrics | {"onnx_bytes": float(sum(map(len, graphs.values())))}
    return dataclasses.replace(found, metrics=metrics), files | graphs | {contract.CARD_FILE: card}


def read(folder: Path) -> tuple[Contract, dict[str, bytes]]:
    """The contract of a bundle and its other files by name.

    Raises ExportError, in one sentence, when they are not those of a bundle with a prior.
    """
    try:
        bundle = Contract.from_json((folder / contract.CONTRACT_FILE).read_bytes())
        files = {name: (folder / name).read_bytes() for name in bundle.files}
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder} is not a bundle: {error}.") from error
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != bundle.files[name]:
            raise ExportError(f"{folder} is damaged: {name} does not have the SHA-256 of {contract.CONTRACT_FILE}.")
    if contract.PRIOR_FILE not in files:
        raise ExportError(f"{folder} has no {contract.PRIOR_FILE}: export its run again.")
    return bundle, files


def publish(bundle: Contract, files: dict[str, bytes], place: Path, *, overwrite: bool = False) -> Path:
    """Write these files as the bundle of this contract under models/<name>, `place`, and return its folder.

    It is the next free version, whose graphs have that version in their metadata, or with `overwrite` its own one.
    """
    if not overwrite:
        bundle, files = renumbered(bundle, files, versions.next_free(place))
    folder = place / str(bundle.version)
    versions.publish(with_contract(bundle, files), folder, overwrite=overwrite)
    return folder


def with_contract(bundle: Contract, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a bundle by name, and its contract with their hashes."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    return files | {contract.CONTRACT_FILE: dataclasses.replace(bundle, files=hashes).to_json().encode()}
