"""One connection, as rooms see it."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from uait.services.hub.audience import Line
from uait.services.hub.codes import CloseCode
from uait.services.hub.cork import Cork
from uait.services.hub.protocol import Message
from uait.storage.ids import new_id, utc_now


class Client:
    """A connection, for as long as it lasts. Whoever has a message for it pushes it and goes on.

    Args:
        user_id: who it is.
        line: its way out.
        cork: holds what is on its way to many, and maybe to this client.
        most: bytes that may wait there; a client for whom more does is slow, and cut off.

    Attributes:
        client_id: the connection's own id; a user may have several connections.
        connected_at: RFC 3339.
        scope: the connection lasts as long as this.
        verdict: why the hub ends it.
        requests: how many of its requests wait for a reply.
        pause: seconds after which it was told to come back.
        nursery: for what is done for this client alone; set before it is in any room.
    """

    nursery: trio.Nursery

    def __init__(self, user_id: str, line: Line, cork: Cork, *, most: int) -> None:
        self.client_id = new_id()
        self.user_id = user_id
        self.line = line
        self.cork = cork
        self.connected_at = utc_now()
        self.scope = trio.CancelScope()
        self.verdict: CloseCode | None = None
        self.requests = 0
        self.pause: float | None = None
        self._most = most
        self._context = contextvars.copy_context()

    def tell(self, message: Message) -> None:
        """Give it a message for itself alone."""
        self.push(message.encode())

    def push(self, encoded: bytes) -> None:
        """Give it an encoded message, without waiting and without raising, whatever state the connection is in.

        Where more waits already than may, the client is cut off instead; so a message longer than that is taken where nothing else waits.
        """
        self.cork.flush()
        if self.line.queued > self._most:
            self.cut(CloseCode.SLOW)
        else:
            self.line.push(encoded)

    def check(self) -> None:
        """Cut it off where more waits for it than may."""
        if self.line.queued > self._most:
            self.cut(CloseCode.SLOW)

    def cut(self, code: CloseCode) -> None:
        """End the connection. The first reason stands."""
        if self.verdict is None:
            self.verdict = code
            self.scope.cancel(reason=code.reason)

    def start_soon(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Do something for this client, which ends with it at the latest. In its own context, not in that of the request which is under way here."""
        self._context.run(self.nursery.start_soon, work, *arguments)

    def close(self) -> None:
        """Let go of what knows this client, so that all of it is free at once and not only when the garbage collector comes."""
        del self.nursery
        self._context = contextvars.Context()
