"""One HTTP exchange with a provider: sent, bounded in time, read as it comes, closed in every case."""

from __future__ import annotations

import zlib
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import httpx
import orjson
import trio

from uait.calls.transport import Reply, TrioTransport
from uait.errors import APIError
from uait.llm import upstream
from uait.llm.upstream import Timeouts

T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of an answer in one piece."""

MAX_ERROR_BYTES = 64 * 1024
MAX_URLS = 256
ERROR_TIMEOUT = 2.0


class ProviderHTTP:
    """One provider's address and key.

    Args:
        name: the provider's, for errors.
        base_url: what the paths are put after.
        headers: sent with every question.
    """

    def __init__(self, name: str, base_url: str, headers: dict[str, str], timeouts: Timeouts) -> None:
        self.name = name
        self.timeouts = timeouts
        self._base_url = base_url.rstrip("/")
        # Compression would only hold tokens back.
        self._headers = httpx.Headers({"accept-encoding": "identity", "user-agent": "uait", **headers})
        self._raw_headers = self._headers.raw
        self._times = {"connect": timeouts.connect}
        # Parsing a URL is a good part of what a short question costs.
        self._urls: dict[str, httpx.URL] = {}
        self._transport = TrioTransport()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def ask(
        self, method: str, path: str, body: Any = None, *, deadline: float, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a question; its answer can be read with `pieces` or `whole`. Whoever gets it closes it, in every case.

        Args:
            deadline: until when the answer's head must be here, on trio's clock.
            headers: for this question only.

        Raises:
            APIError: the provider cannot be reached, or refuses.
        """
        url = self._urls.get(path)
        if url is None:
            url = httpx.URL(self._base_url + path)
            if len(self._urls) < MAX_URLS:  # a path may have a model's name in it, and a client can name any
                self._urls[path] = url
        content = b"" if body is None else orjson.dumps(body)
        fields = [(b"host", url.netloc), *self._raw_headers]
        if headers:
            fields += httpx.Headers(headers).raw
        if body is not None:
            fields += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        asking = self._transport.ask(method, url, fields, content, self._times, repeatable=True)
        reply = await self._in_time(asking, deadline)
        if reply.status >= 400:
            try:
                raise await self._refusal(reply)
            finally:
                await reply.aclose()
        return reply

    async def json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Ask for a JSON answer in one piece."""
        deadline = trio.current_time() + self.timeouts.total
        reply = await self.ask(method, path, body, deadline=deadline, headers=headers)
        try:
            content = await self.whole(reply, deadline)
        finally:
            await reply.aclose()
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise upstream.broken(self.name, "sent something that is not JSON") from None

    async def whole(self, reply: Reply, deadline: float) -> bytes:
        """Read an answer to its end."""
        content, source = bytearray(), pieces(reply)
        if not await self._gather(source, content, waiting=False):  # often it is all here with the head
            await self._in_time(self._gather(source, content, waiting=True), deadline)
        return bytes(content)

    async def _gather(self, source: Pieces, content: bytearray, *, waiting: bool) -> bool:
        """Add to `content` what there is of an answer, or, `waiting`, all of it. True at its end."""
        while waiting or source.ready:
            try:
                content += await source.__anext__()
            except StopAsyncIteration:
                return True
            if len(content) > MAX_BODY_BYTES:
                raise upstream.broken(self.name, f"sent more than {MAX_BODY_BYTES} bytes")
        return False

    async def _in_time(self, step: Coroutine[Any, Any, T], deadline: float) -> T:
        """Await `step`, and turn what HTTP or the clock raises into our errors."""
        try:
            if trio.current_effective_deadline() <= deadline:  # whoever has set that one tells of it
                return await step
            with trio.CancelScope(deadline=deadline):
                return await step
        except httpx.HTTPError as error:
            raise upstream.from_transport(self.name, error) from error
        raise upstream.too_slow(self.name, "did not answer")

    async def _refusal(self, reply: Reply) -> APIError:
        body = bytearray()
        with trio.move_on_after(ERROR_TIMEOUT):
            try:
                async for piece in pieces(reply):
                    body += piece
                    if len(body) >= MAX_ERROR_BYTES:
                        break
            except httpx.HTTPError:
                pass  # the status says enough
        headers = httpx.Headers(reply.headers)
        return upstream.from_status(self.name, reply.status, bytes(body[:MAX_ERROR_BYTES]), headers)


class Pieces(Protocol):
    """A body as it comes. No generator: those must not be left in the middle.

    Attributes:
        ready: the next step does not wait.
    """

    @property
    def ready(self) -> bool: ...
    def __aiter__(self) -> Pieces: ...
    async def __anext__(self) -> bytes: ...


def field(reply: Reply, name: bytes) -> str:
    """The value of an answer's header, its name given in lower case; "" where there is none. Where it came several times, the first counts."""
    for given, value in reply.headers:
        if given.lower() == name:
            return value.decode("latin-1")
    return ""


def pieces(reply: Reply) -> Pieces:
    """The body as it comes, decoded where it was compressed unasked."""
    encoding = field(reply, b"content-encoding").strip().lower()
    return reply if encoding in ("identity", "") else _Inflated(reply, encoding)


class _Inflated:
    ready = False

    def __init__(self, source: Pieces, encoding: str) -> None:
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
