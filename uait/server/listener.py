"""A server: listening sockets that belong to somebody else, the connections accepted from them, and a way out that is bounded whatever clients do."""

from __future__ import annotations

import errno
import logging
import math
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

import attrs
import trio

from uait.server.asgi import ASGIApp
from uait.server.connection import ServeConnection, Site, Speak, Stream
from uait.server.drain import Drain
from uait.server.http1 import NativeConnections
from uait.server.lifespan import Lifespan
from uait.server.limits import ServerLimits, ServerStatistics
from uait.server.refusal import full_house
from uait.server.sockets import address_of, tune
from uait.server.stuck import where
from uait.server.writer import reset

CUT = 1.0
"""Seconds after the end of the grace period in which whoever is left may say goodbye."""

KILL = 0.4
"""Seconds that cancelled connections may take before their sockets are closed under them, and then once more."""

_RETRY = 0.1
_MOMENT = 0.001
_REFUSALS = 64
_TOLD = 20
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


@asynccontextmanager
async def open_server(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    limits: ServerLimits = ServerLimits(),
    drain: Drain | None = None,
    log: logging.Logger | None = None,
    tls: ssl.SSLContext | None = None,
    speak: Speak | None = None,
) -> AsyncIterator[Server]:
    """Serve `app` on `sockets` while the block runs.

    Args:
        app: any ASGI 3 app. One without lifespan support is served all the same.
        sockets: listening, as `bind` gives them. They stay the caller's: duplicates are used here, so that a next server can go on with them and clients wait in between.
        drain: announces the server's leaving to whoever is interested; a new one where none is given.
        log: where trouble goes; by default the logger "uait.server".
        tls: serve over TLS. HTTP/2 is spoken where its ALPN protocols include "h2" and the client asks for it.
        speak: what serves the connections: `NativeConnections`, the default for plain text, or `HypercornConnections`, the default (and the only one) for TLS.

    Yields:
        The `Server`, when the app's startup is complete and connections are accepted.

    Raises:
        ServiceFailed: the app's startup failed (before the block), or what it runs in its lifespan crashed (out of the block). `__cause__` is the app's own error.

    Leaving the block, by cancellation too, cancels what is still open, closes its sockets, and then runs the app's shutdown for at most `limits.shutdown_timeout` seconds. Call `Server.drain` before for a
    gentle end. No client can hold the end up for more than a second or two; an app that shields itself from cancellation can, and is named in the log.
    """
    log = log or logging.getLogger("uait.server")
    lifespan = Lifespan(app, log, startup_timeout=limits.startup_timeout, shutdown_timeout=limits.shutdown_timeout)
    site = Site(app=app, limits=limits, drain=drain or Drain(), log=log, state=lifespan.state)
    failure: BaseException | None = None
    with ExitStack() as stack:
        listeners = [stack.enter_context(sock.dup()) for sock in sockets]
        for listener in listeners:
            tune(listener, limits.send_timeout)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(lifespan.run, name="lifespan")
                server = Server(site, nursery, listeners, lifespan, tls=tls, serve=(speak or _default(tls))(site))
                try:
                    server.start()
                    yield server
                finally:
                    with trio.CancelScope(shield=True):
                        await server.close()
                        await lifespan.shutdown()
        except BaseExceptionGroup as group:
            # What comes out of the block should be what went into it, not a nursery's wrapping of it.
            if len(group.exceptions) != 1:
                raise
            failure = group.exceptions[0]
    if failure is not None:
        raise failure


def _default(tls: ssl.SSLContext | None) -> Speak:
    if tls is None:
        return NativeConnections
    from uait.server.hypercorn import HypercornConnections  # takes its time, and its memory

    return HypercornConnections


@attrs.define(eq=False)
class _Accepted:
    """One connection as the listener sees it."""

    transport: trio.SocketStream
    peer: str
    cancel_scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    task: trio.lowlevel.Task | None = None


class Server:
    """A running server. `open_server` makes it.

    Attributes:
        addresses: base URLs that it listens on (`http://127.0.0.1:8016`).
    """

    def __init__(
        self,
        site: Site,
        nursery: trio.Nursery,
        listeners: Sequence[socket.socket],
        lifespan: Lifespan,
        *,
        tls: ssl.SSLContext | None,
        serve: ServeConnection,
    ) -> None:
        self.addresses = tuple(address_of(sock, "https" if tls else "http") for sock in listeners)
        self._site = site
        self._limits = site.limits
        self._log = site.log
        self._nursery = nursery
        self._listeners = listeners
        self._lifespan = lifespan
        self._tls = tls
        self._serve = serve
        self._accepting = trio.CancelScope()
        # Shielded: what is cancelled together with it can only be cut off with its help. `close` ends it.
        self._attending = trio.CancelScope(shield=True)
        self._open: set[_Accepted] = set()
        self._none_open = trio.Event()
        self._accepted = self._rejected = self._failed = self._refusing = 0
        self._stuck: list[str] = []
        self._warned = -math.inf

    def statistics(self) -> ServerStatistics:
        """The connections as they are at this moment."""
        return ServerStatistics(
            open=len(self._open),
            accepted=self._accepted,
            rejected=self._rejected,
            failed=self._failed,
            stuck=tuple(self._stuck),
        )

    async def drain(self, grace: float, *, refuse: bool = False) -> None:
        """Leave: stop accepting, tell every open request, and wait until they are over.

        Idle connections end at once, requests in flight are answered with `Connection: close`, WebSockets closed with 1012. After `grace` seconds whoever is left is told once more, has a second, is
        cancelled, and loses its socket in the end. Those that had to be cancelled are in the log and in `ServerStatistics.stuck`.

        Args:
            grace: seconds.
            refuse: refuse new connections from now on; the caller's sockets are of no further use then. Otherwise they wait in the sockets' backlog for the next server.

        Returns at the latest `grace` + 2 seconds later, whatever clients do. Calling it again is harmless; cancelling it leaves the rest to the end of `open_server`.
        """
        self._accepting.cancel(reason="the server is draining")
        if refuse:
            for listener in self._listeners:
                with suppress(OSError):  # not every system can do it; there they wait, and are refused in the end
                    listener.shutdown(socket.SHUT_RDWR)
        self._site.drain.begin()
        if await self._wait(grace):
            return
        self._site.drain.cut()
        if await self._wait(CUT):
            return
        self._report()
        await self._cut_off("the grace period is over")

    def end_by(self, deadline: float) -> None:
        """Give the app's shutdown time until `deadline` (on trio's clock) at the longest, even where `limits.shutdown_timeout` is longer or it has begun."""
        self._lifespan.end_by(deadline)

    # Used by open_server

    def start(self) -> None:
        """Accept connections."""
        self._nursery.start_soon(self._attend, name="attend")
        self._nursery.start_soon(self._accept_all, name="accept")

    async def close(self) -> None:
        """Stop accepting and end what is open. Bounded, and to be called under a shield."""
        self._accepting.cancel(reason="the server is closed")
        try:
            await self._cut_off("the server is closed")
            if self._open:
                self._report("does not end, and is waited for")
        finally:
            self._attending.cancel(reason="the server is closed")

    async def _attend(self) -> None:
        with self._attending:
            await self._serve.attend()

    async def _wait(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            while self._open:
                await self._none_open.wait()
            return True
        return not self._open

    async def _cut_off(self, reason: str) -> None:
        for accepted in list(self._open):
            accepted.cancel_scope.cancel(reason=reason)
        if await self._wait(KILL):
            return
        for accepted in list(self._open):
            with suppress(OSError):
                accepted.transport.socket.shutdown(
                    socket.SHUT_RDWR
                )  # wakes up whoever reads, a shield around it or not
        if await self._wait(KILL / 2):
            return
        for accepted in list(self._open):
            reset(accepted.transport)
        await self._wait(KILL / 2)

    def _report(self, what: str = "did not end in time") -> None:
        stuck = [f"{accepted.peer}: {where(accepted.task)}" for accepted in self._open if accepted.task is not None]
        self._stuck += [one for one in stuck if one not in self._stuck]
        for one in stuck[:_TOLD]:
            self._log.warning("a connection %s: %s", what, one)
        if len(stuck) > _TOLD:
            self._log.warning("%d more connections likewise", len(stuck) - _TOLD)

    # Accepting

    async def _accept_all(self) -> None:
        with self._accepting:
            async with trio.open_nursery() as nursery:
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener, name=f"accept on {address_of(listener)}")

    async def _accept(self, listener: socket.socket) -> None:
        """Accept for ever. No error ends it: without this loop the service would look alive and be deaf."""
        sock = trio.socket.from_stdlib_socket(listener)
        while True:
            try:
                accepted, _ = await sock.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._warn("cannot accept connections: %s", error)
                    await trio.sleep(_RETRY)
                elif error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                    self._warn("the listening socket is broken: %s", error)
                    await trio.sleep(1)
                else:  # ECONNABORTED, EPROTO, ENETDOWN, ...: the trouble of one connection, which is not there any more
                    await trio.sleep(_MOMENT)
                continue
            self._take(accepted)

    def _take(self, sock: trio.socket.SocketType) -> None:
        self._accepted += 1
        try:
            transport = trio.SocketStream(sock)
            peer = _name(sock)
        except OSError:
            sock.close()
            return
        if len(self._open) < self._limits.connections:
            one = _Accepted(transport, peer)
            self._open.add(one)
            self._nursery.start_soon(self._run, one, name=f"connection {peer}")
            return
        self._rejected += 1
        self._warn("more than %d connections", self._limits.connections)
        if self._tls is None and self._refusing < _REFUSALS:
            self._refusing += 1
            self._nursery.start_soon(self._refuse, transport)
        else:
            reset(transport)

    async def _run(self, one: _Accepted) -> None:
        """Serve one connection. Whatever goes wrong is that connection's end, and nobody else's."""
        one.task = trio.lowlevel.current_task()
        try:
            with one.cancel_scope:
                await self._serve(self._stream(one.transport))
        except* Exception as group:
            self._failed += 1
            first = _first(group)
            self._log.warning("the connection of %s failed: %s: %s", one.peer, type(first).__name__, first)
            self._log.debug("it failed with", exc_info=group)
        finally:
            one.transport.socket.close()
            self._open.discard(one)
            if not self._open:
                self._none_open.set()
                self._none_open = trio.Event()

    def _stream(self, transport: trio.SocketStream) -> Stream:
        if self._tls is None:
            return transport
        return trio.SSLStream(transport, self._tls, server_side=True, https_compatible=True)

    async def _refuse(self, transport: trio.SocketStream) -> None:
        """Say that there is no room, and give the client a moment to read it: closing a socket with unread data would destroy the answer."""
        try:
            with trio.move_on_after(1):
                await transport.send_all(full_house())
                await transport.send_eof()
                while await transport.receive_some():
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._refusing -= 1
            transport.socket.close()

    def _warn(self, message: str, *args: object) -> None:
        """Log at most once in ten seconds: what fails for one connection mostly fails for thousands."""
        now = trio.current_time()
        if now - self._warned >= 10:
            self._warned = now
            self._log.warning(message, *args)


def _name(sock: trio.socket.SocketType) -> str:
    host, port = sock.getpeername()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
