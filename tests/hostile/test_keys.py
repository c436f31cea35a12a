"""Files of API keys as editors and scripts leave them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.connection import Connection, request
from harness.servers import Server, wait_for

# 422 with a key, and 401 without one.
REQUEST = "/sample", b'{"n": 0}', "application/json"


def status(server: Server, key: str) -> int:
    with Connection(server.port) as connection:
        return connection.ask(request(*REQUEST, f"X-API-Key: {key}".encode())).status


def test_a_byte_order_mark_and_a_change_that_only_the_content_shows(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("first-key\n", "utf-8-sig")
    server, before = start(api_keys_file=file), file.stat()
    assert (status(server, "first-key"), status(server, "third-key")) == (422, 401)
    file.write_text("third-key\n", "utf-8-sig")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    wait_for(lambda: status(server, "third-key") == 422)
    assert status(server, "first-key") == 401
