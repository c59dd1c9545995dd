from __future__ import annotations

import errno
import socket
import sys
from contextlib import ExitStack

import pytest

from uait.server import bind
from uait.server.sockets import address_of, tune

has_ipv6 = False
try:
    with socket.create_server(("::1", 0), family=socket.AF_INET6):
        has_ipv6 = True
except OSError:
    pass

needs_ipv6 = pytest.mark.skipif(not has_ipv6, reason="this machine has no IPv6")


@needs_ipv6
def test_localhost_is_both_loopback_addresses_on_one_free_port() -> None:
    with ExitStack() as stack:
        v4, v6 = (stack.enter_context(sock) for sock in bind("localhost", 0))
        assert (v4.getsockname()[0], v6.getsockname()[0]) == ("127.0.0.1", "::1")
        assert v4.getsockname()[1] == v6.getsockname()[1] > 0
        assert v6.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        assert [sock.getblocking() for sock in (v4, v6)] == [False, False]
        assert address_of(v6) == f"http://[::1]:{v6.getsockname()[1]}"


@needs_ipv6
def test_a_free_port_that_is_taken_on_the_other_address_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket.bind
    refused = []

    class Socket(socket.socket):
        def bind(self, address: object) -> None:
            if self.family is socket.AF_INET6 and len(refused) < 3:
                refused.append(address)
                raise OSError(errno.EADDRINUSE, "taken")
            real(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", Socket)
    with ExitStack() as stack:
        v4, v6 = (stack.enter_context(sock) for sock in bind("localhost", 0))
        assert v4.getsockname()[1] == v6.getsockname()[1]
    assert len(refused) == 3


@pytest.mark.parametrize("missing", ["family", "address"])
def test_a_machine_without_ipv6_listens_on_ipv4_alone(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    class Socket(socket.socket):
        def __init__(self, family: int = -1, *args: object, **kwargs: object) -> None:
            if missing == "family" and family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no such family")
            super().__init__(family, *args, **kwargs)  # type: ignore[arg-type]

        def bind(self, address: object) -> None:
            if self.family is socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "no such address")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", Socket)
    (only,) = bind("localhost", 0)
    with only:
        assert only.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in bind("localhost", 0)]
        port = sockets[0].getsockname()[1]
        with pytest.raises(OSError) as caught:
            bind("localhost", port)
        assert caught.value.errno == errno.EADDRINUSE
    for sock in bind("localhost", port):  # free again at once: nothing was left, and TIME_WAIT does not matter
        sock.close()


@needs_ipv6
def test_a_fixed_port_that_only_ipv6_has_taken_is_an_error() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        with pytest.raises(OSError) as caught:
            bind("localhost", taken.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_is_taken_as_it_is(host: str) -> None:
    (only,) = bind(host, 0)
    with only:
        assert only.getsockname()[0] == host


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(OSError):
        bind("no such host.invalid", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
def test_accepted_connections_inherit_the_bound_on_silence() -> None:
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        tune(listener, 12.5)
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12500
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
