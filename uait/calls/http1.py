"""One HTTP/1.1 connection at the client's side: a question, then its answer as it comes (RFC 9112).

httpx's own transport makes seven async generators an answer; one that is not read to its end leaves them to the garbage collector, which trio reports as seven resource warnings. Here is none, and closing is one
synchronous call, so that it needs no shield when a scope is cancelled.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable, Iterable

import httptools
import httpx
import trio

HEAD_BYTES = 128 * 1024
"""How long an answer's head may be."""

TOGETHER_BYTES = 64 * 1024
"""Up to here a body goes out in one piece with its head, and before the answer is waited for."""

_READ_BYTES = 64 * 1024
_FORBIDDEN = re.compile(rb"[\r\n\0]")


class StaleConnection(Exception):
    """A connection that had been used before was closed by the other side before a byte of this answer came."""


class Connection:
    """A connected stream. Whoever opened it calls `close`, also in the middle of anything."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.used = False
        self.idle_since = 0.0
        self._socket = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket

    def close(self) -> None:
        """Close the socket now, without a TLS goodbye. Whoever waits for it gets an error. Idempotent."""
        self._socket.close()

    def quiet(self) -> bool:
        """Whether an idle connection has neither been closed by the other side nor received what nobody asked for."""
        return self._socket.fileno() >= 0 and not self._socket.is_readable()

    async def exchange(self, request: httpx.Request, release: Callable[[Answer], None]) -> Answer:
        """Send `request` and read the head of its answer.

        An answer that comes before the body is sent ends the sending. When this raises or is cancelled, the connection is of no further use: close it.

        Args:
            release: called once, when the answer is closed.

        Raises:
            StaleConnection: see there.
            httpx.TransportError: it broke, or the other side does not speak HTTP.
        """
        head = render_head(request.method, request.url.raw_path, request.headers.raw)
        answer = Answer(self, request.method, release)
        try:
            body = request.content
        except httpx.RequestNotRead:
            body = None
        if body is not None and len(body) <= TOGETHER_BYTES:
            await self.send(head + body, answer)
            await answer.read_head()
            return answer
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                nonlocal failure
                try:
                    assert isinstance(request.stream, httpx.AsyncByteStream)
                    await self.send_long(head, request.stream if body is None else body, answer)
                except Exception as error:
                    failure = error
                    nursery.cancel_scope.cancel(reason="the request's body failed")

            nursery.start_soon(send)
            try:
                await answer.read_head()
            except (httpx.TransportError, StaleConnection) as error:
                failure = error
            nursery.cancel_scope.cancel(reason="the answer has come")
        if failure is not None:
            raise failure
        return answer

    async def send(self, data: bytes, answer: Answer) -> None:
        """Send a request, or a part of it. What goes wrong is noted: the other side may have answered before it closed, and if not, reading says so."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            answer.sending_failed = True

    async def send_long(self, head: bytes, body: bytes | AsyncIterable[bytes], answer: Answer) -> None:
        """Send a request while its answer is waited for, or read."""
        answer.sending = True
        if isinstance(body, bytes):
            await self.send(head + body, answer)
        else:
            await self._send_parts(head, body, answer)
        answer.sending = answer.sending_failed

    async def _send_parts(self, head: bytes, body: AsyncIterable[bytes], answer: Answer) -> None:
        chunked = b"\r\ntransfer-encoding: chunked\r\n" in head.lower()
        await self.send(head, answer)
        async for part in body:
            if part and not answer.sending_failed:
                await self.send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part, answer)
        if chunked and not answer.sending_failed:
            await self.send(b"0\r\n\r\n", answer)


class Answer(httpx.AsyncByteStream):
    """An answer as it comes: the head after `read_head`, then an async iterator of the body's pieces as they arrive.

    Attributes:
        complete: the body was read to its end.
        reusable: nothing in the answer forbids that the connection serves again.
        sending: not all of the request is out yet.
    """

    def __init__(self, connection: Connection, method: str, release: Callable[[Answer], None]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reusable = True
        self.sending = False
        self.sending_failed = False
        self._release: Callable[[Answer], None] | None = release
        self._connection = connection
        self._without_body = method == "HEAD"
        self._has_head = False
        self._until_close = True
        self._keep_alive = False
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    @property
    def frees_connection(self) -> bool:
        """Whether the connection can serve another question now."""
        return self.complete and self.reusable and not self.sending

    # What httptools calls while it parses.

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = []
            return
        self.status = status
        self._has_head = True
        self._until_close = not any(
            name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers
        )
        self._keep_alive = self._parser.should_keep_alive()
        if self._without_body:
            self.complete = True
            self.reusable = False

    def on_body(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._has_head:
            self.complete = True
            self.reusable = self.reusable and self._keep_alive

    async def read_head(self) -> None:
        """Read until the head is there. Interim answers (1xx) are passed over."""
        read = 0
        while not self._has_head:
            try:
                data = await self._receive()
            except httpx.ReadError:
                if self._connection.used and not read:
                    raise StaleConnection from None
                raise
            if not data:
                if self._connection.used and not read:
                    raise StaleConnection
                raise httpx.RemoteProtocolError("the connection was closed before there was an answer")
            read += len(data)
            self._parse(data)
            if read > HEAD_BYTES and not self._has_head:
                raise httpx.RemoteProtocolError(f"the head of the answer is longer than {HEAD_BYTES} bytes")

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.complete:
                raise StopAsyncIteration
            data = await self._receive()
            if data:
                self._parse(data)
            elif self._until_close:
                self.complete, self.reusable = True, False
            else:
                raise httpx.RemoteProtocolError("the connection was closed before the answer was complete")
        if len(self._pieces) == 1:
            return self._pieces.pop()
        # Chunks that came together go on together.
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    async def aclose(self) -> None:
        """Let go of the connection: it serves again where the answer was read to its end, and is closed otherwise. Idempotent; never waits."""
        release, self._release = self._release, None
        if release is not None:
            release(self)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            if not self.complete:
                raise httpx.RemoteProtocolError(f"this is not an HTTP answer: {error}") from None

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._connection.stream.receive_some(_READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(str(error) or "the connection broke") from error


def render_head(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The request line and headers.

    Raises:
        httpx.LocalProtocolError: something in it would break the message apart.
    """
    parts = [method.encode("ascii"), target]
    lines = [b"%b %b HTTP/1.1" % (parts[0], parts[1])]
    for name, value in headers:
        parts += (name, value)
        lines.append(b"%b: %b" % (name, value))
    if _FORBIDDEN.search(b"".join(parts)) or b" " in parts[1]:
        raise httpx.LocalProtocolError("a line break or NUL in the request's target or headers")
    return b"\r\n".join(lines) + b"\r\n\r\n"
