from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from service import sockets
from service.errors import CannotStart


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_connections_are_refused_until_it_listens() -> None:
    (listener,) = sockets.bind("127.0.0.1", 0)
    with listener:
        address = listener.getsockname()
        assert address[1] != 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)
        sockets.listen([listener])
        socket.create_connection(address, timeout=10).close()


def test_a_name_of_several_addresses_is_bound_on_all_of_them_with_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    listeners = sockets.bind("both", 0)
    names = [listener.getsockname() for listener in listeners]
    for listener in listeners:
        listener.close()
    assert [address for address, _ in names] == ["127.0.0.1", "127.0.0.2"]
    assert names[0][1] == names[1][1] != 0


def test_an_address_that_the_machine_does_not_have_is_left_out_where_a_name_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    (listener,) = sockets.bind("both", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_in_use(taken: int) -> None:
    with pytest.raises(CannotStart) as refused:
        sockets.bind("127.0.0.1", taken)
    assert str(refused.value) == (
        f"Cannot listen on http://127.0.0.1:{taken} (Address already in use): stop what listens there, "
        "or set VAE_PORT to a free port."
    )


def test_a_port_that_another_process_listens_on_first() -> None:
    (first,) = sockets.bind("127.0.0.1", 0)
    (second,) = sockets.bind("127.0.0.1", first.getsockname()[1])  # possible while neither listens
    with first, second:
        sockets.listen([first])
        with pytest.raises(CannotStart, match="Address already in use"):
            sockets.listen([second])


def test_an_address_of_another_machine() -> None:
    with pytest.raises(CannotStart) as refused:
        sockets.bind("192.0.2.1", 8000)  # RFC 5737: an address for documentation
    assert str(refused.value) == (
        "Cannot listen on http://192.0.2.1:8000 (Cannot assign requested address): "
        "set VAE_HOST to an address of this machine, or to 0.0.0.0 for all of them."
    )


def test_a_port_that_needs_a_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(CannotStart) as refused:
        sockets.bind("127.0.0.1", 80)
    assert str(refused.value) == (
        "Cannot listen on http://127.0.0.1:80 (Permission denied): set VAE_PORT to 1024 or more, "
        "or give the process the right to use this port."
    )


@pytest.mark.parametrize("host", ["http://localhost", "127.0.0.1:8000", "256.0.0.1", "x" * 100])
def test_a_host_that_is_neither_an_address_nor_a_name(host: str) -> None:
    with pytest.raises(CannotStart, match="is neither an address nor a known name: set it to an address"):
        sockets.bind(host, 8000)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert sockets.url("::1", 8000) == "http://[::1]:8000"
