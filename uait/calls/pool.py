"""Connections that are kept for the next question to the same origin, and how many an origin may have."""

from __future__ import annotations

import math
import ssl

import attrs
import httpx
import trio

from uait.calls.answer import Answer
from uait.calls.http1 import Connection, Origin


@attrs.define
class _Places:
    """Who is served at an origin, and who waits: a place that gets free goes to whoever has waited longest, never to whoever comes just then."""

    taken: int = 0
    queue: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)


class Pool:
    """Opens connections and keeps those that can serve again. Whoever made it calls `close`.

    Args:
        per_origin: places at one origin, for those who `enter`.
        queue_per_origin: how many may wait for one.
        idle_per_origin: connections kept open for the next question to the same origin.
        idle: connections kept open in all.
        idle_timeout: seconds they are kept: less than servers do, so that none is closed under a question.
        ssl_context: for `https:`; the default one verifies certificates, and is made at the first need.
    """

    def __init__(
        self,
        *,
        per_origin: int = 512,
        queue_per_origin: int = 1024,
        idle_per_origin: int = 64,
        idle: int = 256,
        idle_timeout: float = 15.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._places: dict[Origin, _Places] = {}
        self._per_origin = per_origin
        self._queue_per_origin = queue_per_origin
        self._idle: dict[Origin, list[Connection]] = {}
        self._idle_per_origin = idle_per_origin
        self._idle_count = 0
        self._idle_most = idle
        self._idle_timeout = idle_timeout
        self._sweep_at = -math.inf
        self._ssl_context = ssl_context
        self._closed = False

    async def enter(self, origin: Origin, timeout: float | None = None) -> None:
        """Take a place at `origin`, when it is this task's turn. Who gets one calls `leave`. A checkpoint only where there is none free.

        Raises:
            httpx.PoolTimeout: there was none within `timeout` seconds, or too many wait already.
        """
        places = self._places.get(origin)
        if places is None:
            places = self._places[origin] = _Places()
        if places.taken < self._per_origin:
            places.taken += 1
            return
        if len(places.queue) >= self._queue_per_origin:
            raise httpx.PoolTimeout(f"{len(places.queue)} requests wait for a connection to {origin[1]} already")
        with trio.CancelScope(deadline=math.inf if timeout is None else trio.current_time() + timeout):
            await places.queue.park()
            return  # whoever left has passed on the place
        raise httpx.PoolTimeout(f"no connection to {origin[1]} got free in time")

    def leave(self, origin: Origin) -> None:
        """Give the place to the next one."""
        places = self._places[origin]
        if places.queue:
            places.queue.unpark()
            return
        places.taken -= 1
        if not places.taken:
            del self._places[origin]

    def take(self, origin: Origin) -> Connection | None:
        """A kept connection, if there is one that still stands."""
        connections = self._idle.get(origin)
        oldest = trio.current_time() - self._idle_timeout
        while connections:
            connection = connections.pop()
            self._idle_count -= 1
            if connection.idle_since >= oldest and connection.quiet():
                return connection
            connection.close()
        self._idle.pop(origin, None)
        return None

    async def connect(self, origin: Origin, timeout: float | None = None) -> Connection:
        """A new connection.

        Raises:
            httpx.ConnectError: there is nobody, or nobody whom the certificate trusts.
            httpx.ConnectTimeout: name, connection and TLS took longer than `timeout` seconds.
        """
        self._drop_expired()
        with trio.CancelScope(deadline=math.inf if timeout is None else trio.current_time() + timeout):
            return await self._connect(origin)
        raise httpx.ConnectTimeout(f"no connection to {origin[1]} in time")

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        try:
            stream = await trio.open_tcp_stream(host.strip("[]"), port)
        except (OSError, UnicodeError, ValueError) as error:  # ValueError: it is no host name
            raise httpx.ConnectError(str(error)) from error
        if scheme == "http":
            return Connection(origin, stream)
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        secure = trio.SSLStream(stream, self._ssl_context, server_hostname=host, https_compatible=True)
        connection = Connection(origin, secure)
        try:
            await secure.do_handshake()
        except BaseException as error:
            connection.close()
            if isinstance(error, trio.BrokenResourceError):
                raise httpx.ConnectError(f"no TLS connection: {error.__cause__ or error}") from error
            raise
        return connection

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """Keep `connection` for the next question where it is `reusable`, else close it. Never waits."""
        if self._closed or not reusable:
            connection.close()
            return
        connection.used, connection.idle_since = True, trio.current_time()
        if connection.idle_since >= self._sweep_at:
            self._drop_expired()
        connections = self._idle.setdefault(connection.origin, [])
        connections.append(connection)
        self._idle_count += 1
        if len(connections) > self._idle_per_origin or self._idle_count > self._idle_most:
            connections.pop(0).close()
            self._idle_count -= 1

    def release(self, connection: Connection, answer: Answer) -> None:
        """`give_back` and `leave`, for the answer to a question of somebody who has entered."""
        self.give_back(connection, reusable=answer.frees_connection)
        self.leave(connection.origin)

    def _drop_expired(self) -> None:
        """Nobody may ever ask again for an origin that is gone."""
        now = trio.current_time()
        self._sweep_at = now + self._idle_timeout
        for origin, connections in list(self._idle.items()):
            while connections and connections[0].idle_since < now - self._idle_timeout:
                connections.pop(0).close()
                self._idle_count -= 1
            if not connections:
                del self._idle[origin]

    def close(self) -> None:
        """Close the idle connections. Those in use are closed when they are given back."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._idle_count = 0
