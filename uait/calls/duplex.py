"""HTTP/1.1 to a service on another machine: kept connections, bytes passed on as they come, both ways at once.

The parsing is h11's. httpx does not do here, because a proxy must be able to read the answer while the request's body is still going out, and because
closing must never wait for the peer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import h11
import trio

from uait.calls.inprocess import CLOSE_TIMEOUT, Content, RawHeaders
from uait.calls.lifetime import open_helpers
from uait.errors import UpstreamError

CONNECT_TIMEOUT = 5.0
"""Seconds within which a connection must stand; the next instance is tried after."""

IDLE = 30.0
"""Seconds that an unused connection is kept: less than any sane server does, so that it is not closed under a request."""

IDLE_CONNECTIONS = 64
"""Unused connections kept to one address."""

CHUNK = 64 * 1024


class NotSent(Exception):
    """The instance cannot be reached: it has seen nothing of the call, so another one can be tried. `__cause__` is why."""


class NoAnswer(Exception):
    """The connection broke before there was an answer; the instance may have done the work. `__cause__` is why."""


_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError)


class Connection:
    """One connection, and h11's view of it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=CHUNK)
        self.idle_since = 0.0

    def usable(self) -> bool:
        """Whether an idle connection can take another request. What is readable now can only be the peer's goodbye."""
        return trio.current_time() - self.idle_since < IDLE and not self.stream.socket.is_readable()

    async def send(self, *events: h11.Event) -> None:
        data = b"".join(self.h11.send(event) or b"" for event in events)
        if data:
            await self.stream.send_all(data)

    async def next_event(self) -> h11.Event:
        """The next event of the answer. Raises `h11.RemoteProtocolError` where it is none, or the connection ends."""
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                self.h11.receive_data(bytes(await self.stream.receive_some(CHUNK)))
            elif isinstance(event, h11.Event):
                return event
            else:  # PAUSED
                raise h11.RemoteProtocolError("the peer sent more than its answer")


class Pool:
    """Connections that are kept for the next request to the same address."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[Connection]] = {}

    async def take(self, host: str, port: int) -> Connection:
        """A kept connection, or a new one.

        Raises:
            NotSent: there is nobody at this address.
        """
        idle = self._idle.get((host, port), [])
        while idle:
            connection = idle.pop()
            if connection.usable():
                return connection
            await trio.aclose_forcefully(connection.stream)
        return Connection(await connect(host, port))

    async def give_back(self, host: str, port: int, connection: Connection) -> None:
        """Keep `connection` where it can take another request, else close it. Never waits for the peer."""
        if connection.h11.our_state is connection.h11.their_state is h11.DONE:
            idle = self._idle.setdefault((host, port), [])
            if len(idle) < IDLE_CONNECTIONS:
                connection.h11.start_next_cycle()
                connection.idle_since = trio.current_time()
                idle.append(connection)
                return
        await trio.aclose_forcefully(connection.stream)

    async def aclose(self) -> None:
        """Close what is kept."""
        kept = [connection for idle in self._idle.values() for connection in idle]
        self._idle.clear()
        for connection in kept:
            await trio.aclose_forcefully(connection.stream)


async def connect(host: str, port: int) -> trio.SocketStream:
    """Open a TCP connection. Raises `NotSent` where there is nobody, or not in time."""
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            return await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError, ValueError) as error:  # ValueError: it is no host name
        raise NotSent from error


class _Upload:
    """A request's body on its way out."""

    def __init__(self, connection: Connection, content: bytes | AsyncIterable[bytes]) -> None:
        self.error: Exception | None = None
        self._connection = connection
        self._content = content

    async def run(self) -> None:
        try:
            if isinstance(self._content, bytes):
                await self._connection.send(h11.Data(data=self._content))
            else:
                await self._stream(aiter(self._content))
            await self._connection.send(h11.EndOfMessage())
        except _BROKEN:
            pass  # an early answer may still be there to read; where there is none, reading says so
        except Exception as error:
            self.error = error
            await trio.aclose_forcefully(self._connection.stream)

    async def _stream(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                await self._connection.send(h11.Data(data=chunk))
        finally:
            if isinstance(chunks, AsyncGenerator):
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                    await chunks.aclose()


class Answer:
    """An instance's answer: the head is here, the body is read as it comes."""

    def __init__(self, connection: Connection, upload: _Upload, response: h11.Response, name: str) -> None:
        self.status = response.status_code
        self.headers: list[tuple[bytes, bytes]] = list(response.headers)
        self._connection = connection
        self._upload = upload
        self._name = name
        self._complete = False

    async def read(self) -> bytes:
        """The next chunk of the body; b"" is its end.

        Raises:
            UpstreamError: the body broke off. What the request's body raises is raised here as it is.
        """
        while not self._complete:
            try:
                event = await self._connection.next_event()
            except _BROKEN as error:
                if self._upload.error is not None:
                    raise self._upload.error from None
                raise UpstreamError(f"The answer of {self._name} broke off.") from error
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
            self._complete = isinstance(event, h11.EndOfMessage)
        return b""


@asynccontextmanager
async def open_answer(
    pool: Pool, host: str, port: int, method: str, target: bytes, headers: RawHeaders, content: Content, *, name: str
) -> AsyncIterator[Answer]:
    """Send a request and give its answer; what is left of the body goes out while the block runs.

    Leaving the block before the answer's end closes the connection, which is how the peer learns that nobody waits any more.

    Args:
        pool: where the connection comes from and goes back to.
        host: where the instance listens.
        port: where the instance listens.
        method: the HTTP method.
        target: path and query, quoted.
        headers: without `Transfer-Encoding`; without `Content-Length` a body that streams goes in chunks.
        content: the body. What it raises comes out of here as it is.
        name: the service, for errors.

    Raises:
        NotSent, NoAnswer: instead of giving an answer.
    """
    content = content or b""
    headers = list(headers)
    if not isinstance(content, bytes) and all(key != b"content-length" for key, _ in headers):
        headers.append((b"transfer-encoding", b"chunked"))
    request = h11.Request(method=method, target=target, headers=headers)
    connection = await pool.take(host, port)
    upload = _Upload(connection, content)
    try:
        async with open_helpers("the caller closed the answer") as nursery:
            await _send_head(connection, upload, request, content, nursery)
            yield Answer(connection, upload, await _response(connection, upload), name)
    finally:
        await pool.give_back(host, port, connection)


async def _send_head(
    connection: Connection,
    upload: _Upload,
    request: h11.Request,
    content: bytes | AsyncIterable[bytes],
    nursery: trio.Nursery,
) -> None:
    try:
        if isinstance(content, bytes) and len(content) <= CHUNK:
            await connection.send(request, h11.Data(data=content), h11.EndOfMessage())
        else:
            await connection.send(request)
            nursery.start_soon(upload.run)
    except _BROKEN:
        pass  # an early answer may still be there to read; where there is none, reading says so


async def _response(connection: Connection, upload: _Upload) -> h11.Response:
    try:
        while True:
            event = await connection.next_event()
            if isinstance(event, h11.Response):
                return event
    except _BROKEN as error:
        if upload.error is not None:
            raise upload.error from None
        raise NoAnswer from error
