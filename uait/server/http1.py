"""Plain HTTP/1.1 connections, and the way from them to WebSockets: httptools (llhttp) reads, one task a connection does everything.

    async with open_server(app, bind("localhost", 8000), speak=NativeConnections) as server: ...

**One task.** It waits for a request, calls the app, and waits again. The app's `receive` reads the body from the socket itself, so nothing is read ahead of it, and what a client sends beyond that stays with the system:
backpressure for nothing. While the app works nobody reads; that the client leaves is seen by one task for all connections (`watch`). Deadlines that move with every request are kept outside of trio's (`deadlines`).

**What it does** of RFC 9112 and 9110: keep-alive, pipelined requests answered in order, chunks both ways, `Expect: 100-continue` (section 10.1.1) asked for when the app first reads, HEAD, trailers and early hints out (ASGI's extensions), absolute-form targets, answers before the
request's end, 408 and 413 and 431 and 501, upgrade to WebSocket (`websocket`).

**What it does not do**, on purpose: HTTP/2 on plain text (an upgrade to h2c is not taken, and goes on as HTTP/1.1), TLS (`hypercorn` does both over TLS), trailers in (read and dropped), HTTP/1.0 keep-alive, CONNECT, transfer codings besides chunked (501). A client that ends its side counts as gone, for TCP does not tell
that from a client that died (and the work for those must stop).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from enum import Enum, auto
from typing import Any

import trio

from uait.errors import APIError, BadRequest
from uait.server import timing
from uait.server.answer import Framing, make_refusal
from uait.server.connection import Site, Stream, number_of
from uait.server.deadlines import Deadlines
from uait.server.drain import Phase
from uait.server.exchange import Exchange
from uait.server.guard_http import call_http
from uait.server.head import Head, check_head
from uait.server.isolation import run_in_context
from uait.server.parser import Parser, Request
from uait.server.refusal import error_for
from uait.server.watch import open_watch
from uait.server.websocket import WebSocket
from uait.server.writer import Writer

READ = 64 * 1024
"""Bytes taken in at once."""

_TURN = 8
"""Steps without waiting after which a task lets others run."""


class NativeConnections:
    """Serves plain-text connections for one site (`uait.server.connection.Speak`)."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.deadlines = Deadlines(site.log)
        self.watch = open_watch(site.log)

    async def __call__(self, stream: Stream) -> None:
        if not isinstance(stream, trio.SocketStream):
            raise TypeError("TLS is served by HypercornConnections")
        await Connection(self, stream).run()

    async def attend(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.deadlines.run)
            nursery.start_soon(self.watch.run)


class _Waiting(Enum):
    """What the client is waited for, which decides how long."""

    HEAD = auto()
    IDLE = auto()
    BODY = auto()
    NOTHING = auto()
    """The app works."""


_HEAD, _IDLE, _BODY, _NOTHING = _Waiting


class Connection:
    """One connection's life."""

    __slots__ = (
        "_app_scope",
        "_connections",
        "_exchange",
        "_fileno",
        "_full",
        "_gone",
        "_heard",
        "_linger",
        "_parser",
        "_refusal",
        "_scope",
        "_steps",
        "_timer",
        "_to_head",
        "_waiting",
        "_watched",
        "client",
        "server",
        "site",
        "stream",
        "writer",
    )

    def __init__(self, connections: NativeConnections, stream: trio.SocketStream) -> None:
        self.site = connections.site
        self.writer = Writer(stream, self.site.limits.send_timeout)
        self.client = _address(stream.socket.getpeername)
        self.server = _address(stream.socket.getsockname)
        self._connections = connections
        self.stream = stream
        # Asked each time: the number may be another connection's as soon as the socket is closed under us.
        self._fileno = number_of(stream.socket)
        self._parser = Parser(self.site.limits)
        self._timer = connections.deadlines.timer(self._expire)
        self._scope = trio.CancelScope()
        self._app_scope: trio.CancelScope | None = None
        self._exchange: Exchange | None = None
        self._refusal: APIError | None = None
        self._to_head = False
        self._waiting = _HEAD
        self._heard = False
        self._full = False  # the last read took as much as one may: there may be more
        self._gone = False
        self._linger = False
        self._steps = 0

    async def run(self) -> None:
        """Serve the connection until it ends. See `uait.server.connection.ServeConnection`."""
        self._timer.set(trio.current_time() + self.site.limits.header_timeout)
        self.site.drain.add(self._drain)
        self._watched = self._connections.watch.add(self.stream.socket, self.hung_up)
        self.writer.on_reset = self._watched.wake
        try:
            with self._scope:
                await self._serve()
            await self._say_goodbye()
        finally:
            self._watched.close()
            self.site.drain.discard(self._drain)
            # What follows knows this connection, and such rings keep their memory until the garbage collector comes by.
            self.writer.on_reset = _nothing
            self._timer.close()
            self._parser.close()
            self._exchange = None

    # Requests

    async def _serve(self) -> None:
        parser, timer, limits, now = self._parser, self._timer, self.site.limits, self._connections.deadlines.now
        while True:
            if parser.requests:  # a pipelined one, and the app before it may not have waited once
                await self.breathe()
            elif not await self._hear():
                return
            timer.stop()
            self._waiting = _NOTHING
            request = parser.requests.popleft()
            self._to_head = request.method == b"HEAD"
            try:
                head = check_head(request.method, request.target, request.version, request.headers, limits)
            except APIError as error:
                self._refusal = error
                return
            if self._gone:
                return
            if head.websocket:
                await self._speak_websocket(head)
                return
            if not await self._answer(request, head):
                return
            self._exchange = None
            self._to_head = False
            self._waiting = _IDLE
            timer.set(now() + limits.idle_timeout)

    async def _hear(self) -> bool:
        """Wait for the next request's head. Returns whether there is one."""
        parser = self._parser
        while True:
            if parser.ahead:
                await self.breathe()
                parser.feed()
            elif parser.over:
                self._refusal = parser.error
                return False
            else:
                if parser.in_head:
                    if self._waiting is _IDLE:
                        self._waiting = _HEAD
                        self._timer.set(trio.current_time() + self.site.limits.header_timeout)
                elif self._heard and self.site.drain.draining:
                    self._linger = True
                    return False
                data = await self.read()
                if not data:
                    return False
                self._heard = True
                parser.feed(data)
            if parser.requests:
                return True

    async def _answer(self, request: Request, head: Head) -> bool:
        """Have the app answer. Returns whether the connection can go on."""
        site = self.site
        exchange = self._exchange = Exchange(self, request, head)
        # In a context of its own, as a task would have: what one request leaves in its context variables is not the next one's.
        call = run_in_context(
            copy_context(), call_http(site.app, exchange.scope, exchange.receive, exchange.send, site.log, exchange)
        )
        if self._to_head:
            # The one kind of request whose answer may be complete while the app still wants to say more.
            with trio.CancelScope() as self._app_scope:
                await call
            self._app_scope = None
        else:
            await call
        answer = exchange.head
        if answer is None or not exchange.answered:
            return False
        self._linger = True
        if request.whole and not request.last:
            return not (answer.last or self._gone)
        if not request.whole:
            await self._take_rest(request, exchange)
        self._linger = not (request.whole and request.last and not self._parser.ahead)
        return request.whole and not (request.last or answer.last or self._gone)

    async def _take_rest(self, request: Request, exchange: Exchange) -> None:
        """Take in, for a bounded time and size, what the client still sends of an answered request, so that the connection can be used again."""
        left = timing.REST_BYTES
        if exchange.waits_for_continue or self.site.drain.draining:
            return
        with trio.move_on_after(timing.REST_SECONDS):
            while not request.whole and left > 0 and not self._parser.over:
                if not await self._read_body(request):
                    return
                left -= len(request.body)
                request.body = bytearray()

    async def _speak_websocket(self, head: Head) -> None:
        websocket = WebSocket(self, head, self._connections.deadlines)
        try:
            await websocket.run(self._parser.tail or b"")
        finally:
            websocket.close()
        self._refusal = websocket.refusal
        self._linger = True

    # Used by exchanges and WebSockets

    async def read(self) -> bytes:
        """What the client sends next; empty at its end, in whatever way. Nothing of it is lost where the caller is cancelled."""
        if self._full:
            self._full = False
            await self.breathe()
        while True:
            await self._watched.readable()
            try:
                data = os.read(self._fileno(), READ)
            except BlockingIOError:
                if self._waiting is _BODY and self._exchange is not None and self._exchange.over:
                    return b""
                continue
            except OSError:
                return b""
            if len(data) == READ:
                self._full = True
                self._watched.more()
            return data

    async def read_body(self, request: Request) -> None:
        """Wait for more of the body of `request`. Where none will come, the app is told."""
        self._waiting = _BODY
        self._timer.set(trio.current_time() + self.site.limits.idle_timeout)
        try:
            arrived = await self._read_body(request)
        finally:
            self._waiting = _NOTHING
            if not self._gone:
                self._timer.stop()
        if not arrived and self._exchange is not None and not self._exchange.over:
            self.hung_up()

    async def _read_body(self, request: Request) -> bool:
        parser = self._parser
        if parser.ahead:
            await self.breathe()
            parser.feed()
        elif not parser.over:
            data = await self.read()
            if not data:
                return False
            parser.feed(data)
        if parser.over and not request.whole:
            self.refuse(parser.error or BadRequest())
        return True

    async def write(self, data: bytes) -> None:
        """Send `data`, waiting while the client does not read. Where it cannot be sent, the app is told."""
        if not data or self.write_nowait(data):
            await self.breathe()
        else:
            await self.flush()

    def write_nowait(self, data: bytes) -> bool:
        """Send what the system takes in of `data`. Returns whether nothing is left for `flush`. Where it cannot be sent, the app is told."""
        try:
            return self.writer.write_nowait(data)
        except trio.BrokenResourceError:
            self.hung_up()
            return True

    async def flush(self) -> None:
        """Wait until the rest is with the system. Where it cannot be sent, the app is told."""
        try:
            await self.writer.flush()
        except trio.BrokenResourceError:
            self.hung_up()

    async def breathe(self) -> None:
        """Let others run, now and then."""
        self._steps += 1
        if self._steps % _TURN:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()

    def refuse(self, error: APIError) -> None:
        """Stop the app, answer with `error` instead as far as that is still possible, and end the connection."""
        self._refusal = error
        if self._exchange is not None and self._exchange.began:
            self._refusal = None
        self._end_exchange()
        self._scope.cancel(reason=f"the request is refused: {error.error_code}")

    def stop_app(self, reason: str) -> None:
        """Stop the app, which has said all that can be said."""
        if self._app_scope is not None:
            self._app_scope.cancel(reason=reason)

    def hung_up(self) -> None:
        """The client has gone. An app that is still at work for it is told, and cancelled soon."""
        exchange = self._exchange
        if not self._gone:
            self._gone = True
            if exchange is not None and (exchange.overlong or not exchange.answered):
                self._timer.set(trio.current_time() + timing.SHORTLY)
                self._end_exchange()

    def _end_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.end()
            self._watched.wake()  # an app that waits for its request, where it cannot be cancelled
            self._exchange.disconnect.announce()

    # Time, and the end

    def _expire(self) -> None:
        if self._waiting is _BODY and not self._gone:
            self.refuse(error_for(408))
            return
        if self._waiting is _HEAD and self._parser.in_head:
            self._refusal = error_for(408)
        self._scope.cancel(reason="the client has gone" if self._gone else "the client lets us wait")

    def _drain(self, phase: Phase) -> None:
        if self._waiting is _IDLE:
            self._linger = True
            self._scope.cancel(reason="the service leaves")
        elif self._waiting is _HEAD and not self._heard:
            self._timer.set(min(self._timer.deadline, trio.current_time() + timing.FRESH))

    async def _say_goodbye(self) -> None:
        """End the connection so that the client gets what was sent to it, and does not take for whole what is not."""
        exchange, writer = self._exchange, self.writer
        if self._refusal is not None:
            answer = make_refusal(self._refusal, method="HEAD" if self._to_head else "GET")
            with suppress(trio.BrokenResourceError):
                if not writer.write_nowait(answer):
                    await writer.flush()
        elif exchange is not None and not exchange.answered:
            head = exchange.head
            if head is not None and head.framing is Framing.CLOSE:
                writer.reset()  # an end would look like the answer's
        elif not self._linger:
            return
        if writer.lost or self._gone:
            return
        writer.finish()
        with trio.move_on_after(timing.LINGER_LEAVING if self.site.drain.draining else timing.LINGER):
            while await self.read():
                pass


def _nothing() -> None:
    pass


def _address(name: Callable[[], Any]) -> tuple[str, int] | None:
    try:
        found = name()
    except OSError:  # it has gone already, which reading will tell
        return None
    return (found[0], found[1]) if isinstance(found, tuple) else None
