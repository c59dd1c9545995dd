"""Answers as servers give them, good ones and broken ones, made from a seed; and what a transport makes of one."""

from __future__ import annotations

import random

import attrs
import httpx


@attrs.frozen
class Generated:
    """What a server sends before it closes, and what it was asked with. `flaws` names what is wrong with it."""

    method: str
    parts: tuple[bytes, ...]
    flaws: frozenset[str]


def generate(source: random.Random) -> Generated:
    """Another answer."""
    return _Maker(source).make()


class _Maker:
    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._flaws: set[str] = set()

    def _flaw(self, name: str, chance: float) -> bool:
        """Whether this answer has this flaw."""
        if self._source.random() >= chance:
            return False
        self._flaws.add(name)
        return True

    def make(self) -> Generated:
        method = self._source.choice(["GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE"])
        data = b"".join(self._interim() for _ in range(self._source.choice([0, 0, 0, 0, 1, 2])))
        data += self._final(method)
        at = self._source.randrange(len(data))
        if self._flaw("cut off", 0.12):
            data = data[:at]
        elif self._flaw("a byte changed", 0.08):
            data = data[:at] + bytes([self._source.randrange(256)]) + data[at + 1 :]
        elif self._flaw("more than asked for", 0.05):
            data += self._source.choice([b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
        return Generated(method, tuple(self._cut(data)), frozenset(self._flaws))

    def _cut(self, data: bytes) -> list[bytes]:
        """The pieces in which it is sent."""
        places = sorted(self._source.randrange(len(data) + 1) for _ in range(self._source.choice([0, 0, 0, 1, 3])))
        return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True) if begin < end]

    def _interim(self) -> bytes:
        status = self._source.choice([b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 "])
        return b"HTTP/1.1 " + status + b"\r\n" + self._source.choice([b"", b"Link: </x>\r\n"]) + b"\r\n"

    def _final(self, method: str) -> bytes:
        status = self._source.choice([200, 200, 200, 201, 204, 205, 206, 301, 304, 400, 404, 429, 500, 503, 599])
        body = self._source.choice([b"", b"hello", b"x" * 3000, bytes(range(256))])
        headers = [self._header() for _ in range(self._source.randrange(4))]
        framing = self._source.choice(["length", "length", "chunked", "chunked", "close", "nothing"])
        if framing == "length":
            headers.append(b"Content-Length: %d" % len(body))
        elif framing == "chunked":
            headers.append(self._source.choice([b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"]))
        elif framing == "close":
            headers.append(b"Connection: close")
        headers += self._odd_headers(body)
        self._source.shuffle(headers)
        if framing == "chunked":
            body = self._chunks(body)
        if method == "HEAD" or status in (204, 304):
            body = b""
        return self._status_line(status) + b"\r\n" + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body

    def _status_line(self, status: int) -> bytes:
        reason = self._source.choice([b"OK", b"", b"Not Quite So", b"caf\xe9"])
        line = b"HTTP/1.1 %d %b" % (status, reason)
        if self._flaw("HTTP/1.0", 0.05):
            line = line.replace(b"1.1", b"1.0")
        if self._flaw("HTTP/9.9", 0.01):
            line = self._source.choice([b"HTTP/9.9 %d OK", b"HTTP/2.0 %d OK"]) % status
        if self._flaw("a break before the status line", 0.01):
            line = b"\r\n" + line
        if self._flaw("a status line that is none", 0.03):
            line = self._source.choice(
                [
                    b"HTTP/1.1 %d" % status,
                    b"HTTP/1.1  %d OK" % status,
                    b"http/1.1 %d OK" % status,
                    b"HTTP/1.1 20 OK",
                    b"HTTP/1.1 2000 OK",
                    b"HTTP/1.1 abc OK",
                    b"ICY %d OK" % status,
                    b" HTTP/1.1 %d OK" % status,
                    b"SSH-2.0-OpenSSH_9.6",
                    b"HTTP/1.1 101 Switching Protocols",
                ]
            )
        return line

    def _header(self) -> bytes:
        name = self._source.choice([b"Content-Type", b"X-Thing", b"x-thing", b"Set-Cookie", b"ETag", b"Vary"])
        value = self._source.choice(
            [b"text/plain", b"", b"  spaces around  ", b"a, b", b"\xfcml\xe4ut", b"tab\there", b"x" * 2000, b'"q"']
        )
        return name + b":" + self._source.choice([b" ", b"", b"\t"]) + value

    def _odd_headers(self, body: bytes) -> list[bytes]:
        odd = []
        if self._flaw("Connection", 0.1):
            odd.append(b"Connection: " + self._source.choice([b"keep-alive", b"Close", b"x, close", b"upgrade", b""]))
            if self._source.random() < 0.3:
                odd.append(b"Upgrade: websocket")
        if self._flaw("a second length", 0.04):
            odd.append(b"Content-Length: %d" % self._source.choice([len(body), len(body) + 1, 0]))
        if self._flaw("a length that is none", 0.04):
            value = self._source.choice(
                [b"+5", b"-1", b"0x5", b"5, 5", b"5, 6", b"5;", b"", b"five", b"9" * 30, b"1 0"]
            )
            odd.append(b"Content-Length: " + value)
        if self._flaw("a coding that is none", 0.04):
            value = self._source.choice(
                [b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"xchunked", b""]
            )
            odd.append(b"Transfer-Encoding: " + value)
        if self._flaw("a header that is none", 0.06):
            odd.append(
                self._source.choice(
                    [
                        b"no colon",
                        b": no name",
                        b"space before : x",
                        b"X-Folded: one\r\n two",
                        b"X-Nul: a\0b",
                        b"X-CR: a\rb",
                        b"X-LF: a\nX-B: b",
                        b"X Y: z",
                        b"X-Control: \x01",
                        b"X-\xe9: y",
                        b"X(y): z",
                    ]
                )
            )
        return odd

    def _chunks(self, body: bytes) -> bytes:
        pieces = []
        while body:
            size = self._source.choice([1, 3, 1000, 5000])
            piece, body = body[:size], body[size:]
            extension = self._source.choice([b"", b"", b";a=b", b';a="q"', b";x"])
            if self._flaw("a chunk extension that is none", 0.01):
                extension = self._source.choice([b";", b" ;x", b';a="', b"; a=b"])
            length = self._source.choice([b"%x", b"%X", b"0%x"]) % len(piece)
            if self._flaw("a chunk that is none", 0.02):
                length = self._source.choice([b"-1", b"+1", b"0x1", b"zz", b"", b"f" * 17, b" 1", b"1 "])
            end = b"\r\n"
            if self._flaw("a chunk's end that is none", 0.02):
                end = self._source.choice([b"\n", b"\r", b"x", b""])
            pieces.append(length + extension + b"\r\n" + piece + end)
        trailers = self._source.choice([b"", b"", b"X-Sum: 1\r\n", b"Set-Cookie: a=b\r\nX-Sum: 1 \r\n"])
        if self._flaw("a trailer that is none", 0.02):
            trailers = self._source.choice(
                [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"no colon\r\n"]
            )
        return b"".join(pieces) + self._source.choice([b"0", b"000", b"0;end"]) + b"\r\n" + trailers + b"\r\n"


async def outcome(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[object, ...]:
    """What a transport makes of an answer: status, reason, headers and body, or the exception's class."""
    try:
        response = await transport.handle_async_request(request)
        try:
            body = b"".join([piece async for piece in response.aiter_raw()])
        finally:
            await response.aclose()
    except httpx.TransportError as error:
        return (type(error).__name__,)
    headers = [(name, b"chunked" if value.lower() == b"chunked" else value) for name, value in response.headers.raw]
    return response.status_code, response.extensions["reason_phrase"], headers, body
