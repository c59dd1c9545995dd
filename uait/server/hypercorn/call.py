"""One call of the app, between a stream of hypercorn's and the app's `receive` and `send`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio

from uait.errors import APIError, PayloadTooLarge
from uait.server import timing
from uait.server.asgi import Message, Scope
from uait.server.connection import Site
from uait.server.disconnect import SCOPE_KEY, Disconnect
from uait.server.guard_websocket import PAUSE
from uait.server.inbox import Inbox

READ_AHEAD = 64 * 1024
"""Bytes of a request's body that wait for the app; more stay with the client."""


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
            if self._taken > self._site.limits.body_bytes:
                message["more_body"] = True  # what is over the limit must not look like a whole body
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
