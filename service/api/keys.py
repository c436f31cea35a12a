"""API keys: who may use the service, from a file that can be changed while it runs."""

from __future__ import annotations

import codecs
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from service.errors import CannotStart, Unauthorized

log = logging.getLogger(__name__)

# How often, in seconds, the file is read, at most. A key that was taken out works for twice as long, at most.
LOOK_SECONDS: Final = 1.0

# A file that was changed less than so many seconds ago may still be being written.
SETTLE_SECONDS: Final = 0.5

# Far more than anybody's keys take. The file is read by requests, so it must be small.
MAX_BYTES: Final = 1024 * 1024


class Keys:
    """The keys in a file, one a line; blank lines and those that begin with # are none. No file, no keys needed."""

    def __init__(self, file: Path | None) -> None:
        """Raises CannotStart when there is to be a file, and it cannot be used or holds no key."""
        self._file = file
        self._digests = () if file is None else check_file(file)
        self._seen = self._digests  # at the last look, in use or not
        self._failure = ""  # of the last look
        self._next = 0.0
        if file is not None:
            log.info("%d API keys.", len(self._digests))

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
            content, settled = _read(file)
            digests = _digests(content)
        except (OSError, ValueError) as error:
            reason = _reason(error)
            if reason != self._failure:  # once, not at every look
                log.error("The file of API keys %s; the keys of before stay.", reason)
            self._failure = reason
            return
        self._failure = ""
        # A file that is rewritten in place is empty or incomplete for a moment.
        if digests != self._digests and (settled or digests == self._seen):
            self._use(digests, file)
        self._seen = digests

    def _use(self, digests: tuple[bytes, ...], file: Path) -> None:
        self._digests = digests
        if digests:
            log.info("%d API keys.", len(digests))
        else:
            log.warning("%s holds no API key any more: every request that needs one is refused.", file.absolute())


def check_file(file: Path) -> tuple[bytes, ...]:
    """The digests of the keys in a file. Raises CannotStart when it cannot be used, or when nobody could use it."""
    try:
        content, _ = _read(file)
        digests = _digests(content)
    except (OSError, ValueError) as error:
        raise CannotStart(
            f"The file of API keys {file.absolute()} {_reason(error)}: "
            "set VAE_API_KEYS_FILE to a file with one key per line, or leave it unset to need no key."
        ) from error
    if not digests:
        raise CannotStart(
            f"The file of API keys {file.absolute()} holds no key: write one per line into it, "
            "or leave VAE_API_KEYS_FILE unset to need no key."
        )
    return digests


def _read(file: Path) -> tuple[bytes, bool]:
    """The content of a file, and whether it has not just been changed. Never waits, whatever kind of file it is.

    Raises OSError, and ValueError for a file that is too large.
    """
    with open(file, "rb", opener=_without_waiting) as opened:
        content = opened.read(MAX_BYTES + 1) or b""
        changed = os.fstat(opened.fileno()).st_ctime
    if len(content) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes")
    return content, time.time() - changed >= SETTLE_SECONDS


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _digests(content: bytes) -> tuple[bytes, ...]:
    """The digest of each key. Raises ValueError when the content is not in an encoding that extends ASCII."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise ValueError("holds zero bytes or is UTF-16 (save it as UTF-8)")
    lines = [line.strip() for line in content.removeprefix(codecs.BOM_UTF8).splitlines()]
    return tuple(hashlib.sha256(line).digest() for line in lines if line and not line.startswith(b"#"))


def _reason(error: OSError | ValueError) -> str:
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
