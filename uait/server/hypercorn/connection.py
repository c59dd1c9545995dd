"""One accepted connection: it reads, writes, waits and ends; hypercorn's protocol classes understand the bytes in between."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from uait.errors import APIError
from uait.server import timing
from uait.server.connection import Site, Stream, transport_of
from uait.server.drain import Drain, Phase
from uait.server.hypercorn.http1 import HTTP1
from uait.server.hypercorn.http2 import HTTP2
from uait.server.hypercorn.waiting import Waiting
from uait.server.inbox import ClientLeft
from uait.server.refusal import error_for
from uait.server.sockets import has_ended
from uait.server.writer import Writer

READ = 64 * 1024
READ_AHEAD = 64 * 1024
"""Bytes of requests that a client sends before it has the answer to an earlier one; more stay with the client."""


class HypercornConnections:
    """Serves connections for one site (`uait.server.connection.Speak`)."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._config = make_config(site)
        self._context = _Context(site.drain)

    def __call__(self, stream: Stream) -> Coroutine[Any, Any, None]:
        return Connection(self._site, stream, self._config, self._context).run()

    async def attend(self) -> None:
        """Nothing: each connection has what it needs."""


def make_config(site: Site) -> Config:
    """hypercorn's settings for the parts of it that are used here."""
    config = Config()
    config.errorlog = site.log  # a Logger is taken as it is; a name would reconfigure a global one
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = site.limits.header_bytes
    config.h2_max_header_list_size = site.limits.header_bytes
    config.keep_alive_max_requests = sys.maxsize
    return config


class _Context(WorkerContext):
    """What hypercorn's protocols ask of their worker: whether it is leaving."""

    def __init__(self, drain: Drain) -> None:
        super().__init__(None)
        self.terminated: Any = _Terminated(drain)


class _Terminated:
    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    def is_set(self) -> bool:
        return self._drain.draining


class Connection:
    """One connection's life. It has one task, and one more for each request or WebSocket that is open."""

    nursery: trio.Nursery

    def __init__(self, site: Site, stream: Stream, config: Config, context: WorkerContext) -> None:
        self.site = site
        self._stream = stream
        self._transport = transport_of(stream)
        self._config = config
        self._context = context
        self._writer = Writer(stream, site.limits.send_timeout)
        self._protocol: HTTP1 | HTTP2 | None = None
        self._receiving: trio.CancelScope | None = None
        self._ahead = bytearray()
        self._since = trio.current_time()
        self._expired = False
        self._heard = False
        self._pinged = False
        self._over = False
        self._linger = False

    async def run(self) -> None:
        """Serve the connection until it ends. See `uait.server.connection.ServeConnection`.

        A client that shuts its side down after a request counts as gone: TCP does not tell that from a client that has died, and the work for those must stop.
        """
        if isinstance(self._stream, trio.SSLStream) and not await self._shake_hands():
            return
        self.site.drain.add(self._drain)
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                protocol = self._protocol = self._make_protocol()
                await protocol.initiate()
                await self._read(protocol)
                await self._end(protocol)
                if self._linger:
                    with trio.move_on_after(timing.LINGER_LEAVING if self.site.drain.draining else timing.LINGER):
                        while await self._receive_some(math.inf):
                            pass
                if isinstance(self._stream, trio.SSLStream) and not self._writer.lost:
                    with (
                        trio.move_on_after(timing.LINGER),
                        suppress(trio.BrokenResourceError, trio.ClosedResourceError),
                    ):
                        await self._stream.aclose()
        finally:
            self.site.drain.discard(self._drain)
            # It knows this connection, and such a ring keeps its memory until the garbage collector comes by.
            self._protocol = None

    async def _shake_hands(self) -> bool:
        try:
            with trio.fail_after(self.site.limits.header_timeout):
                await self._stream.do_handshake()  # type: ignore[union-attr]
        except (trio.BrokenResourceError, trio.TooSlowError):
            return False
        return True

    def _make_protocol(self) -> HTTP1 | HTTP2:
        tls = isinstance(self._stream, trio.SSLStream)
        make: Callable[..., HTTP1 | HTTP2] = HTTP1
        if isinstance(self._stream, trio.SSLStream) and self._stream.selected_alpn_protocol() == "h2":
            make = HTTP2
        sock = self._transport.socket
        return make(
            self,
            self.site.app,
            self._config,
            self._context,
            self,
            ConnectionState(self.site.state),
            tls,
            _address(sock.family, sock.getpeername),
            _address(sock.family, sock.getsockname),
            self.send,
        )

    # What the protocol asks for

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Run one of the protocol's own tasks, for as long as the connection lives."""
        self.nursery.start_soon(function, *args)

    async def send(self, event: Event) -> None:
        """Do what the protocol says: send bytes, end the connection, or take note that it is idle."""
        protocol = self._protocol
        if isinstance(event, RawData):
            if event.data:
                try:
                    await self._writer.write(event.data)
                except trio.BrokenResourceError:
                    await self._lose()
        elif isinstance(event, Closed):
            await self._hang_up()
        elif isinstance(event, Updated) and protocol is not None:
            if event.idle:
                self._since = trio.current_time()
                if self.site.drain.draining:
                    await self._hang_up()
            self.reconsider()

    def reconsider(self) -> None:
        """Judge anew for how long the client is waited for."""
        if self._receiving is not None and self._protocol is not None and not self._over:
            self._receiving.deadline = self._deadline(self._protocol)

    def wake(self, reason: str) -> None:
        """Let the reading task look around."""
        if self._receiving is not None:
            self._receiving.cancel(reason=reason)

    async def wait_for(self, turn: trio.Event) -> None:
        """Wait for `turn`, holding what the client sends for later, and looking out for its end."""
        while not turn.is_set():
            if self._over:
                raise ClientLeft
            if len(self._ahead) >= READ_AHEAD:
                with trio.move_on_after(timing.SHORTLY):
                    await turn.wait()
                if self.has_left():
                    raise ClientLeft
                continue
            data = await self._receive_some(math.inf)
            if data:
                self._ahead += data
            elif data is not None:
                raise ClientLeft

    def has_left(self) -> bool:
        """Whether the system knows that the client has ended the connection, though there is still data to read before that."""
        return has_ended(self._transport.socket)

    # Reading

    async def _read(self, protocol: HTTP1 | HTTP2) -> None:
        while not self._over:
            data = await self._receive(protocol)
            if data is None:
                return
            try:
                await protocol.handle(RawData(data))
            except APIError as error:
                await protocol.refuse(error)
            except ClientLeft:
                return
            if not data:
                return

    async def _receive(self, protocol: HTTP1 | HTTP2) -> bytes | None:
        """What the client sent next: empty at its end, None where the connection is over for another reason."""
        if self._ahead:
            data, self._ahead = bytes(self._ahead), bytearray()
            return data
        while not self._over:
            received = await self._receive_some(self._deadline(protocol))
            if received is None:
                if self._expired and not self._over:
                    await self._run_out_of_patience(protocol)
                continue
            if protocol.waiting is Waiting.IDLE:
                self._since = trio.current_time()  # of the next request's head
            self._heard, self._pinged = True, False
            return received
        return None

    async def _receive_some(self, deadline: float) -> bytes | None:
        """Wait for bytes: empty where the client's side has ended, in whatever way; None at the deadline (`_expired`), or when woken."""
        self._expired = False
        with trio.CancelScope(deadline=deadline) as scope:
            self._receiving = scope
            try:
                return bytes(await self._stream.receive_some(READ))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return b""
            finally:
                self._receiving = None
        self._expired = trio.current_time() >= scope.deadline
        return None

    def _deadline(self, protocol: HTTP1 | HTTP2) -> float:
        limits, now, draining = self.site.limits, trio.current_time(), self.site.drain.draining
        match protocol.waiting:
            case Waiting.HEAD:
                return self._since + (timing.FRESH if draining and not self._heard else limits.header_timeout)
            case Waiting.IDLE:
                return -math.inf if draining else self._since + limits.idle_timeout
            case Waiting.BODY:
                return now + limits.idle_timeout
            case Waiting.FRAMES:
                return now + (limits.pong_timeout if self._pinged else limits.ping_interval)
            case Waiting.NOTHING:
                return math.inf

    async def _run_out_of_patience(self, protocol: HTTP1 | HTTP2) -> None:
        waiting = protocol.waiting
        if waiting is Waiting.FRAMES and not self._pinged:
            self._pinged = True
            await protocol.ping()
        elif waiting is Waiting.FRAMES:
            self._writer.reset()
            self._over = True
        elif waiting is Waiting.BODY or (waiting is Waiting.HEAD and self._heard):
            await protocol.refuse(error_for(408))
        else:
            self._over = True

    # Ending

    def _drain(self, phase: Phase) -> None:
        self.reconsider()

    async def _hang_up(self) -> None:
        """Our side is done."""
        if self._over or self._protocol is None:
            return
        self._over = True
        if self._protocol.looks_whole:
            self._writer.reset()
        else:
            self._linger = True
            self._writer.finish()
        await self._end(self._protocol)

    async def _lose(self) -> None:
        """The client cannot be reached any more."""
        self._over = True
        if self._protocol is not None:
            await self._end(self._protocol)

    async def _end(self, protocol: HTTP1 | HTTP2) -> None:
        self._over = True
        await protocol.handle(Closed())
        self.wake("the connection is over")


def _address(family: int, name: Callable[[], Any]) -> tuple[str, int] | None:
    try:
        return parse_socket_addr(family, name())
    except OSError:  # it has gone already, which reading will tell
        return None
