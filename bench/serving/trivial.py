"""A server that does next to nothing, to measure the load generators: the same bytes for whatever arrives, no HTTP.

    BENCH_ANSWER_BYTES=500 python -m bench.serving.trivial PORT

Each readable piece counts as one request, which holds for requests of a few hundred bytes that are not pipelined.
"""

from __future__ import annotations

import os
import select
import socket
import sys

BODY = b"0" * int(os.environ.get("BENCH_ANSWER_BYTES", "500"))
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


def main() -> None:
    """Serve until killed."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
    connections: dict[int, socket.socket] = {}
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
                continue
            connection = connections[number]
            try:
                if connection.recv(65536):
                    connection.send(ANSWER)
                    continue
            except ConnectionError:
                pass
            connections.pop(number).close()


if __name__ == "__main__":
    main()
