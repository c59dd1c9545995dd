"""One call of the app, between a stream of hypercorn's and the app's `receive` and `send`."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio

from uait.errors import APIError, PayloadTooLarge
from uait.server import timing
from uait.server.asgi import Message, Scope
from uait.server.connection import Site
from uait.server.disconnect import SCOPE_KEY, Disconnect
from uait.server.guard_websocket import PAUSE

READ_AHEAD = 64 * 1024
"""Bytes of a request's body that wait for the app; more stay with the client."""


class ClientLeft(Exception):
    """The client has ended the connection, behind data that nobody takes in."""


class Inbox:
    """Messages for the app, bounded by their number and their bytes. Pieces of a body that wait are joined, so that a million tiny ones are no more than their bytes.

    Args:
        has_left: whether the client has ended the connection. Asked while there is no room, when reading would not tell.
    """

    def __init__(self, *, max_bytes: int, max_messages: int, has_left: Callable[[], bool]) -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._has_left = has_left
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._end: Message | None = None
        self._closed = False
        self._changed = trio.lowlevel.ParkingLot()

    async def put(self, message: Message) -> None:
        """Add `message`, waiting while there is no room. A disconnect always has room, and is the last one.

        Raises:
            ClientLeft: it left while there was no room.
        """
        if message["type"].endswith(".disconnect"):
            self.end(message)
            return
        size = len(message.get("body") or message.get("bytes") or message.get("text") or "")
        while self._messages and (self._bytes + size > self._max_bytes or len(self._messages) >= self._max_messages):
            if self._closed or self._end:
                break
            with trio.move_on_after(timing.SHORTLY):
                await self._changed.park()
                continue
            if self._has_left():
                raise ClientLeft
        if self._closed or self._end:
            return
        last = self._messages[-1] if self._messages else None
        if last is not None and last["type"] == "http.request" == message["type"]:
            if not isinstance(last["body"], bytearray):
                last["body"] = bytearray(last["body"])
            last["body"] += message["body"]
            last["more_body"] = message["more_body"]
        else:
            self._messages.append(message)
        self._bytes += size
        self._changed.unpark_all()

    async def get(self) -> Message:
        """The next message; the disconnect, again and again, when there is nothing before it."""
        await trio.lowlevel.checkpoint()
        while not self._messages:
            if self._end is not None:
                return dict(self._end)
            await self._changed.park()
        message = self._messages.popleft()
        self._bytes -= len(message.get("body") or message.get("bytes") or message.get("text") or "")
        self._changed.unpark_all()
        return message

    def end(self, message: Message) -> None:
        """Let `message`, a disconnect, come after what waits. The first one counts."""
        if self._end is None:
            self._end = message
            self._changed.unpark_all()

    def clear(self) -> None:
        """Forget what waits."""
        self._messages.clear()
        self._bytes = 0
        self._changed.unpark_all()

    def close(self) -> None:
        """Forget what waits, and what will still come: the app has ended."""
        self._closed = True
        self.clear()


class AppStream(Protocol):
    """What a call needs of the stream that it answers."""

    closed: bool

    @property
    def answered(self) -> bool:
        """Whether the answer is complete."""

    async def refuse(self, error: APIError) -> None:
        """Answer with `error`, as far as that is still possible."""

    async def settle(self) -> None:
        """Do, for a bounded time, what is polite to do before a finished exchange is closed."""


class Call:
    """One call of the app, in a task of its own. hypercorn knows it as the task group of one stream."""

    def __init__(self, nursery: trio.Nursery, site: Site, *, websocket: bool, has_left: Callable[[], bool]) -> None:
        self.stream: AppStream
        self.disconnect = Disconnect()
        self._nursery = nursery
        self._site = site
        if websocket:
            max_bytes, max_messages = site.limits.message_bytes, site.limits.queue
        else:
            max_bytes, max_messages = READ_AHEAD, 2
        self._inbox = Inbox(max_bytes=max_bytes, max_messages=max_messages, has_left=has_left)
        self._taken = 0
        self._ended = False
        self._cancel_scope = trio.CancelScope()
        self._app_send: Callable[[Any], Awaitable[None]]

    # hypercorn's side

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        """Start the call. Returns what hands messages to the app."""
        self._app_send = send
        scope[SCOPE_KEY] = self.disconnect
        self._nursery.start_soon(self._run, scope, name=f"{scope['type']} {scope['path']}")
        return self._inbox.put

    def spawn(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self._nursery.start_soon(function, *args)

    # The stream's side

    def gone(self, *, cleanly: bool = False, patience: float | None = None) -> None:
        """The client has gone: tell the app, and cancel it soon.

        Args:
            cleanly: a WebSocket was closed by its closing handshake. What came before that is still the app's to handle: it hears of the end by its message first, and a moment later in any case.
            patience: seconds until it is cancelled, by default the short time.
        """
        if cleanly:
            self._nursery.start_soon(self._announce_soon)
        else:
            self.disconnect.announce()
        deadline = trio.current_time() + (timing.SHORTLY if patience is None else patience)
        self._cancel_scope.deadline = min(self._cancel_scope.deadline, deadline)

    async def _announce_soon(self) -> None:
        await trio.sleep(timing.SHORTLY)
        self.disconnect.announce()

    @property
    def last(self) -> bool:
        """Whether no further request will be taken on this connection, because the service leaves."""
        return self._site.drain.draining

    def stop(self, reason: str) -> None:
        """Cancel the app now."""
        self._cancel_scope.cancel(reason=reason)

    # The app's side

    async def _run(self, scope: Scope) -> None:
        try:
            with self._cancel_scope:
                await self._site.call(scope, self._receive, self._send)
            self._inbox.close()
            if not self.stream.closed:
                await self.stream.settle()
            await self._app_send(None)
        finally:
            # The stream knows the call, so this ring would keep its memory until the garbage collector comes by.
            self._ended = True
            del self.stream, self._app_send

    async def _receive(self) -> Message:
        if self._taken > self._site.limits.body_bytes:
            await self._body_too_large()
        message = await self._inbox.get()
        if message["type"] == "http.request":
            self._taken += len(message["body"])
            message["body"] = bytes(message["body"])
        return message

    async def _body_too_large(self) -> None:
        """The app was given more than the limit, and asks for still more."""
        await self.stream.refuse(PayloadTooLarge())
        self.stop("the request's body is too large")
        await trio.lowlevel.checkpoint()

    async def _send(self, message: Message) -> None:
        # Before any protocol state changes, for a cancelled task must not leave half of a change behind.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._ended or self.stream.closed:
            await trio.sleep(PAUSE)
            return
        await self._app_send(message)
        if self.stream.answered:
            self._inbox.clear()
            self._inbox.end({"type": "http.disconnect"})
