"""A question to a service on another machine, over HTTP/1.1: the answer is read while the request's body is still going out.

httpx's interface cannot have that, since its answer is handed out when nobody is left to own the upload; here both live in one block.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import httpx

from uait.calls import answer as http1
from uait.calls.answer import StaleConnection
from uait.calls.http1 import TOGETHER_BYTES, Connection, Origin
from uait.calls.inprocess import Content, RawHeaders
from uait.calls.lifetime import open_helpers
from uait.calls.pool import Pool
from uait.calls.question import Question, render
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
        return await pool.connect(origin, CONNECT_TIMEOUT)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
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

    async def run(self, question: Question, content: bytes | AsyncIterable[bytes]) -> None:
        """Send it all, in chunks or as many bytes as the head says."""
        try:
            await self._connection.send(question, content, self._answer)
        except Exception as error:
            self.error = error
            self._connection.close()  # which ends the wait for the answer


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
    if not isinstance(content, bytes) and all(key != b"content-length" for key, _ in headers):
        headers = [*headers, (b"transfer-encoding", b"chunked")]
    question = render(method, target, headers)
    connection = pool.take(origin) or await connect(pool, origin)

    def release(answer: http1.Answer) -> None:
        pool.give_back(connection, reusable=answer.frees_connection)

    answer = http1.Answer(connection, question, release)
    upload = _Upload(connection, answer)
    try:
        async with open_helpers("the caller closed the answer") as nursery:
            if isinstance(content, bytes) and len(content) <= TOGETHER_BYTES:
                await connection.send(question, content, answer)
            else:
                nursery.start_soon(upload.run, question, content)
            try:
                await answer.read_head()
            except (StaleConnection, httpx.TransportError) as error:
                if upload.error is not None:
                    raise upload.error from None
                raise (NotSent if answer.untouched else NoAnswer) from error
            yield Answer(answer, upload, name)
    finally:
        await answer.aclose()
