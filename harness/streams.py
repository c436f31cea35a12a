"""A client of streams: it sends a body in pieces, and reads the lines of the answer meanwhile."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from harness.connection import SECONDS, Connection

NDJSON: Final = "application/x-ndjson"
FORM: Final[Mapping[str, str]] = {"Content-Type": "multipart/form-data; boundary=b", "Accept": NDJSON}
FORM_END: Final = b"--b--\r\n"


class Stream:
    """One stream on a connection, sent in chunks (RFC 9112, section 7.1)."""

    def __init__(
        self,
        connection: Connection | int,
        path: str = "/encode",
        headers: Mapping[str, str] | None = None,
        *,
        receive_buffer: int | None = None,
    ) -> None:
        """Send the head, on a connection or on a new one to a port."""
        self.connection = (
            Connection(connection, receive_buffer=receive_buffer) if isinstance(connection, int) else connection
        )
        lines = {"Content-Type": NDJSON, "Transfer-Encoding": "chunked", "Host": "localhost"} | dict(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.socket.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode())
        self._answer: http.client.HTTPResponse | None = None

    @property
    def socket(self) -> socket.socket:
        """The connection's."""
        return self.connection.socket

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        if self._answer is not None:
            self._answer.close()
        self.connection.__exit__()

    def send(self, *pieces: bytes) -> None:
        """Send pieces of the body, a chunk each."""
        for piece in pieces:
            self.socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> None:
        """Send the end of the body."""
        self.socket.sendall(b"0\r\n\r\n")

    def send_all(self, pieces: Iterable[bytes]) -> threading.Thread:
        """Send the whole body in a thread of its own. It stops when the connection ends."""

        def send() -> None:
            try:
                self.send(*pieces)
                self.end()
            except OSError:
                pass

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        return sending

    @property
    def answer(self) -> http.client.HTTPResponse:
        """The answer, when its head is here."""
        if self._answer is None:
            self.socket.settimeout(SECONDS)
            self._answer = http.client.HTTPResponse(self.socket, method="POST")
            self._answer.begin()
        return self._answer

    def pieces(self) -> Iterator[bytes]:
        """The answer's body as it comes. Raises http.client.IncompleteRead where it was cut."""
        while piece := self.answer.read1(2**18):
            yield piece

    def lines(self) -> Iterator[Any]:
        """What each line of the answer says. Raises as `pieces`."""
        rest = b""
        for piece in self.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(json.loads, lines)
        if rest:
            raise ValueError(f"The answer ends in a line: {rest!r}")


def part(file: bytes, name: str | None = None) -> bytes:
    """A part of a multipart form with a picture."""
    said = b"" if name is None else b'; filename="%b"' % name.encode()
    return b'--b\r\nContent-Disposition: form-data; name="images"%b\r\n\r\n%b\r\n' % (said, file)
