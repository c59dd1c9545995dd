"""What the server answers by itself, where no app can: the error body of every service."""

from __future__ import annotations

import json
import os

import attrs

from uait.errors import APIError, BadRequest, Unavailable

_BY_STATUS = {
    408: ("REQUEST_TIMEOUT", "The request did not arrive in time."),
    431: ("HEADERS_TOO_LARGE", "The request's head is too large."),
    501: ("NOT_IMPLEMENTED", "This transfer coding is not known here; use chunked."),
}


def error_for(status: int) -> APIError:
    """The error for a status that HTTP itself asks for, as a protocol library hints at it."""
    if status not in _BY_STATUS:
        return BadRequest("The request is not valid HTTP.")
    code, message = _BY_STATUS[status]
    return APIError(message, status=status, code=code)


@attrs.frozen
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    request_id: str


def answer_to(error: APIError, *, close: bool = True) -> Answer:
    """`error` as an answer, under a new request id; with `close`, one after which the connection ends."""
    request_id = os.urandom(16).hex()
    body = json.dumps(error.as_dict(request_id), separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()),
    ]
    if close:
        headers.append((b"connection", b"close"))
    return Answer(error.http_status, headers, body, request_id)


def full_house() -> bytes:
    """The whole answer, as bytes, for a connection over the limit."""
    answer = answer_to(Unavailable("Too many connections; try again later."))
    lines = [b"HTTP/1.1 503 Service Unavailable", *(name + b": " + value for name, value in answer.headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + answer.body
