"""Requests that nobody would think of: valid ones, odd ones and broken ones, made from a seed, and cut into segments anywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs

LAST = b"GET /read?last HTTP/1.1\r\nHost: last.example\r\nConnection: close\r\n\r\n"
"""Ends a connection that is still in order."""

_METHODS = (
    ["GET"] * 8 + ["POST"] * 8 + ["HEAD"] * 3 + ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"]
)
_ODD_METHODS = ["get", "FOO", "CONNECT", "G@T", "", "GET\t", "POST(", "PRI", "X" * 40]
_TARGETS = ["/read"] * 8 + [
    "/early",
    "/stream",
    "/nothing",
    "/refuse",
    "/read?x=%20&y=",
    "/stream?a?b",
    "/%41%C3%A9/%2f",
    "//read",
    "/read;p",
]
_ODD_TARGETS = [
    "*", "http://other.example/read?q", "http://other.example:81", "HTTP://OTHER.example/", "https://[::1]:8/stream", "http://",
    "http://user@other.example/", "ftp://other.example/", "/\xfc", "/a b", "/read#f", "?x", "", "read", "/\x7f", '/"<>\\^`{|}', "/" + "a" * 3000,
]  # fmt: skip
_ODD_VERSIONS = ["HTTP/1.0"] * 6 + [
    "HTTP/1.2",
    "HTTP/2.0",
    "HTTP/0.9",
    "HTTP/1.",
    "http/1.1",
    "HTTP/11",
    "",
    "HTTP/1.1 ",
]
_FIELDS = [
    "Accept: */*", "X-A: b", "x-a: c", "X-Empty:", "X-Empty: ", "X-Tab:\tb\t", "X-Spaces:    b   c   ", "Cookie: a=b", "Cookie: c=d", "TE: trailers",
    "X-Latin: \xe9\xff", "X-Quoted: \"a, b\"", "X-Long: " + "y" * 500, "Expect: 100-continue", "Connection: keep-alive", "Connection: close",
    "Connection: Close, x", "Connection: x", "Connection: keep-alive, Upgrade", "Upgrade: h2c", "Upgrade: foo/2", "X_Under: y", "X-Y!#$%&'*+.^`|~: z",
    "Content-Type: text/plain", "Trailer: X", "Keep-Alive: timeout=5", "Proxy-Connection: close", "Transfer-Encoding2: x",
]  # fmt: skip
_ODD_FIELDS = [
    " X: y", "X : y", "X\t: y", ": y", "nonsense", "X(y): z", "X: a\0b", "X: a\rb", "X: a\nb", "X: a\x01b", "X: a\x7fb", "X: a\r\n b", "X: a\r\n\tb", "X\xff: y", "Expect: nonsense",
    "Host: twice.example", "Content-Length: 0", "Content-Length: x", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked", "Connection: \xff", "Connection: close\r\nConnection: keep-alive",
    "Upgrade: websocket\r\nConnection: Upgrade", "Expect: 100-Continue",
]  # fmt: skip
_HOSTS = ["Host: a.example"] * 12 + ["host: a.example", "HOST:a.example:80", "Host: [::1]:80", "Host:"]
_ODD_HOSTS = [
    "X: no host",
    "Host: a b",
    "Host: a/b",
    "Host: user@a",
    "Host: [::1",
    "Host: a:b",
    "Host: a.example, b.example",
    "Host: \xff",
]
_LENGTHS = [
    "{0}",
    "{0}",
    "{0}",
    "{0}",
    "00{0}",
    " {0} ",
    "{0}, {0}",
    "+{0}",
    "-{0}",
    "{0}x",
    "0x{0}",
    "",
    "{1}",
    "{2}",
    "99999999999999999999999",
]
_SIZES = [
    "%x",
    "%x",
    "%x",
    "%X",
    "000%x",
    "%x;a=b",
    '%x;a="b;c"',
    "%x ;a",
    "%x;",
    "%x ",
    " %x",
    "+%x",
    "0x%x",
    "%xg",
    "%x;a\nb",
    "%x\r",
]
_TRAILERS = [
    "",
    "",
    "",
    "X: y\r\n",
    "X: y\r\nZ: a\r\n",
    "Content-Length: 5\r\n",
    "nonsense\r\n",
    "X : y\r\n",
    ": y\r\n",
]
_BYTES = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"9", b"\x80", b"\xff", b"/", b"a"]


@attrs.frozen
class Script:
    """What one client sends.

    Attributes:
        segments: each is sent by itself.
    """

    seed: int
    segments: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        return b"".join(self.segments)


def script(seed: int) -> Script:
    """The script of this seed, for ever the same: one to four requests, perhaps damaged, perhaps cut off, in segments."""
    dice = random.Random(seed)
    data = b"".join(_request(dice) for _ in range(dice.choice([1, 1, 1, 2, 2, 3, 4])))
    if dice.random() < 0.1:
        data = dice.choice([b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\0", b"\r"]) + data
    for _ in range(dice.choice([0, 0, 0, 0, 0, 0, 1, 1, 2])):
        data = _damaged(dice, data)
    if dice.random() < 0.1:
        data = data[: dice.randrange(len(data) + 1)]
    else:
        data += LAST
    return Script(seed, tuple(_cut(dice, data)))


def _odd(dice: random.Random, ordinary: Sequence[str], odd: Sequence[str], chance: float = 0.04) -> str:
    return dice.choice(odd if dice.random() < chance else ordinary)


def _request(dice: random.Random) -> bytes:
    version = _odd(dice, ["HTTP/1.1"], _ODD_VERSIONS, 0.12)
    first = f"{_odd(dice, _METHODS, _ODD_METHODS)} {_odd(dice, _TARGETS, _ODD_TARGETS, 0.08)} {version}"
    fields = [_odd(dice, _FIELDS, _ODD_FIELDS, 0.03) for _ in range(dice.choice([0, 1, 1, 2, 3, 5, 8]))]
    fields.insert(dice.randrange(len(fields) + 1), _odd(dice, _HOSTS, _ODD_HOSTS))
    body = bytes(dice.choices(b"abcdefghij", k=dice.choice([0, 1, 5, 20, 300, 5000])))
    match dice.choice(
        ["none", "none", "length", "length", "chunks", "chunks", "both"] if dice.random() < 0.9 else ["both"]
    ):
        case "length":
            fields.append(_length(dice, body))
        case "chunks":
            fields.append(
                _odd(
                    dice,
                    ["Transfer-Encoding: chunked"],
                    ["transfer-encoding:CHUNKED", "Transfer-Encoding: chunked, chunked"],
                    0.1,
                )
            )
            body = _chunks(dice, body)
        case "both" if dice.random() < 0.2:
            fields += [_length(dice, body), "Transfer-Encoding: chunked"]
            body = _chunks(dice, body)
        case _:
            body = b""
    return "\r\n".join([first, *fields]).encode("latin-1") + b"\r\n\r\n" + body


def _length(dice: random.Random, body: bytes) -> str:
    form = _LENGTHS[0] if dice.random() < 0.85 else dice.choice(_LENGTHS)
    return "Content-Length: " + form.format(len(body), len(body) + 1, max(0, len(body) - 1))


def _chunks(dice: random.Random, body: bytes) -> bytes:
    data, start = b"", 0
    while start < len(body):
        piece = body[start : start + dice.choice([1, 2, 16, 100, 4096])]
        start += len(piece)
        form = _SIZES[0] if dice.random() < 0.9 else dice.choice(_SIZES)
        size = len(piece) if dice.random() < 0.99 else len(piece) + dice.choice([-1, 1])
        end = b"\r\n" if dice.random() < 0.99 else dice.choice([b"\n", b"", b"\r", b"XX", b"\r\n\r\n"])
        data += (form % size).encode("latin-1") + b"\r\n" + piece + end
    trailer = _TRAILERS[0] if dice.random() < 0.8 else dice.choice(_TRAILERS)
    return data + b"0\r\n" + trailer.encode() + b"\r\n"


def _damaged(dice: random.Random, data: bytes) -> bytes:
    at = dice.randrange(len(data) + 1)
    match dice.randrange(4):
        case 0:
            return data[:at] + dice.choice(_BYTES) + data[at:]
        case 1:
            return data[:at] + data[at + 1 :]
        case 2:
            return data[:at] + dice.choice(_BYTES) + data[at + 1 :]
        case _:
            end = min(len(data), at + dice.randrange(1, 30))
            return data[:end] + data[at:end] + data[end:]


def _cut(dice: random.Random, data: bytes) -> list[bytes]:
    if dice.random() < 0.03 and len(data) < 1000:
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice([0, 0, 0, 1, 1, 2, 4, 8])))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]
