"""An httpx transport over pooled trio streams: httpx's interface, none of its pool's cost (which grows with what is under way)."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import httpx
import trio

from uait.calls.http1 import Answer, Connection, StaleConnection
from uait.calls.pool import Origin, Pool

T = TypeVar("T")

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})

REPLAYABLE = "uait.replayable"
"""Request extension: True allows to send a POST again when a pooled connection turns out to be closed before a byte of the answer came."""


class TrioTransport(httpx.AsyncBaseTransport):
    """Speaks HTTP/1.1, plain or TLS. No proxies, no HTTP/2.

    Times come from httpx's own request extension: `connect` covers name, connection and TLS, `read` the wait for the head and for each piece, `write` is not counted apart. An answer that is not read to its end, or
    whose reader is cancelled, has its connection closed; `aclose` on it never waits.

    Args:
        idle_per_origin: connections kept open for the next question to the same origin.
        idle_timeout: seconds they are kept.
        ssl_context: for `https:`; the default one verifies certificates, and is made at the first need.
    """

    def __init__(
        self, *, idle_per_origin: int = 64, idle_timeout: float = 15.0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._pool = Pool(idle_per_origin=idle_per_origin, idle_timeout=idle_timeout, ssl_context=ssl_context)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and return the answer as soon as its head is there. Its `stream` is an `Answer`, which can be iterated directly.

        Raises:
            httpx.TransportError: no connection, or it broke, or the other side does not speak HTTP.
        """
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise httpx.UnsupportedProtocol(f"cannot connect to {url.scheme}:", request=request)
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        times = request.extensions.get("timeout", {})
        with _about(request):
            connection = self._pool.take(origin) or await self._connect(origin, times.get("connect"))
            while True:
                try:
                    exchange = partial(connection.exchange, request, self._releaser(origin, connection))
                    answer = await _limited(exchange, times.get("read"), httpx.ReadTimeout("no answer in time"))
                    break
                except StaleConnection:
                    connection.close()
                    if not _may_repeat(request):
                        raise httpx.RemoteProtocolError(
                            "the connection was closed before there was an answer"
                        ) from None
                    connection = await self._connect(origin, times.get("connect"))
                except BaseException:
                    connection.close()
                    raise
        stream = answer if times.get("read") is None else _Timed(answer, times["read"], request)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, request=request)

    async def aclose(self) -> None:
        """Close the idle connections. Those in use are closed when their answers are."""
        self._pool.close()

    def _releaser(self, origin: Origin, connection: Connection) -> Callable[[Answer], None]:
        def release(answer: Answer) -> None:
            self._pool.give_back(origin, connection, reusable=answer.frees_connection)

        return release

    async def _connect(self, origin: Origin, timeout: float | None) -> Connection:
        return await _limited(
            lambda: self._pool.connect(origin), timeout, httpx.ConnectTimeout("no connection in time")
        )


class _Timed(httpx.AsyncByteStream):
    """An answer each of whose pieces has to come within `timeout` seconds."""

    def __init__(self, answer: Answer, timeout: float, request: httpx.Request) -> None:
        self._answer = answer
        self._timeout = timeout
        self._request = request

    def __aiter__(self) -> _Timed:
        return self

    async def __anext__(self) -> bytes:
        with _about(self._request):
            return await _limited(self._answer.__anext__, self._timeout, httpx.ReadTimeout("nothing more came in time"))

    async def aclose(self) -> None:
        await self._answer.aclose()


def _may_repeat(request: httpx.Request) -> bool:
    if request.method not in IDEMPOTENT and not request.extensions.get(REPLAYABLE):
        return False
    try:
        request.content  # noqa: B018  a body that is made while it is sent is gone
    except httpx.RequestNotRead:
        return False
    return True


async def _limited(work: Callable[[], Awaitable[T]], timeout: float | None, late: httpx.TimeoutException) -> T:
    if timeout is None:
        return await work()
    try:
        with trio.fail_after(timeout):
            return await work()
    except trio.TooSlowError:
        raise late from None


@contextmanager
def _about(request: httpx.Request) -> Iterator[None]:
    """Name the request in what is raised, as httpx's users expect."""
    try:
        yield
    except httpx.RequestError as error:
        error.request = request
        raise
