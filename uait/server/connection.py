"""The seam between accepting connections and speaking HTTP on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from uait.server.asgi import ASGIApp, Receive, Scope, Send
from uait.server.drain import Drain
from uait.server.guard_http import call_http
from uait.server.guard_websocket import GuardedWebSocket
from uait.server.limits import ServerLimits

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@attrs.frozen(kw_only=True, eq=False)
class Site:
    """What all connections of one server share.

    Attributes:
        state: the lifespan's; a copy of it belongs in every scope.
    """

    app: ASGIApp
    limits: ServerLimits
    drain: Drain
    log: logging.Logger
    state: dict[str, Any]

    async def call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app for one request or WebSocket. Only cancellation comes out, and what must never be caught."""
        if scope["type"] == "websocket":
            guarded = GuardedWebSocket(
                self.app,
                scope,
                receive,
                send,
                drain=self.drain,
                accept_timeout=self.limits.accept_timeout,
                log=self.log,
            )
            await guarded.run()
        else:
            await call_http(self.app, scope, receive, send, self.log)


class ServeConnection(Protocol):
    """Serves the connections of one site.

    It keeps to these rules, so that one class can take another's place:

    * It need not close the stream; the listener does. Any Exception it raises is logged and costs this connection only.
    * It follows `site.drain`: from DRAINING on, an idle connection ends at once, and a request in flight is answered with `Connection: close`. At CUTTING nothing more is asked of it: it is cancelled
      soon after.
    * It holds no cancellation up for a client's sake, and ends with an error when the stream is closed under it.
    * Every call of the app goes through `site.call` (or what that calls), with a `Disconnect` in the scope. When the client goes, it announces that, and cancels an app that does not end by itself soon.
    """

    async def __call__(self, stream: Stream) -> None:
        """Serve one accepted connection and return when that is over."""

    async def attend(self) -> None:
        """What all connections need beside them. It runs from before the first to after the last one, and is cancelled then."""


Speak: TypeAlias = Callable[[Site], ServeConnection]
"""Makes, once for each server, what serves its connections."""


def number_of(sock: trio.socket.SocketType) -> Callable[[], int]:
    """What gives a socket's file number, -1 where it is closed. trio's method calls this one, and a request asks three times."""
    fileno: Callable[[], int] = getattr(sock, "_sock", sock).fileno
    return fileno


def transport_of(stream: Stream) -> trio.SocketStream:
    """The TCP connection under `stream`."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
