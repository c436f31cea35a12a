"""The folder of bundles, `models/<name>/<version>/`: which bundles it has, and whether they have changed.

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

_MAX_LISTED: Final = 10  # bundles that one sentence names


def bundles(folder: Path, selected: Iterable[str]) -> Iterator[Path]:
    """The bundles in the folder, ordered by path; if `selected` is not empty, only those that it names."""
    wanted = set(selected)
    for bundle in sorted(folder.glob("*/*/")):
        if not bundle.name.isascii() or not bundle.name.isdecimal() or bundle.name.startswith("0"):
            continue
        if not wanted or _names(bundle) & wanted:
            yield bundle


def fingerprint(bundle: Path) -> Fingerprint:
    """The state of a bundle's files now."""
    try:
        files = sorted(bundle.iterdir())
        return tuple(
            (file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for file in files for stat in [file.stat()]
        )
    except OSError:  # it is being changed; the next look will find it
        return ()


def check(folder: Path, default: str, selected: Sequence[str]) -> None:
    """Raise CannotStart if the folder lacks the default model or one that `selected` names.

    `default` and `selected` are "name" or "name@version". Only opening the bundles shows whether they can be served.
    """
    place = folder.absolute()
    _check_readable(place)
    found = list(bundles(folder, ()))
    if not found:
        raise CannotStart(
            f"There is no model in {place}: set VAE_MODELS_DIR to a folder that holds models as NAME/VERSION/."
        )
    for reference in selected:
        if not any(reference in _names(bundle) for bundle in found):
            raise CannotStart(
                f"VAE_MODELS names {reference}, which is not in {place}: set it to some of {_listed(found)}."
            )
    if not any(default in _names(bundle) for bundle in found):
        raise CannotStart(
            f"The default model {default} is not in {place}: set VAE_DEFAULT_MODEL to one of {_listed(found)}, "
            "or VAE_MODELS_DIR to another folder."
        )
    served = list(bundles(folder, selected))
    if not any(default in _names(bundle) for bundle in served):
        raise CannotStart(
            f"VAE_MODELS leaves out the default model {default}: add it there, "
            f"or set VAE_DEFAULT_MODEL to one of {_listed(served)}."
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
    """The references that mean this bundle."""
    return {bundle.parent.name, f"{bundle.parent.name}@{bundle.name}"}


def _listed(found: Sequence[Path]) -> str:
    names = [f"{bundle.parent.name}@{bundle.name}" for bundle in found]
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
