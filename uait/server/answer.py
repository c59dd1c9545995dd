"""How an answer looks on an HTTP/1.1 connection (RFC 9112). Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus

import attrs

from uait.errors import APIError
from uait.server.refusal import answer_to

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MOST_NAMES = 1000
_MOST_DIGITS = 18


class _Kind(Enum):
    OTHER = auto()
    LENGTH = auto()
    CODING = auto()
    DATE = auto()
    CONNECTION = auto()


_OTHER, _LENGTH, _CODING, _DATE, _CONNECTION = _Kind
_SPECIAL = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"date": _DATE,
    b"connection": _CONNECTION,
}

_lines = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_kinds: dict[bytes, _Kind] = {}  # of names as apps write them
_date: tuple[float, bytes] = (0.0, b"")  # until when it is right, and the field


class Framing(Enum):
    """How the client learns where the body ends (RFC 9112 section 6.3)."""

    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()
    NOTHING = auto()
    """There is none, whatever the app sends: an answer to HEAD, 204, 304."""


_BY_LENGTH, _CHUNKED, _UNTIL_CLOSE, _EMPTY = Framing


@attrs.define
class AnswerHead:
    """An answer's head, as bytes.

    Attributes:
        length: of the body, where `framing` is `LENGTH`.
        last: the connection ends after it.
    """

    data: bytes
    framing: Framing
    length: int
    last: bool


def make_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, method: str, version: str, last: bool
) -> AnswerHead:
    """Put an app's `http.response.start` into bytes.

    The framing is ours: `Transfer-Encoding` of the app is left out, `Content-Length` is kept and held to. `Date` is added where it is missing (RFC 9110 section 6.6.1).

    Args:
        method, version: the request's.
        last: whether the connection ends in any case.

    Raises:
        ValueError: a status or a header that cannot be; nothing of it may go out, for a line end in it would be somebody else's header.
    """
    line = _lines.get(status)
    if line is None or status < 200:
        if not 200 <= status <= 999:
            raise ValueError(f"{status!r} cannot be the status of an answer")
        line = _lines[status] = b"HTTP/1.1 %d \r\n" % status
    fields = [line]
    length, dated, lines = -1, False, 2
    for name, value in headers:
        kind = _kinds.get(name)
        if kind is not _OTHER:
            if kind is None:
                kind = _learn(name)
            if kind is _LENGTH:
                if length >= 0 or not value.isdigit() or len(value) > _MOST_DIGITS:
                    _check_length(value, length)
                length = int(value)
                if status == 204:
                    continue  # RFC 9110 section 8.6
            elif kind is _DATE:
                dated = True
            elif kind is _CODING:
                continue
            elif kind is _CONNECTION:
                ends, value = _read_connection(value)
                last = last or ends
                if not value:
                    continue
        fields += (name, b": ", value, b"\r\n")
        lines += 1
    framing = _BY_LENGTH
    if method == "HEAD" or status == 204 or status == 304:
        framing = _EMPTY
    elif length < 0:
        framing = _CHUNKED if version == "1.1" else _UNTIL_CLOSE
        if framing is _CHUNKED:
            fields.append(b"transfer-encoding: chunked\r\n")
            lines += 1
    if not dated:
        fields.append(_date[1] if 0 < _date[0] - time.time() <= 1 else _date_field())
        lines += 1
    if last or version != "1.1":
        last = True
        fields.append(b"connection: close\r\n")
        lines += 1
    fields.append(b"\r\n")
    return AnswerHead(_join(fields, lines), framing, length, last)


def make_early_hints(links: Iterable[bytes]) -> bytes:
    """103 with its links (RFC 8297)."""
    return _block(_lines[103], ((b"link", link) for link in links))


def make_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """101 (RFC 9110 section 15.2.2)."""
    return _block(_lines[101], headers)


def make_trailers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The last chunk and what follows it (RFC 9112 section 7.1.2)."""
    return _block(b"0\r\n", headers)


def make_refusal(error: APIError, *, method: str = "GET") -> bytes:
    """`error` as a whole answer, after which the connection ends."""
    answer = answer_to(error)
    head = make_head(answer.status, answer.headers, method=method, version="1.1", last=True)
    return head.data if method == "HEAD" else head.data + answer.body


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _block(line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    fields = [line]
    for name, value in headers:
        _learn(name)
        fields.append(b"%b: %b\r\n" % (name, value))
    fields.append(b"\r\n")
    return _join(fields, len(fields))


def _join(fields: list[bytes], lines: int) -> bytes:
    """Count line ends, too: one more than we made would let an app's value be a header of its own (response splitting)."""
    data = b"".join(fields)
    if len(data) - len(data.translate(None, b"\r\n\0")) != 2 * lines:
        raise ValueError("a header's value must not have line ends or NUL")
    return data


def _learn(name: bytes) -> _Kind:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a header")
    kind = _SPECIAL.get(name.lower(), _OTHER)
    if len(_kinds) < _MOST_NAMES:
        _kinds[name] = kind
    return kind


def _read_connection(value: bytes) -> tuple[bool, bytes]:
    """Whether an app's `Connection` ends the connection, and what else it says. Whether it goes on is ours to write: of a "keep-alive" of the app's and our "close" some clients heed the first only."""
    options = [option.strip() for option in value.split(b",")]
    kept = [option for option in options if option.lower() not in (b"", b"close", b"keep-alive")]
    return b"close" in map(bytes.lower, options), b", ".join(kept)


def _check_length(value: bytes, before: int) -> None:
    """Refuse a length that is none, or another one than came `before`; -1 where none did."""
    if not value.isdigit() or len(value) > _MOST_DIGITS or before not in (-1, int(value)):
        raise ValueError(f"{value!r} cannot be the content-length")


def _date_field() -> bytes:
    global _date
    now = int(time.time())
    _date = now + 1.0, b"date: %b\r\n" % formatdate(now, usegmt=True).encode()
    return _date[1]
