"""A client that sends just the bytes it is told to, and reads what comes back, answer by answer."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

SECONDS = 60  # an upper limit, below the default keep-alive time: an answer that is not there by then never comes


@dataclass(frozen=True)
class Answer:
    """An answer as it came: names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says, if it is JSON."""
        return json.loads(self.body)


def request(
    path: str = "/encode",
    body: bytes | None = b"",
    media_type: str | bytes = "application/json",
    *lines: bytes,
    method: str = "POST",
) -> bytes:
    """A request's bytes; `lines` are more header fields, as raw as they come. Without a body, no length is said."""
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost"]
    if body is not None:
        media_type = media_type.encode() if isinstance(media_type, str) else media_type
        head += [b"Content-Type: " + media_type, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, *lines, b"", b""]) + (body or b"")


class Connection:
    """One connection to a server on this machine."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        """Connect. With a small `receive_buffer`, in bytes, most of a long answer waits at the server to be read."""
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.stream = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes, as many of them as the server takes before it closes the connection."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what it answered before is still to be read
            self.socket.sendall(data)

    def answer(self) -> Answer | None:
        """The next answer that is not an interim one; None when the server has closed the connection instead."""
        try:
            line = self.stream.readline()
            if not line:
                return None
            status = int(line.split()[1])
            headers = {}
            while field := self.stream.readline().rstrip(b"\r\n"):
                name, _, value = field.decode("latin-1").partition(": ")
                headers[name.lower()] = value
            body = self.stream.read(int(headers.get("content-length", 0)))
        except ConnectionResetError:
            return None
        return Answer(status, headers, body) if status >= 200 else self.answer()

    def answers(self) -> list[Answer]:
        """All answers until the server closes the connection."""
        return list(iter(self.answer, None))

    def ask(self, data: bytes) -> Answer:
        """Send one request and give its answer."""
        self.send(data)
        answer = self.answer()
        assert answer is not None, "closed without an answer"
        return answer
