"""Which connections have something to read, and whose client has gone, seen by one task for all connections of a server.

A connection that waits for its app does not read: what the client sends meanwhile stays with the system, which is backpressure for nothing. That the client ends the connection, though, must be noticed at once.

On Linux each connection is registered once, in an epoll of the server's own that reports changes only (edge-triggered), and trio waits for that epoll as for any other file. A connection that waits for its next
request then costs no system call, where waiting by trio's means registers it anew each time. Elsewhere trio waits for each connection, and a look now and then finds out who has gone.
"""

from __future__ import annotations

import logging
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, Protocol

import trio

from uait.server.connection import number_of

INTERVAL = 0.05
"""Seconds between two looks, where the system cannot tell by itself."""

_MOST = 256


class Watched(Protocol):
    """One connection, as a `Watch` sees it."""

    async def readable(self) -> None:
        """Wait until there may be something to read, or the connection was closed under us. One task at a time. May return without letting others run."""

    def more(self) -> None:
        """What was read may not have been all: let the next `readable` return at once."""

    def wake(self) -> None:
        """Let a task that waits in `readable` look around: the connection was closed, or nobody is to wait for it any longer."""

    def close(self) -> None:
        """Watch it no more; before the socket is closed, where that can be."""


class Watch(Protocol):
    """Watches the connections of one server."""

    def add(self, sock: trio.socket.SocketType, hung_up: Callable[[], None]) -> Watched:
        """Watch a connection. `hung_up`, which is synchronous, is called once when its client has ended or reset it; data that came before may still be unread."""

    async def run(self) -> NoReturn:
        """Watch until cancelled."""


class EpollWatch:
    """Linux's way."""

    def __init__(self, log: logging.Logger) -> None:
        self.epoll = select.epoll()
        self.watched: dict[int, EpollWatched] = {}
        self._log = log

    def add(self, sock: trio.socket.SocketType, hung_up: Callable[[], None]) -> EpollWatched:
        return EpollWatched(self, sock, hung_up)

    async def run(self) -> NoReturn:
        number = self.epoll.fileno()
        try:
            while True:
                await trio.lowlevel.wait_readable(number)
                for fileno, events in self.epoll.poll(0, _MOST):
                    watched = self.watched.get(fileno)
                    if watched is not None:
                        if events != select.EPOLLIN:
                            watched.ended = True
                            watched.more()
                            _tell(watched.hung_up, self._log)
                        else:
                            watched.more()
        finally:
            trio.lowlevel.notify_closing(number)
            self.epoll.close()


class EpollWatched:
    __slots__ = ("_fileno", "_number", "_ready", "_task", "_watch", "ended", "hung_up")

    def __init__(self, watch: EpollWatch, sock: trio.socket.SocketType, hung_up: Callable[[], None]) -> None:
        self.hung_up = hung_up
        self.ended = False  # nothing will change any more, so there is nothing to wait for: reading gives what is left, and then the end
        self._watch = watch
        self._fileno = number_of(sock)
        self._number = sock.fileno()
        self._ready = False
        self._task: trio.lowlevel.Task | None = None
        watch.epoll.register(self._number, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        watch.watched[self._number] = self

    async def readable(self) -> None:
        if self._ready or self.ended or self._fileno() == -1:
            self._ready = False
            return
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting for this connection's data already")
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def more(self) -> None:
        task = self._task
        if task is None:
            self._ready = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)

    wake = more

    def close(self) -> None:
        self.hung_up = _nothing
        if self._watch.watched.get(self._number) is self:  # else the number is another's already
            del self._watch.watched[self._number]
            if self._fileno() != -1:
                with suppress(OSError, ValueError):
                    self._watch.epoll.unregister(self._number)


class PollingWatch:
    """Any system's way. An end that stands behind unread data is not seen before that is read."""

    def __init__(self, log: logging.Logger) -> None:
        self.watched: set[PollingWatched] = set()
        self._log = log

    def add(self, sock: trio.socket.SocketType, hung_up: Callable[[], None]) -> PollingWatched:
        watched = PollingWatched(self, sock, hung_up)
        self.watched.add(watched)
        return watched

    async def run(self) -> NoReturn:
        while True:
            await trio.sleep(INTERVAL)
            for watched in list(self.watched):
                if watched.has_ended():
                    self.watched.discard(watched)
                    _tell(watched.hung_up, self._log)


class PollingWatched:
    def __init__(self, watch: PollingWatch, sock: trio.socket.SocketType, hung_up: Callable[[], None]) -> None:
        self.hung_up = hung_up
        self._watch = watch
        self._sock = sock

    async def readable(self) -> None:
        if self._sock.fileno() != -1:  # trio would keep a waiter for -1, and let nobody wait there any more
            with suppress(OSError, ValueError, trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(self._sock)

    def more(self) -> None:
        """trio tells again by itself."""

    def wake(self) -> None:
        if self._sock.fileno() != -1:  # else trio has done so when the socket was closed
            trio.lowlevel.notify_closing(self._sock)

    def close(self) -> None:
        self.hung_up = _nothing
        self._watch.watched.discard(self)

    def has_ended(self) -> bool:
        number = self._sock.fileno()
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


def _nothing() -> None:
    pass


def _tell(callback: Callable[[], None], log: logging.Logger) -> None:
    try:
        callback()
    except Exception:  # of an app that asked to be told: it costs nobody else that news
        log.exception("a client's leaving could not be acted upon")


def open_watch(log: logging.Logger) -> Watch:
    """What this system can do best."""
    return EpollWatch(log) if sys.platform == "linux" else PollingWatch(log)
