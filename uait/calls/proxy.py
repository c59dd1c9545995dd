"""Answering an ASGI request from an instance on another machine: a reverse proxy that buffers nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import trio

from uait.calls.context import CallContext
from uait.calls.inprocess import RawHeaders
from uait.calls.lifetime import open_helpers
from uait.calls.message import call_headers
from uait.calls.remote import Remote
from uait.server.asgi import Receive, Scope, Send

VIA = b"1.1 uait"

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that speak of one connection only (RFC 9110 section 7.6.1), besides those that `Connection` names."""


def end_to_end(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """`headers` without those of the connection they came over."""
    named = {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    dropped = HOP_BY_HOP | named
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]


def forwarded_headers(scope: Scope, call: CallContext) -> list[tuple[bytes, bytes]]:
    """The headers for the next hop: the client's, with `X-Forwarded-*`, `Via`, and what `call` carries instead of what the client said."""
    ours = call_headers(call)
    dropped = {b"host", b"expect", b"x-request-timeout-ms", b"tracestate", b"traceparent", *ours}
    appended = {b"via": VIA}
    if scope.get("client"):
        appended[b"x-forwarded-for"] = str(scope["client"][0]).encode()
    replaced = {b"x-forwarded-proto": scope.get("scheme", "http").encode()}
    kept: list[tuple[bytes, bytes]] = []
    for name, value in end_to_end(scope["headers"]):
        if name == b"host":
            replaced[b"x-forwarded-host"] = value
        elif name in appended:
            appended[name] = value + b", " + appended[name]
        elif name not in dropped and name not in (b"x-forwarded-proto", b"x-forwarded-host"):
            kept.append((name, value))
    return [*kept, *appended.items(), *replaced.items(), *ours.items()]


def scope_target(scope: Scope) -> bytes:
    """The request target for the service's own server: the scope's path below `root_path`, and its query."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root = quote(scope.get("root_path", "")).encode()
    if root and path.startswith(root):
        path = path[len(root) :] or b"/"
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


async def proxy_http(remote: Remote, name: str, scope: Scope, receive: Receive, send: Send, call: CallContext) -> None:
    """Answer `scope` as an instance of `name` does. For the errors before the answer has begun see `Remote.attempt`.

    Returns without an answer when the client leaves; then, and on cancellation, the connection to the instance is closed.
    """
    client = _Client(receive)
    content = client.body(scope["headers"])
    headers = forwarded_headers(scope, call)
    with client.scope:
        async with open_helpers("the answer is complete") as nursery:
            nursery.start_soon(client.watch)
            async with remote.open(name, scope["method"], scope_target(scope), headers, content) as answer:
                start = {"type": "http.response.start", "status": answer.status}
                await send({**start, "headers": [*end_to_end(answer.headers), (b"via", VIA)]})
                while chunk := await answer.read():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Client:
    """Whoever asked: gives the request's body, then nothing but the news that it has left."""

    def __init__(self, receive: Receive) -> None:
        self.scope = trio.CancelScope()
        self._receive = receive
        self._all_read = trio.Event()

    def body(self, headers: RawHeaders) -> AsyncIterator[bytes] | None:
        """The request's body; None where `headers` say that there is none, so that the request can be repeated."""
        if any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
        ):
            return self._chunks()
        self._all_read.set()
        return None

    async def _chunks(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.scope.cancel(reason="the client left")
                await trio.sleep_forever()
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk
        self._all_read.set()

    async def watch(self) -> None:
        await self._all_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the empty body of a request that has none
        self.scope.cancel(reason="the client left")
