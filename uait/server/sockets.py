"""Listening sockets: bound before anything else runs, and owned by whoever bound them."""

from __future__ import annotations

import errno
import os
import socket
import sys

import trio

LOOPBACK = "localhost"
_ATTEMPTS = 50
_ESTABLISHED = 1  # as Linux counts TCP's states: neither side has ended the connection
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def bind(host: str, port: int, *, backlog: int = 1024) -> list[socket.socket]:
    """Listen on `host` and `port`.

    Args:
        host: an address or a name. "localhost" means 127.0.0.1 and ::1, both on one port number (clients try ::1 first on many machines); ::1 is left out where the machine has
            no IPv6. "::" takes IPv4, too, where the system can.
        port: 0 takes any free port, the same on all addresses.
        backlog: connections that wait in the kernel to be accepted; the system may have a lower bound.

    Returns:
        Listening, non-blocking sockets, which the caller closes.

    Raises:
        OSError: as it comes: the port is taken, the name unknown, the port not allowed. Nothing stays open then.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _bind_all(_addresses(host), port, backlog)
        except _PortTakenElsewhere as taken:
            # The free port of the first address is somebody's on the second one.
            if attempt == _ATTEMPTS - 1:
                raise taken.error from None
    raise AssertionError("unreachable")


class _PortTakenElsewhere(Exception):
    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    if host == LOOPBACK:
        found = [(socket.AF_INET, "127.0.0.1")]
        if socket.has_ipv6:
            found.append((socket.AF_INET6, "::1"))
        return found
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = [
        (family, str(address[0])) for family, _, _, _, address in answers if family in (socket.AF_INET, socket.AF_INET6)
    ]
    return list(dict.fromkeys(addresses))


def _bind_all(addresses: list[tuple[socket.AddressFamily, str]], port: int, backlog: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    chosen = port
    try:
        for family, address in addresses:
            try:
                sock = _listen(family, address, chosen, backlog)
            except OSError as error:
                if sockets and family is socket.AF_INET6 and error.errno in _NO_IPV6:
                    continue
                if port == 0 and chosen and error.errno == errno.EADDRINUSE:
                    raise _PortTakenElsewhere(error) from error
                raise
            sockets.append(sock)
            chosen = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: socket.AddressFamily, address: str, port: int, backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows the option means that others may take the port over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        sock.bind((address, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def tune(sock: socket.socket, send_timeout: float) -> None:
    """Set on a listening socket what every connection accepted from it inherits.

    The system then ends connections whose peer does not acknowledge, or does not open its window, for `send_timeout` seconds (RFC 5482, on Linux), and those whose peer has vanished
    without a word (RFC 9293 section 3.8.4). It does so even where no task of ours waits for them.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(send_timeout * 1000)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)


def address_of(sock: socket.socket, scheme: str = "http") -> str:
    """The base URL that `sock` listens on."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if sock.family is socket.AF_INET6 else f"{scheme}://{host}:{port}"


def has_ended(sock: trio.socket.SocketType) -> bool:
    """Whether the system knows that the client has ended or reset the connection, though there may still be data to read before that. Only Linux tells."""
    if sys.platform != "linux":
        return sock.fileno() == -1
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
    except OSError:
        return True
