"""A question to a service on another machine, over HTTP/1.1: the answer is read while the request's body is still going out.

httpx's interface cannot have that, since its answer is handed out when nobody is left to own the upload; here both live in one block.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

from uait.calls import http1
from uait.calls.http1 import TOGETHER_BYTES, Connection, StaleConnection, render_head
from uait.calls.inprocess import CLOSE_TIMEOUT, Content, RawHeaders
from uait.calls.lifetime import open_helpers
from uait.calls.pool import Origin, Pool
from uait.errors import UpstreamError

CONNECT_TIMEOUT = 5.0
"""Seconds within which a connection must stand; the next instance is tried after."""


class NotSent(Exception):
    """The instance cannot be reached: it has seen nothing of the call, so another one can be tried. `__cause__` is why."""


class NoAnswer(Exception):
    """The connection broke before there was an answer; the instance may have done the work. `__cause__` is why."""


async def connect(pool: Pool, origin: Origin) -> Connection:
    """Open a connection. Raises `NotSent` where there is nobody, or not in time."""
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            return await pool.connect(origin)
    except (httpx.ConnectError, trio.TooSlowError, ValueError) as error:  # ValueError: it is no host name
        raise NotSent from error


class Answer:
    """An instance's answer: the head is here, the body is read as it comes."""

    def __init__(self, answer: http1.Answer, upload: _Upload, name: str) -> None:
        self.status = answer.status
        self.headers = [(key.lower(), value) for key, value in answer.headers]
        self._answer = answer
        self._upload = upload
        self._name = name

    async def read(self) -> bytes:
        """The next chunk of the body; b"" is its end.

        Raises:
            UpstreamError: the body broke off. What the request's body raises is raised here as it is.
        """
        try:
            return await anext(self._answer, b"")
        except httpx.TransportError as error:
            if self._upload.error is not None:
                raise self._upload.error from None
            raise UpstreamError(f"The answer of {self._name} broke off.") from error


class _Upload:
    """A request on its way out."""

    def __init__(self, connection: Connection, answer: http1.Answer) -> None:
        self.error: Exception | None = None
        self._connection = connection
        self._answer = answer

    async def run(self, head: bytes, content: bytes | AsyncIterable[bytes], length: int | None) -> None:
        """Send it all, in chunks or as `length` bytes, and close `content` where it is a generator."""
        body = content if isinstance(content, bytes) or length is None else _HeldTo(content, length)
        try:
            await self._connection.send_long(head, body, self._answer)
        except Exception as error:
            self.error = error
            self._connection.close()  # which ends the wait for the answer
        finally:
            if isinstance(content, AsyncGenerator):
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                    await content.aclose()


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
    origin = ("http", host, port)
    content = content or b""
    length = next((int(value) for key, value in headers if key == b"content-length"), None)
    if length is None and not isinstance(content, bytes):
        headers = [*headers, (b"transfer-encoding", b"chunked")]
    head = render_head(method, target, headers)
    connection = pool.take(origin) or await connect(pool, origin)

    def release(answer: http1.Answer) -> None:
        pool.give_back(origin, connection, reusable=answer.frees_connection)

    answer = http1.Answer(connection, method, release)
    upload = _Upload(connection, answer)
    try:
        async with open_helpers("the caller closed the answer") as nursery:
            if isinstance(content, bytes) and len(content) <= TOGETHER_BYTES:
                await connection.send(head + content, answer)
            else:
                nursery.start_soon(upload.run, head, content, length)
            try:
                await answer.read_head()
            except (StaleConnection, httpx.TransportError) as error:
                if upload.error is not None:
                    raise upload.error from None
                raise NoAnswer from error
            yield Answer(answer, upload, name)
    finally:
        await answer.aclose()


class _HeldTo:
    """The parts of `content`, which has to have `length` bytes: one more would be taken for the next request, one less would leave the peer waiting."""

    def __init__(self, content: AsyncIterable[bytes], length: int) -> None:
        self._parts = aiter(content)
        self._left = length

    def __aiter__(self) -> _HeldTo:
        return self

    async def __anext__(self) -> bytes:
        part = await anext(self._parts, b"")
        self._left -= len(part)
        if self._left < 0:
            raise ValueError("the body is longer than its Content-Length")
        if part:
            return part
        if self._left:
            raise ValueError("the body is shorter than its Content-Length")
        raise StopAsyncIteration
