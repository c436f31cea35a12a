"""What licences the packages have, by their metadata, and which of them this project may depend on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution
from typing import Final

from packaging.utils import canonicalize_name

# SPDX identifiers of what may be used: permissive licences, and MPL-2.0, which binds only its own files.
# "BSD" is no identifier: it is what packages say that do not say which of the BSD licences they mean.
ALLOWED: Final = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "LLVM-exception",
        "MIT",
    ),
    *("MIT-CMU", "MPL-2.0", "PSF-2.0", "ZPL-2.1", "Zlib"),
}

# What packages without an SPDX expression write, in lower case and without "license".
NAMES: Final = {
    "3-clause bsd": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd": "BSD",
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "isc": "ISC",
    "isc  (iscl)": "ISC",
    "mit": "MIT",
    "mit or apache-2.0": "MIT OR Apache-2.0",
    "mozilla public  2.0 (mpl 2.0)": "MPL-2.0",
    "mpl-2.0": "MPL-2.0",
    "mpl-2.0 and mit": "MPL-2.0 AND MIT",
    "python software foundation": "PSF-2.0",
}

# Packages whose metadata say nothing, by the licence files that they come with.
BY_FILE: Final = {
    "axe-playwright-python": "MIT AND MPL-2.0",  # MPL: axe.min.js
}


@dataclass(frozen=True, order=True)
class Package:
    """An installed package. `licence` is an SPDX expression, or None if its metadata say nothing that is known."""

    name: str
    version: str
    licence: str | None

    @property
    def allowed(self) -> bool:
        """Whether every licence that the expression names is allowed, also where it offers a choice."""
        return self.licence is not None and set(re.findall(r"[\w.-]+", self.licence)) - {"AND", "OR", "WITH"} <= ALLOWED


def read(distribution: Distribution) -> Package:
    """The package, with its licence by `License-Expression` (PEP 639), the older fields, or `BY_FILE`."""
    metadata = distribution.metadata
    name = canonicalize_name(metadata["Name"])
    (expression,) = metadata.get_all("License-Expression") or (None,)
    if expression is None:
        classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or () if "License" in text]
        said = [*(metadata.get_all("License") or ()), *classifiers]
        known = [NAMES[name] for name in map(_plain, said) if name in NAMES]
        expression = known[0] if known else BY_FILE.get(name)
    return Package(name, distribution.version, expression)


def table(packages: Iterable[Package]) -> str:
    """The packages as a table in Markdown."""
    rows = [f"| {package.name} | {package.version} | {package.licence or 'unknown'} |" for package in sorted(packages)]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows]) + "\n"


def _plain(text: str) -> str:
    return text.strip().lower().replace("license", "").strip()
