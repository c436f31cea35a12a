"""A server that hands requests on to the service, except for the next ones of a list: each is answered as that says."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

# What may be done with a request in place of handing it on.
DROP = "drop"  # close the connection without an answer
CUT = "cut"  # close it in the middle of the answer
HANG = "hang"  # never answer
DRAINING = "draining"  # 503, to be tried again at once
LOST = "lost"  # 500 of a proxy that has lost the service, as Ray Serve says it
CLOSED = "closed"  # 503, and no word of when to try again
NOT_OURS = "not ours"  # 200 of a server that is not the service

_PROBLEM = (
    b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "Later.", "request_id": "r"}'
)


class FaultyServer(ThreadingHTTPServer):
    """In a thread, on a port that the system chooses. `faults` are used up from the front.

    `heads` and `bodies` are those of all requests, `connections` how many there were. With a barrier in `gate`, each
    request waits until it is full.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = port
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.gate: threading.Barrier | None = None
        self.over = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultyServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        self.server.bodies.append(body)
        if self.server.gate is not None:
            self.server.gate.wait()
        fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault == HANG:
            self.server.over.wait()
        if fault in (DROP, HANG):
            self.close_connection = True
        elif fault == DRAINING:
            self._answer(503, {"content-type": "application/problem+json", "retry-after": "0"}, _PROBLEM)
        elif fault == LOST:
            self._answer(500, {"content-type": "text/plain"}, b"Internal Server Error")
        elif fault == CLOSED:
            self._answer(503, {"content-type": "text/html"}, b"<p>Closed")
        elif fault == NOT_OURS:
            self._answer(200, {"content-type": "text/html"}, b"<p>Welcome")
        else:
            self._hand_on(body, cut=fault == CUT)

    do_GET = do_POST  # noqa: N815  # the name is http.server's

    def _hand_on(self, body: bytes, *, cut: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        kept = {name: value for name, value in answer.getheaders() if name.lower() != "content-length"}
        self._answer(answer.status, kept, content, cut=cut)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut or self.close_connection

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""
