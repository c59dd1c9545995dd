"""The head of a request, as it goes out over HTTP/1.1, and how its body is delimited (RFC 9112 sections 3 to 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
import httpx

_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[^\x00-\x20\x7f]+")


class WrongLength(httpx.LocalProtocolError, ValueError):
    """A body that is not as long as its Content-Length: more would be taken for the next request, less would leave the other side waiting."""


@attrs.define
class Question:
    """A request without its body.

    Attributes:
        method: the HTTP method.
        head: the request line and headers, with the empty line.
        length: what Content-Length says, None where there is none. Of no account where the body goes in chunks.
        chunked: the body goes in chunks.
        last: the connection is to be closed after the answer.
    """

    method: str
    head: bytes
    length: int | None
    chunked: bool
    last: bool

    def framed(self, body: bytes) -> bytes:
        """The whole body as it goes out.

        Raises:
            WrongLength: it is not as long as the head says.
        """
        if self.chunked:
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        if len(body) != (self.length or 0):
            relation = "longer" if len(body) > (self.length or 0) else "shorter"
            raise WrongLength(f"the body is {relation} than its Content-Length")
        return body


def render(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Question:
    """Write the head.

    Raises:
        httpx.LocalProtocolError: something in it would break the message apart, or its body could not be delimited.
    """
    verb = method.encode("ascii", "replace")
    lines, names = [b"%b %b HTTP/1.1" % (verb, target)], [verb]
    length: int | None = None
    chunked = last = False
    for name, value in headers:
        names.append(name)
        match name.lower():
            case b"content-length":
                if length is not None or not value.isdigit():
                    raise httpx.LocalProtocolError("the request's Content-Length is not one number")
                length = int(value)
                continue
            case b"transfer-encoding":
                if chunked or value.strip().lower() != b"chunked":
                    raise httpx.LocalProtocolError("the only Transfer-Encoding of a request is chunked")
                chunked = True
            case b"connection":
                last = last or b"close" in value.lower()
        lines.append(b"%b: %b" % (name, value))
    # httpx sets it whatever else is said; both together is how requests are smuggled.
    if length is not None and not chunked:
        lines.append(b"Content-Length: %d" % length)
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise httpx.LocalProtocolError("a line break or NUL in the request's target or headers")
    if b"" in names or not _TOKENS.fullmatch(b"".join(names)) or not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError(
            "a character in the request's method, target or header names that has no place there"
        )
    return Question(method, head + b"\r\n\r\n", length, chunked, last)
