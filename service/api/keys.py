"""API keys: who may use the service, from a file that can be changed while it runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from service.errors import CannotStart, Unauthorized

log = logging.getLogger(__name__)

# How often, in seconds, the file's age is looked at, at most. A key that was taken out works for so much longer.
LOOK_SECONDS: Final = 1.0


class Keys:
    """The keys in a file, one a line; blank lines and those that begin with # are none. No file, no keys needed."""

    def __init__(self, file: Path | None) -> None:
        """Raises CannotStart when there is to be a file, and it cannot be read or holds no key."""
        self._file = file
        self._digests: tuple[bytes, ...] = ()
        self._look: tuple[int, int, int] | None = None
        self._next = 0.0
        if file is not None:
            check_file(file)
            self._read(file)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Unauthorized unless `Authorization: Bearer KEY` or `X-API-Key: KEY` has one of the keys.

        Every key is compared, whole, in constant time: how long it takes says nothing about any.
        """
        if self._file is None:
            return
        self._refresh(self._file)
        sent = headers.get(b"x-api-key")
        if sent is None:
            scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                raise Unauthorized("An API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY.")
        digest = hashlib.sha256(sent.strip()).digest()
        known = [hmac.compare_digest(digest, other) for other in self._digests]
        if not any(known):
            raise Unauthorized("The API key is not one of this service's.")

    def _refresh(self, file: Path) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_SECONDS
        try:
            self._read(file)
        except OSError as error:
            log.error("The file of API keys cannot be read (%s); the keys of before stay.", error.strerror)

    def _read(self, file: Path) -> None:
        stat = file.stat()
        look = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if look == self._look:
            return
        self._digests = tuple(hashlib.sha256(key).digest() for key in _keys(file))
        self._look = look
        if self._digests:
            log.info("%d API keys.", len(self._digests))
        else:
            log.warning("%s holds no API key any more: every request that needs one is refused.", file.absolute())


def check_file(file: Path) -> None:
    """Raise CannotStart when a file of keys cannot be read, or holds no key, so that nobody could use the service."""
    try:
        found = _keys(file)
    except OSError as error:
        raise CannotStart(
            f"The file of API keys {file.absolute()} cannot be read ({error.strerror}): "
            "set VAE_API_KEYS_FILE to a file with one key per line, or leave it unset to need no key."
        ) from error
    if not found:
        raise CannotStart(
            f"The file of API keys {file.absolute()} holds no key: write one per line into it, "
            "or leave VAE_API_KEYS_FILE unset to need no key."
        )


def _keys(file: Path) -> list[bytes]:
    lines = [line.strip() for line in file.read_bytes().splitlines()]
    return [line for line in lines if line and not line.startswith(b"#")]
