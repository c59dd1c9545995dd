"""What a client sends on an HTTP/1.1 connection, as requests. Pure: llhttp (through httptools) reads the bytes, strictly.

What llhttp refuses by itself, and what the tests hold it to: bare CR or LF as a line end, folded lines (obs-fold), spaces around a header's name, both Content-Length and Transfer-Encoding, lengths that repeat, are signed
or overflow, chunk sizes that are none, control characters in values. `check_head` refuses the rest.
"""

from __future__ import annotations

from collections import deque

import httptools

from uait.errors import APIError, BadRequest
from uait.server.head import asks_for_websocket
from uait.server.limits import ServerLimits
from uait.server.refusal import error_for

_HEADS, _BODIES = 4096, 16384
"""Bytes looked at in one go where requests begin and where a body goes on, so that a client that sends a thousand tiny requests has them wait as bytes."""


class Request:
    """One request, while it arrives.

    Attributes:
        headers: names in lower case, in their order.
        body: what has arrived of it and nobody has taken yet.
        whole: no more of it will come.
        last: the client will send nothing after it.
    """

    method = b""
    target = b""
    version = b""
    body: bytes | bytearray = b""
    whole = False
    last = False

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []


class Parser:
    """One connection's requests.

    Attributes:
        requests: those whose head is complete and that nobody has taken yet. The last one may still be arriving.
        error: what to answer, after them, to what cannot be read; nothing is read any more then.
        ahead: bytes that `feed` has put off.
        tail: what follows a request to speak WebSocket; None where there was none.
        over: no further request will come.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.requests: deque[Request] = deque()
        self.error: APIError | None = None
        self.tail: bytes | None = None
        self._limits = limits
        self._http: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._current: Request | None = None
        self._headers: list[tuple[bytes, bytes]] | None = None  # of the head that arrives
        self._arriving = False
        self._resuming = False
        self._said_close = False
        self._quiet = 0
        self._line = b""  # what the next request begins with, where it begins with what was fed last
        self.ahead = b""
        self.over = False

    @property
    def in_head(self) -> bool:
        """Whether part of a head has arrived."""
        return self._current is not None and not self._arriving

    def feed(self, data: bytes = b"") -> None:
        """Read `data`, after what was put off. Stops at the first complete head, so that the rest waits as bytes: call it again when `requests` is empty."""
        if self.ahead:
            data = self.ahead + data if data else self.ahead
            self.ahead = b""
        if len(data) <= _HEADS:
            self._feed(data)
            return
        view = memoryview(data)
        start = 0
        while start < len(data) and self._http is not None:
            end = start + (_BODIES if self._arriving else _HEADS)
            self._feed(bytes(view[start:end]))
            start = end
            if self.requests and not self._arriving:
                break
        if self._http is not None:
            self.ahead = data[start:]
        elif self.tail is not None:
            self.tail += data[start:]

    def close(self) -> None:
        """Read no more. (httptools' parser knows this object, and such a ring keeps its memory until the garbage collector comes by.)"""
        self._http = None
        self.over = True
        self._current = None
        self._headers = None
        self.ahead = b""

    def _feed(self, data: bytes) -> None:
        http = self._http
        if http is None:
            return
        if self._current is None:
            self._line = data
        else:
            self._quiet += len(data)
        try:
            http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_after_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._fail(error, data)
            return
        if self._current is not None and self._quiet > self._limits.header_bytes:
            # A head, a chunk's size or its extensions, or trailers without end.
            self.error = error_for(431)
            self.close()

    def _fail(self, error: Exception, data: bytes) -> None:
        if self._current is not None or not self._said_close:  # what follows a "Connection: close" is nothing
            self.error = _error_for(error, data)
        self.close()

    def _go_on_after_upgrade(self, rest: bytes) -> None:
        """llhttp stops at a request that asks for another protocol. One that we speak ends HTTP here; any other request is one like others (RFC 9110 section 7.8), body included."""
        request = self.requests[-1]
        if request.method == b"CONNECT" or asks_for_websocket(request.method, request.headers):
            self.tail = rest
            self.close()
            return
        self._http = httptools.HttpRequestParser(self)
        framing = [
            b"%b: %b\r\n" % field for field in request.headers if field[0] in (b"content-length", b"transfer-encoding")
        ]
        if framing:
            if request.last:
                framing.append(b"connection: close\r\n")
            request.whole = False
            self._resuming = True
            try:
                self._http.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            except httptools.HttpParserError as error:  # llhttp looks at a coding after it has looked for an upgrade
                self.requests.pop()
                self.error = _error_for(error, b"")
                self.close()
                return
        if rest:
            self._feed(rest)

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._current = request = Request()
            self._headers = request.headers
            self._quiet = 0

    def on_url(self, url: bytes) -> None:
        if self._headers is not None and self._current is not None:
            self._current.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._headers is not None:  # else a trailer, which nobody here asked for (RFC 9110 section 6.5.1)
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        http, request = self._http, self._current
        self._headers = None
        self._arriving = True
        if self._resuming:
            self._resuming = False
            self._current = self.requests[-1]
        elif http is not None and request is not None:
            request.method = http.get_method()
            # Asking llhttp makes a string out of two numbers, which takes longer than all the rest of it.
            line, self._line = self._line, b""
            eleven = line[: line.find(b"\r\n")].endswith(b" HTTP/1.1")
            request.version = b"1.1" if eleven else http.get_http_version().encode()
            self.requests.append(request)
        self._quiet = 0

    def on_body(self, body: bytes) -> None:
        request = self._current
        if request is not None:
            if not request.body:
                request.body = bytearray()
            request.body += body
            self._quiet = 0

    def on_message_complete(self) -> None:
        http, request = self._http, self._current
        self._arriving = False
        self._current = None
        if http is not None and request is not None:
            request.whole = True
            request.last = self._said_close = not http.should_keep_alive()


def _error_for(error: Exception, data: bytes) -> APIError:
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        word = data.lstrip(b"\r\n").split(b" ", 1)[0]
        if word.isalpha() and len(word) <= 32:
            return APIError("This method is not known here.", status=501, code="NOT_IMPLEMENTED")
    if data.startswith(b"PRI * HTTP/2.0"):
        return APIError("Use HTTP/1.1.", status=505, code="HTTP_VERSION_NOT_SUPPORTED")
    if "`Transfer-Encoding`" in str(error):
        return error_for(501)
    return BadRequest("The request is not valid HTTP.")
