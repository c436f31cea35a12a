"""Errors in the form of the protocol: `{"error": "..."}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

_ROOT: Final = "/v2"


def is_spoken(path: str) -> bool:
    """Whether a path, or a route's template, is of the protocol."""
    return path == _ROOT or path.startswith(_ROOT + "/")


def error_document(detail: str, faults: Sequence[tuple[str, str]]) -> bytes:
    """The body of the answer. `faults` are JSON pointers with reasons; without any, `detail` says what is wrong."""
    sentence = " ".join(f"{pointer}: {reason}" if pointer else reason for pointer, reason in faults) or detail
    return orjson.dumps({"error": sentence})
