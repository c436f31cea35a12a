"""The sockets that the service listens on, and what to set if an address cannot be used."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from service.errors import CannotStart

# The number of connections that may wait to be accepted: uvicorn's default.
BACKLOG: Final = 2048

_ADVICE: Final = {
    errno.EADDRINUSE: "stop what listens there, or set VAE_PORT to a free port",
    errno.EACCES: "set VAE_PORT to 1024 or more, or give the process the right to use this port",
    errno.EADDRNOTAVAIL: "set VAE_HOST to an address of this machine, or to 0.0.0.0 for all of them",
}


def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`. With port 0 they share one port that the system chooses.

    Connections are refused until `listen` is called. Raises CannotStart.
    """
    bound: list[socket.socket] = []
    failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, address in _look_up(host, port):
        try:
            bound.append(_bound(family, (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise _refused(host, port, error) from error
            failure = error  # a name may also have an IPv6 address on a machine without IPv6
        else:
            port = bound[0].getsockname()[1]
    if not bound:
        raise _refused(host, port, failure)
    return bound


def listen(sockets: Sequence[socket.socket]) -> None:
    """Accept connections from now on. Raises CannotStart if another process has started to listen before."""
    for listener in sockets:
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise _refused(host, port, error) from error


def _look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # UnicodeError: the name is too long
        raise CannotStart(
            f"VAE_HOST={host} is neither an address nor a known name: set it to an address of this machine, "
            "or to 0.0.0.0 for all of them."
        ) from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 addresses get their own sockets
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def url(host: str, port: int) -> str:
    """The URL of an HTTP server."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _refused(host: str, port: int, error: OSError) -> CannotStart:
    advice = _ADVICE.get(error.errno or 0, "set VAE_HOST and VAE_PORT")
    return CannotStart(f"Cannot listen on {url(host, port)} ({error.strerror}): {advice}.")
