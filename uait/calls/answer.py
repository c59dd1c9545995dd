"""The answer to a request, read from an HTTP/1.1 connection as it comes (RFC 9112 sections 2 to 7).

What it does: every framing of a body, interim answers (passed over), trailers, answers to HEAD and with 204 and 304, which have no body whatever their headers say (the parser knows of the latter). What it does not: a switch of protocols.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import httptools
import httpx
import trio

from uait.calls.question import Question

HEAD_BYTES = 128 * 1024
"""How long an answer's head may be, interim answers included; trailers may be as long."""

HEAD_FIELDS = 512
"""How many headers an answer may have; and as many trailers."""

_FIELD_BYTES = 4
"""What a header takes on the wire besides its name and value."""


class StaleConnection(Exception):
    """A connection that had been used before was closed by the other side before a byte of this answer came. `untouched`: nor was a byte of the request taken."""

    def __init__(self, *, untouched: bool) -> None:
        self.untouched = untouched
        super().__init__(untouched)


class Source(Protocol):
    """What an answer is read from: a connection."""

    used: bool

    async def receive(self) -> bytes:
        """What has come; b"" at the end. Raises `httpx.ReadError`."""


class Answer(httpx.AsyncByteStream):
    """An answer as it comes: the head after `read_head`, then an async iterator of the body's pieces as they arrive.

    Attributes:
        status: 0 until the head is there.
        trailers: complete when the body is.
        complete: the body was read to its end.
        reusable: nothing in the answer forbids that the connection serves again.
        untouched: the system has taken nothing of the request: nobody can have seen it.
        broken: the request could not be sent to its end.
    """

    def __init__(
        self, source: Source, question: Question, release: Callable[[Answer], None], timeout: float | None = None
    ) -> None:
        """Args:
        source: the connection.
        question: what is answered.
        release: called once, when the answer is closed.
        timeout: seconds for each wait, from when the request is out.
        """
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.trailers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reusable = not question.last
        self.untouched = True
        self.broken = False
        self._sent = False
        self._release: Callable[[Answer], None] | None = release
        self._source = source
        self._timeout = timeout
        self._wait: trio.CancelScope | None = None
        self._without_body = question.method == "HEAD"
        self._until_close = True
        self._room = HEAD_BYTES
        self._pieces: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    @property
    def ready(self) -> bool:
        """Whether the next step of the iteration does not wait: there is more, or nothing."""
        return bool(self._pieces) or self.complete

    @property
    def frees_connection(self) -> bool:
        """Whether the connection can serve another question now."""
        return self.complete and self.reusable and self._sent

    @property
    def http_version(self) -> bytes:
        """Such as b"HTTP/1.1"."""
        return b"HTTP/" + self._parser.get_http_version().encode()

    def sent(self) -> None:
        """The request is out, or as much of it as goes out: from now on, the other side must not be silent for longer than the timeout."""
        self._sent = not self.broken
        if self._wait is not None and self._timeout is not None:
            self._wait.deadline = trio.current_time() + self._timeout

    # What httptools calls while it parses. An exception ends the parsing.

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("bytes behind the answer")

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self.trailers if self.status else self.headers
        fields.append((name, value.rstrip(b" \t")))  # which the parser leaves there
        self._room -= len(name) + len(value) + _FIELD_BYTES
        if self._room < 0 or len(fields) > HEAD_FIELDS:
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers, self.reason = [], b""
            return
        codings = 0
        for name, value in self.headers:
            lower = name.lower()
            if lower == b"content-length":
                self._until_close = False
            elif lower == b"transfer-encoding":
                self._until_close = False
                codings += 1
                if codings > 1 or value.lower() != b"chunked":
                    raise ValueError("a transfer coding other than chunked")
        self.status, self._room = status, HEAD_BYTES
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self.complete = self._without_body

    def on_body(self, data: bytes) -> None:
        if self.complete:
            raise ValueError("bytes behind the answer")
        if data:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self.status:
            self.complete = True

    async def read_head(self) -> None:
        """Read until the head is there. Interim answers (1xx) are passed over.

        Raises:
            StaleConnection: see there.
            httpx.TransportError: there is no answer, or none in time, or something else.
        """
        read = 0
        while not self.status:
            try:
                data = await self._receive()
            except httpx.ReadError as error:
                raise self._unanswered(read, error) from None
            if not data:
                raise self._unanswered(read, httpx.RemoteProtocolError("the connection was closed without an answer"))
            read += len(data)
            self._parse(data)
            if read > HEAD_BYTES and not self.status:
                raise httpx.RemoteProtocolError(f"the head of the answer is longer than {HEAD_BYTES} bytes")
        if self._without_body and not data.endswith(b"\r\n\r\n"):
            self.reusable = False  # the parser expects a body, and has taken a part of what follows for it

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
            del self._parser  # they know each other, and would wait for the garbage collector
            release(self)

    def _unanswered(self, read: int, error: httpx.TransportError) -> Exception:
        """What is to be raised where the answer does not come, for `error`, after `read` bytes."""
        if self._source.used and not read:
            return StaleConnection(untouched=self.untouched)
        if not self._sent:
            return httpx.WriteError("the connection broke before the request was out")
        return error

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            if not self.complete:
                raise httpx.RemoteProtocolError(f"this is not an HTTP answer: {error.__context__ or error}") from None

    async def _receive(self) -> bytes:
        if self._timeout is None:
            return await self._source.receive()
        deadline = trio.current_time() + self._timeout if self._sent or self.broken else math.inf
        with trio.CancelScope(deadline=deadline) as self._wait:
            return await self._source.receive()
        raise httpx.ReadTimeout("nothing came in time")
