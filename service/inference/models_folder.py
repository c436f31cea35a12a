"""The folder of bundles, `models/<name>/<version>/`: which bundles it has, and whether they have changed.

Nothing here opens a bundle.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from service.contract import NAME_PATTERN
from service.errors import CannotStart

# Name, size, times of change, inode and error of each entry of a bundle. A bundle has changed when any of them has.
Fingerprint = tuple[tuple[str | int | None, ...], ...]

ROOT: Final = "."  # the place of the folder of models itself

_MAX_LISTED: Final = 10  # bundles that one sentence names
_VERSION: Final = re.compile(r"[1-9][0-9]*")
_GONE: Final = (errno.ENOENT, errno.ENOTDIR)

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Look:
    """What there was at one moment: each bundle that could be read, and why each other folder could not.

    `unreadable` has places: ROOT, "name" or "name/version". What is in such a folder is not known.
    """

    fingerprints: dict[Path, Fingerprint]
    unreadable: dict[str, str]

    def hides(self, bundle: Path) -> bool:
        """Whether it is not known if this bundle is there, and how."""
        name = bundle.parent.name
        return not self.unreadable.keys().isdisjoint((ROOT, name, f"{name}/{bundle.name}"))


def look(folder: Path, selected: Iterable[str]) -> Look:
    """Look at the bundles in the folder, in order; if `selected` is not empty, only at those that it names."""
    found, unreadable = _bundles(folder, selected)
    fingerprints = {}
    for bundle in found:
        place = f"{bundle.parent.name}/{bundle.name}"
        seen = _unless_unreadable(fingerprint, bundle, place, unreadable)
        if seen is not None:
            fingerprints[bundle] = seen
    return Look(fingerprints, unreadable)


def fingerprint(bundle: Path) -> Fingerprint:
    """The state of a bundle's entries now. Raises OSError when they cannot be listed."""
    with os.scandir(bundle) as entries:
        return tuple(_state(entry) for entry in sorted(entries, key=lambda entry: entry.name))


def _state(entry: os.DirEntry[str]) -> tuple[str | int | None, ...]:
    try:
        stat = entry.stat()
    except OSError as error:  # such as a link to nothing: the fault of this entry alone
        return entry.name, error.errno
    return entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _bundles(folder: Path, selected: Iterable[str]) -> tuple[list[Path], dict[str, str]]:
    """The bundles, ordered by path, and why what cannot be read cannot."""
    wanted = set(selected)
    names_wanted = {reference.partition("@")[0] for reference in wanted}
    found: list[Path] = []
    unreadable: dict[str, str] = {}
    for name in _unless_unreadable(_folders, folder, ROOT, unreadable) or ():
        if not wanted or name in names_wanted:
            told = unreadable if re.fullmatch(NAME_PATTERN, name) else {}  # not of a folder such as lost+found
            versions = _unless_unreadable(_folders, folder / name, name, told) or ()
            bundles = (folder / name / version for version in versions if _VERSION.fullmatch(version))
            found += [bundle for bundle in bundles if not wanted or _names(bundle) & wanted]
    return found, unreadable


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _may_be_folder(entry))


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself: listing it says what is wrong
        return True


def _unless_unreadable(
    read: Callable[[Path], Found], folder: Path, place: str, unreadable: dict[str, str]
) -> Found | None:
    """What `read` finds in the folder, or None. Why a folder that is there cannot be read is added to `unreadable`."""
    try:
        return read(folder)
    except OSError as error:
        if place == ROOT or error.errno not in _GONE:  # the folder of models is never simply gone
            what = "The folder of models" if place == ROOT else f"{place}: the folder"
            unreadable[place] = f"{what} cannot be read ({error.strerror})."
        return None


def check(folder: Path, default: str, selected: Sequence[str]) -> None:
    """Raise CannotStart if the folder lacks the default model or one that `selected` names.

    `default` and `selected` are "name" or "name@version". Only opening the bundles shows whether they can be served.
    """
    place = folder.absolute()
    _check_readable(place)
    found, unreadable = _bundles(folder, ())
    why = "".join(f" {reason}" for reason in unreadable.values())
    if not found:
        raise CannotStart(
            f"There is no model in {place}: set VAE_MODELS_DIR to a folder that holds models as NAME/VERSION/.{why}"
        )
    for reference in selected:
        if not any(reference in _names(bundle) for bundle in found):
            raise CannotStart(
                f"VAE_MODELS names {reference}, which is not in {place}: set it to some of {_listed(found)}.{why}"
            )
    if not any(default in _names(bundle) for bundle in found):
        raise CannotStart(
            f"The default model {default} is not in {place}: set VAE_DEFAULT_MODEL to one of {_listed(found)}, "
            f"or VAE_MODELS_DIR to another folder.{why}"
        )
    served, _ = _bundles(folder, selected)
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
