"""HTTP without a socket: one request to an ASGI app of this process, streaming both ways.

The app gets the scope and the messages that a server would give it, under the caller's deadline, with the context variables of a server's task. It never outlives the
exchange: whoever cancels the caller or closes the answer early cancels the app, and closing returns when the app has ended.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import unquote

import trio

from uait.calls.lifetime import open_helpers
from uait.calls.standing import SCOPE_KEY as VOUCH
from uait.calls.standing import Standing
from uait.errors import APIError, InternalError, UpstreamError
from uait.server.asgi import ASGIApp, Message, Scope
from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.server.disconnect import Disconnect
from uait.server.isolation import run_in_context

Content: TypeAlias = bytes | AsyncIterable[bytes] | None
"""A request body: whole, or as it comes."""

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: the names in lower case."""

CLOSE_TIMEOUT = 10.0
"""Seconds that cleaning up may take where nobody can cancel it."""


def http_scope(method: str, raw_path: bytes, query: bytes, headers: RawHeaders, **extra: Any) -> Scope:
    """The ASGI scope of a request that came over no socket."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "server": None,
        "client": None,
        "extensions": {},
        **extra,
    }


class Exchange:
    """One request to `app` and its answer. `run` is the app's task, `head`, `read` and `aclose` are the caller's side.

    Attributes:
        standing: where the app vouches for its answer, whether it still holds.

    Args:
        app: the ASGI app.
        scope: see `http_scope`.
        content: the request's body.
        name: whose app it is, for errors and the log.
        limit: None hands each chunk of the answer over and lets the app go on when it was taken (`read`). A number gathers up to so many bytes in
            `chunks` instead, which costs the app no waiting, and fails the exchange when there are more.
    """

    def __init__(self, app: ASGIApp, scope: Scope, content: Content, *, name: str, limit: int | None = None) -> None:
        self.app = app
        self.disconnect = Disconnect()
        self.standing: Standing | None = None
        self.scope = {**scope, DISCONNECT: self.disconnect, VOUCH: self}
        self.name = name
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.cancel_scope = trio.CancelScope()
        self._limit = limit
        self._size = 0
        self._body: bytes | AsyncIterator[bytes] | None
        self._body = aiter(content) if isinstance(content, AsyncIterable) else content or b""
        self._fault: Exception | None = None  # not the app's: it is cancelled for it
        self._error: Exception | None = None
        self._cut = False
        self._complete = False
        self._started = trio.Event()
        self._answered = trio.Event()
        self._ended = trio.Event()
        if limit is None:
            self._writer, self._reader = trio.open_memory_channel[bytes](0)

    async def run(self) -> None:
        """Run the app to its end. An `Exception` of the app goes to the caller's side, and to the log."""
        try:
            if self._limit is None:
                with self.cancel_scope:
                    await self.app(self.scope, self._receive, self._send)
            else:
                # Nobody closes this answer early: who stops waiting is cancelled together with the app.
                await self.app(self.scope, self._receive, self._send)
        except* Exception as group:  # also one beside a cancellation, which goes on to whoever cancelled
            self._error = error = group.exceptions[0] if len(group.exceptions) == 1 else group
            if not isinstance(error, APIError) and self._fault is None:
                log = logging.getLogger(f"uait.{self.name}")
                log.error("crashed while it answered a call from this process", exc_info=error)
        finally:
            await self._close_body()
            if self._limit is None:
                self._writer.close()
            # It is this object, and such a ring keeps its memory until the garbage collector comes by.
            self.scope.pop(VOUCH, None)
            self._started.set()
            self._ended.set()

    async def head(self) -> None:
        """Wait for `status` and `headers`.

        Raises:
            InternalError: the app ended before it answered; `__cause__` is its crash. An APIError that it raised comes as it is. What the request's body raises is raised here as it is.
        """
        await self._started.wait()
        if not self.status:
            if self._fault is not None:
                raise self._fault
            if isinstance(self._error, APIError):
                raise self._error
            raise InternalError(f"{self.name} ended without an answer.") from self._error

    async def read(self) -> bytes:
        """The next chunk of the answer; b"" is its end.

        Raises:
            UpstreamError: the answer broke off, or is too large. What the request's body raises is raised here as it is.
        """
        try:
            return await self._reader.receive()
        except trio.EndOfChannel:
            self.check_complete()
            return b""

    def check_complete(self) -> None:
        """Raise what `read` raises where the app has ended before its answer has."""
        if self._fault is not None:
            raise self._fault
        if not self._complete:
            raise UpstreamError(f"The answer of {self.name} broke off.") from self._error

    async def aclose(self) -> None:
        """Cancel the app where it still runs, and return when it has ended."""
        self.disconnect.announce()
        # Before the channel: an app that waits to send shall be cancelled, not crash because nobody reads any more.
        self.cancel_scope.cancel(reason="the caller closed the answer")
        self._reader.close()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
            await self._ended.wait()

    async def _receive(self) -> Message:
        body = self._body
        if body is None:
            await self._answered.wait()
            return {"type": "http.disconnect"}
        if self._fault is not None or self._cut:
            return await self._gone()
        if isinstance(body, bytes):
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        try:
            chunk = await anext(body)
        except StopAsyncIteration:
            self._body = None
            return {"type": "http.request", "body": b"", "more_body": False}
        except trio.Cancelled:
            # An app that gives up waiting may ask again: a generator has ended by that, which must not look like the body's end.
            self._cut = isinstance(body, AsyncGenerator)
            raise
        except Exception as error:
            await self._end(error, "the request's body failed")
            return await self._gone()
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self.status:
            self.status = message["status"]
            self.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            self._started.set()
        elif kind == "http.response.body" and self.status and not self._complete:
            body = message.get("body", b"")
            if body and self.scope["method"] != "HEAD":
                await self._deliver(bytes(body))
            if not message.get("more_body", False):
                self._complete = True
                self._answered.set()
        else:
            raise RuntimeError(f"{kind!r} cannot be sent in this state of the answer")

    async def _deliver(self, chunk: bytes) -> None:
        if self._limit is None:
            await self._writer.send(chunk)
            return
        self._size += len(chunk)
        if self._size > self._limit:
            error = UpstreamError(f"The answer of {self.name} is larger than {self._limit} bytes.")
            await self._end(error, "the answer is too large")
            await trio.lowlevel.checkpoint()
            raise OSError("nobody takes any more of this answer")  # as ASGI's servers tell that a client has gone
        self.chunks.append(chunk)

    async def _end(self, fault: Exception, reason: str) -> None:
        """End the app, for a fault that is not its own: it is cancelled, or told that its client has gone."""
        self._fault = self._fault or fault
        if self._limit is None:
            self.cancel_scope.cancel(reason=reason)
            await trio.sleep_forever()
        self.disconnect.announce()

    async def _gone(self) -> Message:
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def _close_body(self) -> None:
        aclose = getattr(self._body, "aclose", None)
        if aclose is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                await aclose()


@asynccontextmanager
async def open_exchange(exchange: Exchange, context: contextvars.Context) -> AsyncIterator[Exchange]:
    """Run the app as long as the block; the head of its answer is there, and the body is read with `read`.

    Leaving the block cancels the app where it still runs, and waits for its end.

    Args:
        exchange: a new one.
        context: the app gets a copy of these context variables, as it would get its server's, not the caller's.
    """
    async with open_helpers("the caller closed the answer") as nursery:
        context.run(nursery.start_soon, exchange.run)
        try:
            await exchange.head()
            yield exchange
        finally:
            exchange.disconnect.announce()


async def fetch(exchange: Exchange, context: contextvars.Context) -> bytes:
    """Run the app to its end, in this task, and give the whole body of its answer; the head is in `exchange`. For the arguments see `open_exchange`."""
    await run_in_context(context.copy(), exchange.run())
    await exchange.head()
    exchange.check_complete()
    return b"".join(exchange.chunks)
