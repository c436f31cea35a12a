"""The folder of bundles, `models/<name>/<version>/`, seen from outside: which bundles it has, and whether they changed.

Nothing here opens a bundle.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from service.errors import CannotStart

# Name, size, time of change and inode of each file of a bundle. A bundle has changed when any of them has.
Fingerprint = tuple[tuple[str, int, int, int], ...]

_MOST_NAMED: Final = 10  # bundles that one sentence names


def bundles(folder: Path, pins: Iterable[str]) -> Iterator[Path]:
    """The bundles in the folder, in order of name; with `pins`, only those that one of them names."""
    wanted = set(pins)
    for bundle in sorted(folder.glob("*/*/")):
        if not bundle.name.isascii() or not bundle.name.isdecimal() or bundle.name.startswith("0"):
            continue
        if not wanted or _names(bundle) & wanted:
            yield bundle


def fingerprint(bundle: Path) -> Fingerprint:
    """What the bundle's files look like now."""
    try:
        files = sorted(bundle.iterdir())
        return tuple(
            (file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for file in files for stat in [file.stat()]
        )
    except OSError:  # it is changing right now, and will be looked at again
        return ()


def check(folder: Path, default: str, pins: Sequence[str]) -> None:
    """Raise CannotStart unless the folder has the default model and everything that `pins` names.

    `default` and `pins` are "name" or "name@version". Whether the bundles can be served, only opening them shows.
    """
    place = folder.absolute()
    _check_readable(place)
    found = list(bundles(folder, ()))
    if not found:
        raise CannotStart(
            f"There is no model in {place}: set VAE_MODELS_DIR to a folder that holds models as NAME/VERSION/."
        )
    for pin in pins:
        if not any(pin in _names(bundle) for bundle in found):
            raise CannotStart(f"VAE_MODELS names {pin}, which is not in {place}: set it to some of {_listed(found)}.")
    if not any(default in _names(bundle) for bundle in found):
        raise CannotStart(
            f"The default model {default} is not in {place}: set VAE_DEFAULT_MODEL to one of {_listed(found)}, "
            "or VAE_MODELS_DIR to another folder."
        )
    pinned = list(bundles(folder, pins))
    if not any(default in _names(bundle) for bundle in pinned):
        raise CannotStart(
            f"VAE_MODELS leaves out the default model {default}: add it there, "
            f"or set VAE_DEFAULT_MODEL to one of {_listed(pinned)}."
        )


def _check_readable(folder: Path) -> None:
    try:
        os.scandir(folder).close()
    except FileNotFoundError as error:
        raise CannotStart(
            f"There is no folder {folder}: set VAE_MODELS_DIR to the folder of models; "
            "a relative path begins at the working directory."
        ) from error
    except NotADirectoryError as error:
        raise CannotStart(f"{folder} is not a folder: set VAE_MODELS_DIR to the folder of models.") from error
    except OSError as error:
        raise CannotStart(
            f"The folder of models {folder} cannot be read ({error.strerror}): give this user the right to read it, "
            "or set VAE_MODELS_DIR to another one."
        ) from error


def _names(bundle: Path) -> set[str]:
    """What a reference to this bundle may look like."""
    return {bundle.parent.name, f"{bundle.parent.name}@{bundle.name}"}


def _listed(found: Sequence[Path]) -> str:
    names = [f"{bundle.parent.name}@{bundle.name}" for bundle in found]
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
