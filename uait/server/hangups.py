"""Who has gone, of the clients that nobody reads from at the moment.

A connection that waits for its app does not read: what the client sends meanwhile stays with the system, which is backpressure for nothing. That the client ends the connection, though, must be noticed at once. One task
does that for all connections of a server, and costs nothing while nobody leaves.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, Protocol

import trio

INTERVAL = 0.05
"""Seconds between two looks, where the system cannot tell by itself."""

_MOST = 256


class HangUps(Protocol):
    """Tells by a callback, once, that the client of a connection has ended or reset it. Data that came before may still be unread."""

    def add(self, sock: trio.socket.SocketType, callback: Callable[[], None]) -> None:
        """Call `callback`, which is synchronous, when the client hangs up."""

    def discard(self, sock: trio.socket.SocketType, callback: Callable[[], None]) -> None:
        """Forget `callback`, before `sock` is closed where that can be. Nothing happens where it is unknown."""

    async def run(self) -> NoReturn:
        """Watch until cancelled."""


class EpollHangUps:
    """Linux tells of each connection's end once (EPOLLRDHUP), through a file descriptor that trio can wait for like any other."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._epoll = select.epoll()
        self._callbacks: dict[int, tuple[trio.socket.SocketType, Callable[[], None]]] = {}

    def add(self, sock: trio.socket.SocketType, callback: Callable[[], None]) -> None:
        number = sock.fileno()
        self._callbacks[number] = sock, callback
        self._epoll.register(number, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def discard(self, sock: trio.socket.SocketType, callback: Callable[[], None]) -> None:
        number = sock.fileno()
        if number != -1:
            if self._callbacks.pop(number, None) is not None:
                with suppress(OSError, ValueError):
                    self._epoll.unregister(number)
            return
        # It was closed under us: the system has forgotten it, and its number may be another's by now.
        for number, (known, _) in list(self._callbacks.items()):
            if known is sock:
                del self._callbacks[number]

    async def run(self) -> NoReturn:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for number, _ in self._epoll.poll(0, _MOST):
                    sock, callback = self._callbacks.pop(number, (None, None))
                    if sock is not None and callback is not None and sock.fileno() == number:
                        with suppress(OSError, ValueError):
                            self._epoll.unregister(number)
                        _tell(callback, self._log)
        finally:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()


class PollingHangUps:
    """Any system: look at each connection now and then. An end that stands behind unread data is not seen before that is read."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._callbacks: dict[trio.socket.SocketType, Callable[[], None]] = {}

    def add(self, sock: trio.socket.SocketType, callback: Callable[[], None]) -> None:
        self._callbacks[sock] = callback

    def discard(self, sock: trio.socket.SocketType, callback: Callable[[], None]) -> None:
        self._callbacks.pop(sock, None)

    async def run(self) -> NoReturn:
        while True:
            await trio.sleep(INTERVAL)
            for sock, callback in list(self._callbacks.items()):
                if _has_ended(sock):
                    del self._callbacks[sock]
                    _tell(callback, self._log)


def _tell(callback: Callable[[], None], log: logging.Logger) -> None:
    try:
        callback()
    except Exception:  # of an app that asked to be told: it costs nobody else that news
        log.exception("a client's leaving could not be acted upon")


def _has_ended(sock: trio.socket.SocketType) -> bool:
    number = sock.fileno()
    if number == -1:
        return True
    twin = socket.socket(fileno=number)
    try:
        return not twin.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        twin.detach()


def open_hang_ups(log: logging.Logger) -> HangUps:
    """What this system can do best."""
    return EpollHangUps(log) if sys.platform == "linux" else PollingHangUps(log)
