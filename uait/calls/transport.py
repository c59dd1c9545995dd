"""An httpx transport over pooled trio streams: httpx's interface, none of its pool's cost (which grows with what is under way).

Where it does as httpx's own transport does and where it means not to is told, and tested, in `tests/calls/test_differences.py`.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import AsyncIterable, Mapping
from functools import partial
from typing import Protocol

import httpx
import trio

from uait.calls.answer import Answer, StaleConnection
from uait.calls.http1 import Connection, Origin
from uait.calls.inprocess import CLOSE_TIMEOUT, RawHeaders
from uait.calls.pool import Pool
from uait.calls.question import Question, render

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})

REPLAYABLE = "uait.replayable"
"""Request extension: True allows to send a POST again when a pooled connection turns out to be closed before a byte of the answer came."""

_PORTS = {"http": 80, "https": 443}


Times = Mapping[str, float | None]
"""Seconds by what is waited for, as httpx's request extension `timeout` has them."""


class Reply(Protocol):
    """An answer whose head is there; its body is read by iterating over it, and whoever got it closes it.

    Attributes:
        ready: the next step of the iteration does not wait.
    """

    status: int
    headers: list[tuple[bytes, bytes]]

    @property
    def ready(self) -> bool: ...
    def __aiter__(self) -> Reply: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


class TrioTransport(httpx.AsyncBaseTransport):
    """Speaks HTTP/1.1, plain or TLS. What goes through a proxy, or over HTTP/2, is left to httpx's own transport.

    Times come from httpx's own request extension: `pool` covers the wait for a place at the origin, `connect` name, connection and TLS, `write` each 256 KiB of the request, `read` each wait for more of the answer once
    the request is out. A request whose kept connection turns out to be closed is sent once more, over a new one, where nothing of it was taken, or where sending it twice does what sending it once does.

    An answer that is not read to its end, or whose reader is cancelled, has its connection closed; `aclose` on it never waits. An answer that nobody closes keeps its place at the origin. A generator that is a request's body is the caller's to close, where the request may end before it: httpx wraps it so that nobody else can.

    Args:
        per_origin: requests under way to one origin; up to 1024 more wait, first come, first served.
        idle_per_origin: connections kept open for the next question to the same origin.
        idle_timeout: seconds they are kept.
        ssl_context: for `https:`; the default one verifies certificates by the system's authorities, and is made at the first need.
        http2: leave `https:` to httpx's own transport, and let it offer HTTP/2.
        trust_env: heed `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` as they are now, and `NO_PROXY`.
    """

    def __init__(
        self,
        *,
        per_origin: int = 512,
        idle_per_origin: int = 64,
        idle_timeout: float = 15.0,
        ssl_context: ssl.SSLContext | None = None,
        http2: bool = False,
        trust_env: bool = True,
    ) -> None:
        self._pool = Pool(
            per_origin=per_origin,
            idle_per_origin=idle_per_origin,
            idle_timeout=idle_timeout,
            ssl_context=ssl_context,
        )
        self._ssl_context = ssl_context
        self._http2 = http2
        self._proxies = _environment_proxies() if trust_env else {}
        self._others: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and return the answer as soon as its head is there. Its `stream` is an `Answer`, which can be iterated directly.

        Raises:
            httpx.TransportError: no connection, or it broke, or the other side does not speak HTTP.
        """
        origin = _origin(request.url)
        if self._proxies or self._http2:
            other = self._other(origin)
            if other is not None:
                return await other.handle_async_request(request)
        extensions = request.extensions
        question = render(request.method, extensions.get("target") or request.url.raw_path, request.headers.raw)
        body: bytes | AsyncIterable[bytes]
        try:
            body = request.content
        except httpx.RequestNotRead:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            body = request.stream
        repeatable = request.method in IDEMPOTENT or bool(extensions.get(REPLAYABLE))
        answer = await self._ask(origin, question, body, extensions.get("timeout") or {}, repeatable)
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=answer,
            request=request,
            extensions={"http_version": answer.http_version, "reason_phrase": answer.reason},
        )

    async def ask(
        self, method: str, url: httpx.URL, headers: RawHeaders, content: bytes, times: Times, *, repeatable: bool
    ) -> Reply:
        """What `handle_async_request` does, without httpx's objects, whose making takes as long as a third of the rest.

        Args:
            method: the HTTP method.
            url: where to.
            headers: all of them, `Host` and `Content-Length` included.
            content: the body.
            times: seconds by what is waited for.
            repeatable: as the request extension `REPLAYABLE`.
        """
        origin = _origin(url)
        if self._proxies or self._http2:
            other = self._other(origin)
            if other is not None:
                extensions = {"timeout": dict(times)}
                stream = httpx.ByteStream(content)
                request = httpx.Request(method, url, headers=list(headers), stream=stream, extensions=extensions)
                return _Foreign(await other.handle_async_request(request))
        return await self._ask(origin, render(method, url.raw_path, headers), content, times, repeatable)

    async def _ask(
        self, origin: Origin, question: Question, body: bytes | AsyncIterable[bytes], times: Times, repeatable: bool
    ) -> Answer:
        await self._pool.enter(origin, times.get("pool"))
        try:
            connection = self._pool.take(origin)
            if connection is not None:
                try:
                    return await self._exchange(connection, question, body, times)
                except StaleConnection as stale:
                    # A body that is made while it is sent is gone.
                    if not stale.untouched and not (repeatable and isinstance(body, bytes)):
                        raise httpx.RemoteProtocolError(
                            "the connection was closed before there was an answer"
                        ) from None
            connection = await self._pool.connect(origin, times.get("connect"))
            return await self._exchange(connection, question, body, times)
        except BaseException:
            self._pool.leave(origin)
            raise

    async def _exchange(
        self, connection: Connection, question: Question, body: bytes | AsyncIterable[bytes], times: Times
    ) -> Answer:
        try:
            return await connection.exchange(question, body, partial(self._pool.release, connection), times)
        except BaseException:
            connection.close()
            raise

    def _other(self, origin: Origin) -> httpx.AsyncHTTPTransport | None:
        """httpx's own transport, where the question is not ours to ask."""
        scheme, host, port = origin
        proxy = self._proxies.get(scheme) or self._proxies.get("all")
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if proxy is not None and urllib.request.proxy_bypass(authority):
            proxy = None
        if proxy is None and not (self._http2 and scheme == "https"):
            return None
        other = self._others.get(proxy)
        if other is None:
            verify: ssl.SSLContext | bool = True if self._ssl_context is None else self._ssl_context
            other = httpx.AsyncHTTPTransport(verify=verify, http2=self._http2, proxy=proxy)
            self._others[proxy] = other
        return other

    async def aclose(self) -> None:
        """Close the idle connections. Those in use are closed when their answers are."""
        self._pool.close()
        for other in self._others.values():
            await other.aclose()


class _Foreign:
    """An answer that httpx's own transport gave."""

    ready = False

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.status = response.status_code
        self.headers = response.headers.raw
        self._stream = response.stream
        self._pieces = aiter(response.stream)

    def __aiter__(self) -> _Foreign:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        # Other than ours, this one waits.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
            await self._stream.aclose()


def _origin(url: httpx.URL) -> Origin:
    scheme, host = url.scheme, url.raw_host.decode("ascii")
    if scheme not in _PORTS or not host:
        raise httpx.UnsupportedProtocol(f"cannot connect to {scheme}:")
    return scheme, host, url.port or _PORTS[scheme]


def _environment_proxies() -> dict[str, str]:
    """Scheme, or "all", to the URL of its proxy."""
    found = urllib.request.getproxies()
    return {
        name: url if "://" in url else f"http://{url}"
        for name, url in found.items()
        if name in ("http", "https", "all")
    }
