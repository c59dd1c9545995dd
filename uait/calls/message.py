"""How a call looks as an HTTP request, and its answer as a value or an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict
from urllib.parse import quote, urlencode

import attrs
import httpx
import orjson

from uait.calls.context import CallContext, outgoing_call
from uait.calls.deadline import TIMEOUT_HEADER, remaining, to_header
from uait.calls.inprocess import Content, RawHeaders
from uait.calls.standing import Standing
from uait.errors import APIError, UpstreamError, from_response

Params: TypeAlias = Mapping[str, Any] | None

_PATH = "/:@!$&'()*+,;=~%"
_QUERY = _PATH + "?"


@attrs.frozen
class Request:
    """A call as an HTTP request. `path` and `query` are quoted; `headers` lack `Host`, which is the instance's."""

    context: CallContext
    method: str
    path: bytes
    query: bytes
    headers: RawHeaders
    content: Content

    @property
    def target(self) -> bytes:
        """As it stands in the request line."""
        return self.path + b"?" + self.query if self.query else self.path


class Given(TypedDict, total=False):
    """What a call can be given besides its method and path.

    Attributes:
        params: the query; lists repeat their key.
        json: sent as the body, as JSON.
        content: sent as the body as it is, instead of `json`.
        headers: further headers.
    """

    params: Params
    json: Any
    content: Content
    headers: Mapping[str, str] | None


def make_request(
    caller: str,
    method: str,
    path: str,
    *,
    params: Params = None,
    json: Any = None,
    content: Content = None,
    headers: Mapping[str, str] | None = None,
) -> Request:
    """The request that makes a call for the current request, or for background work. For the arguments see `Given`."""
    context = outgoing_call()
    path, _, query = path.partition("?")
    if params:
        query = "&".join(filter(None, (query, urlencode(list(_pairs(params))))))
    if json is not None:
        content = orjson.dumps(json)
    return Request(
        context,
        method,
        quote(path, safe=_PATH).encode(),
        quote(query, safe=_QUERY).encode(),
        _headers(caller, context, headers, content, is_json=json is not None),
        content,
    )


def _pairs(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """As httpx writes them: lists repeat their key, booleans are JSON's, None is empty."""
    for name, value in params.items():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            yield name, "" if each is None else str(each).lower() if isinstance(each, bool) else str(each)


def call_headers(call: CallContext) -> dict[bytes, bytes]:
    """What `call` carries to the next hop: id, identity, trace, and what remains of this task's time."""
    headers = {
        b"x-request-id": call.request_id.encode("latin-1", "replace"),
        b"x-user-id": call.identity.user_id.encode(),
    }
    if call.traceparent:
        headers[b"traceparent"] = call.traceparent.encode("ascii")
        if call.tracestate:
            headers[b"tracestate"] = call.tracestate.encode("latin-1", "replace")
    if (left := remaining()) is not None:
        headers[TIMEOUT_HEADER.lower().encode()] = to_header(left).encode()
    return headers


def _headers(
    caller: str, call: CallContext, given: Mapping[str, str] | None, content: Content, *, is_json: bool
) -> RawHeaders:
    """`given` wins over what would be sent otherwise."""
    headers = {b"accept": b"application/json", b"user-agent": b"uait/" + caller.encode(), **call_headers(call)}
    if isinstance(content, bytes):
        headers[b"content-length"] = b"%d" % len(content)
        if is_json:
            headers[b"content-type"] = b"application/json"
    for name, value in (given or {}).items():
        headers[name.lower().encode("ascii")] = value.encode()
    return list(headers.items())


class Answer(Protocol):
    """An answer whose head is there: `uait.calls.inprocess.Exchange` or `uait.calls.duplex.Answer`."""

    status: int
    headers: list[tuple[bytes, bytes]]

    async def read(self) -> bytes:
        """The next chunk of the body; b"" is its end."""


class AnswerStream(httpx.AsyncByteStream):
    """The body of `answer`, for an `httpx.Response`. Whoever opened the answer closes it.

    No async generator: one that is left early is a resource warning of trio, and this can be.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._answer.read()
        if not chunk:
            raise StopAsyncIteration
        return chunk


@attrs.frozen
class Reply:
    """A whole answer."""

    status: int
    headers: RawHeaders
    content: bytes
    standing: Standing | None = None


async def read_reply(answer: Answer, limit: int, source: str) -> Reply:
    """The whole of `answer`. Raises `UpstreamError` where it has more than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await answer.read():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise UpstreamError(f"The answer of {source} is larger than {limit} bytes.")
    return Reply(answer.status, answer.headers, b"".join(chunks))


def read_json(reply: Reply, source: str) -> Any:
    """What `reply` says as JSON; None where it is empty. Raises `UpstreamError` where it is not JSON."""
    if not reply.content:
        return None
    try:
        return orjson.loads(reply.content)
    except orjson.JSONDecodeError as error:
        raise UpstreamError(f"{source} answered with something that is not JSON.") from error


def read_error(reply: Reply, source: str) -> APIError:
    """The error that `reply`, of status 400 and above, tells of."""
    try:
        payload = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        payload = None
    error = from_response(reply.status, payload, source=source)
    for name, value in reply.headers:
        if name.lower() == b"retry-after":
            error.headers["Retry-After"] = value.decode("latin-1")
    return error
