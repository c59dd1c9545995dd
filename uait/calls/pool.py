"""Connections that are kept for the next question to the same origin."""

from __future__ import annotations

import ssl
from typing import TypeAlias

import httpx
import trio

from uait.calls.http1 import Connection

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""


class Pool:
    """Opens connections and keeps those that can serve again. Whoever made it calls `close`.

    Args:
        idle_per_origin: connections kept open for the next question to the same origin.
        idle_timeout: seconds they are kept: less than servers do, so that none is closed under a question.
        ssl_context: for `https:`; the default one verifies certificates, and is made at the first need.
    """

    def __init__(
        self, *, idle_per_origin: int = 64, idle_timeout: float = 15.0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._idle_per_origin = idle_per_origin
        self._idle_timeout = idle_timeout
        self._ssl_context = ssl_context
        self._closed = False

    def take(self, origin: Origin) -> Connection | None:
        """A kept connection, if there is one that still stands."""
        connections = self._idle.get(origin)
        oldest = trio.current_time() - self._idle_timeout
        while connections:
            connection = connections.pop()
            if connection.idle_since >= oldest and connection.quiet():
                return connection
            connection.close()
        self._idle.pop(origin, None)
        return None

    async def connect(self, origin: Origin) -> Connection:
        """A new connection.

        Raises:
            httpx.ConnectError: there is nobody, or nobody whom the certificate trusts.
        """
        self._drop_expired()
        scheme, host, port = origin
        try:
            stream = await trio.open_tcp_stream(host.strip("[]"), port)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(str(error)) from error
        if scheme == "http":
            return Connection(stream)
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        secure = trio.SSLStream(stream, self._ssl_context, server_hostname=host, https_compatible=True)
        connection = Connection(secure)
        try:
            await secure.do_handshake()
        except BaseException as error:
            connection.close()
            if isinstance(error, trio.BrokenResourceError):
                raise httpx.ConnectError(f"no TLS connection: {error.__cause__ or error}") from error
            raise
        return connection

    def give_back(self, origin: Origin, connection: Connection, *, reusable: bool) -> None:
        """Keep `connection` for the next question where it is `reusable`, else close it. Never waits."""
        if self._closed or not reusable:
            connection.close()
            return
        connection.used, connection.idle_since = True, trio.current_time()
        connections = self._idle.setdefault(origin, [])
        connections.append(connection)
        if len(connections) > self._idle_per_origin:
            connections.pop(0).close()

    def _drop_expired(self) -> None:
        """Nobody may ever ask again for an origin that is gone."""
        oldest = trio.current_time() - self._idle_timeout
        for origin, connections in list(self._idle.items()):
            while connections and connections[0].idle_since < oldest:
                connections.pop(0).close()
            if not connections:
                del self._idle[origin]

    def close(self) -> None:
        """Close the idle connections. Those in use are closed when they are given back."""
        self._closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
