"""One HTTP exchange with a provider: sent, bounded in time, read as it comes, closed in every case."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import orjson
import trio

from uait.calls.transport import REPLAYABLE, TrioTransport
from uait.errors import APIError
from uait.llm import upstream
from uait.llm.upstream import Timeouts

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of an answer in one piece."""

MAX_ERROR_BYTES = 64 * 1024
MAX_URLS = 256
ERROR_TIMEOUT = 2.0
CLOSE_TIMEOUT = 1.0


class ProviderHTTP:
    """One provider's address and key.

    Args:
        name: the provider's, for errors.
        base_url: what the paths are put after.
        headers: sent with every question.
        transport: in place of our own, for tests.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        headers: dict[str, str],
        timeouts: Timeouts,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self.timeouts = timeouts
        self._base_url = base_url.rstrip("/")
        # Compression would only hold tokens back.
        self._headers = httpx.Headers({"accept-encoding": "identity", "user-agent": "uait", **headers})
        # Parsing a URL is a good part of what a short question costs.
        self._urls: dict[str, httpx.URL] = {}
        self._transport = transport or TrioTransport()

    async def aclose(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, body: Any = None, *, deadline: float, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a question; inside the block its answer can be read with `pieces` or `whole`.

        Args:
            deadline: until when the answer's head must be here, on trio's clock.
            headers: for this question only.

        Raises:
            APIError: the provider cannot be reached, or refuses.
        """
        request = self._request(method, path, body)
        if headers:
            request.headers.update(headers)
        with translated(self.name), trio.fail_at(deadline):
            response = await self._transport.handle_async_request(request)
        try:
            if response.status_code >= 400:
                raise await self._refusal(response)
            yield response
        finally:
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_TIMEOUT, shield=True):
                await _stream_of(response).aclose()

    def _request(self, method: str, path: str, body: Any) -> httpx.Request:
        url = self._urls.get(path)
        if url is None:
            url = httpx.URL(self._base_url + path)
            if len(self._urls) < MAX_URLS:  # a path may have a model's name in it, and a client can name any
                self._urls[path] = url
        extensions = {"timeout": {"connect": self.timeouts.connect}, REPLAYABLE: True}
        if body is None:
            return httpx.Request(method, url, headers=self._headers, extensions=extensions)
        # A stream, and the headers that httpx would add: working these out takes it as long as sending them.
        content = orjson.dumps(body)
        headers = [
            *self._headers.raw,
            (b"host", url.netloc),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        request = httpx.Request(method, url, headers=headers, stream=httpx.ByteStream(content), extensions=extensions)
        request.read()
        return request

    async def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Ask for a JSON answer in one piece."""
        deadline = trio.current_time() + self.timeouts.total
        async with self.ask(method, path, body, deadline=deadline, headers=headers) as response:
            content = await self.whole(response, deadline)
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise upstream.broken(self.name, "sent something that is not JSON") from None

    async def whole(self, response: httpx.Response, deadline: float) -> bytes:
        """Read an answer to its end."""
        content = bytearray()
        with translated(self.name), trio.fail_at(deadline):
            async for piece in pieces(response):
                content += piece
                if len(content) > MAX_BODY_BYTES:
                    raise upstream.broken(self.name, f"sent more than {MAX_BODY_BYTES} bytes")
        return bytes(content)

    async def _refusal(self, response: httpx.Response) -> APIError:
        body = bytearray()
        with trio.move_on_after(ERROR_TIMEOUT):
            try:
                async for piece in pieces(response):
                    body += piece
                    if len(body) >= MAX_ERROR_BYTES:
                        break
            except httpx.HTTPError:
                pass  # the status says enough
        return upstream.from_status(self.name, response.status_code, bytes(body[:MAX_ERROR_BYTES]), response.headers)


def _stream_of(response: httpx.Response) -> httpx.AsyncByteStream:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes, decoded where it was compressed unasked.

    Not `response.aiter_bytes`, whose nested generators must not be left in the middle.
    """
    source = _stream_of(response).__aiter__()
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    return source if encoding in ("identity", "") else _Inflated(source, encoding)


class _Inflated:
    def __init__(self, source: AsyncIterator[bytes], encoding: str) -> None:
        self._source = source
        self._encoding = encoding
        # 32 + 15: zlib's or gzip's header, whichever is there.
        self._inflate = zlib.decompressobj(32 + zlib.MAX_WBITS)

    def __aiter__(self) -> _Inflated:
        return self

    async def __anext__(self) -> bytes:
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise httpx.DecodingError(f"the encoding {self._encoding!r} was not asked for")
        while True:
            try:
                piece = self._inflate.decompress(await self._source.__anext__())
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
            if piece:
                return piece


@contextmanager
def translated(provider: str) -> Iterator[None]:
    """Turn what HTTP or the clock raises inside the block into our errors."""
    try:
        yield
    except httpx.HTTPError as error:
        raise upstream.from_transport(provider, error) from error
    except trio.TooSlowError:
        raise upstream.too_slow(provider, "did not answer") from None
