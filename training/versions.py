"""The versions of a model under models/<name>/: which is free, which is equal to a new one, and how one is written.

A version appears whole, by one rename, and never takes the place of another one unless that is asked for.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from service import contract
from service.contract import Contract
from training import checkpoint, figures, onnx_graph
from training.errors import ExportError, VersionTaken


def existing(folder: Path) -> list[int]:
    """The versions under models/<name>, highest first. Whatever has such a name counts, also a damaged bundle."""
    if not folder.is_dir():
        return []
    found = [int(path.name) for path in folder.iterdir() if re.fullmatch(r"[1-9][0-9]*", path.name)]
    return sorted(found, reverse=True)


def next_free(folder: Path) -> int:
    """The version after the highest one under models/<name>, or 1."""
    return max(existing(folder), default=0) + 1


def refuse_taken(folder: Path) -> None:
    """Raise VersionTaken, in one sentence, when models/<name>/<version> exists."""
    if folder.exists():
        raise VersionTaken(
            f"{folder} exists: leave out --version to take the next free one, or add --overwrite to replace it."
        )


_MEASURED = {contract.STATISTICS_FILE, contract.MAP_FILE}


def find_same(folder: Path, bundle: Contract, encoder: bytes, decoder: bytes) -> Path | None:
    """The version under models/<name> that is the same bundle as this one, the highest of several, or None.

    Bundles are the same when they have the same weights, graphs (without their metadata, which names the version and
    the commit), data set, names of labels and defaults of samples, and the same figures within the tolerance of
    `training.figures`. One without statistics or map, as older code wrote them, is another bundle.
    """
    for version in existing(folder):
        path = folder / str(version)
        try:
            other = Contract.from_json((path / contract.CONTRACT_FILE).read_bytes())
            if other.identity != bundle.identity or not other.files.keys() >= _MEASURED:
                continue
            if figures.differing(other.metrics, bundle.metrics):
                continue
            facts = [
                (each.dataset, each.image_shape, each.background, each.label_names, each.sharpness, each.temperature)
                for each in (other, bundle)
            ]
            files = (path / contract.ENCODER_FILE).read_bytes(), (path / contract.DECODER_FILE).read_bytes()
        except (OSError, ValueError):
            continue
        bare = [onnx_graph.with_metadata(graph, {}) for graph in (*files, encoder, decoder)]
        if facts[0] == facts[1] and bare[:2] == bare[2:]:
            return path
    return None


def publish(files: dict[str, bytes], folder: Path, *, overwrite: bool) -> None:
    """Make `folder` hold exactly these files, at once or not at all.

    With `overwrite` an existing folder is moved away by one rename, and the new one takes its place by the next one; a
    folder with equal files is left alone. Without it, raises VersionTaken when the folder exists, even when it appeared
    at the last moment.
    """
    if overwrite and folder.exists() and _contents(folder) == files:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # On the same file system, and with a name that is no version.
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new, old = temporary / "new", temporary / "old"
        _write(files, new)
        if overwrite and folder.exists():
            folder.rename(old)
        try:
            _rename(new, folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
        checkpoint.sync_directory(folder.parent)
    finally:
        shutil.rmtree(temporary)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _write(files: dict[str, bytes], folder: Path) -> None:
    """Write files into a new folder and wait until the disk has them."""
    folder.mkdir()
    for name, content in files.items():
        with (folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    checkpoint.sync_directory(folder)


def _rename(new: Path, folder: Path) -> None:
    """Rename a folder; the kernel refuses to when the new name belongs to a folder that has files."""
    try:
        new.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        refuse_taken(folder)
        raise ExportError(f"{folder} cannot be written: {error.strerror}.") from error
