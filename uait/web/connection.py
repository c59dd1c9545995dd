"""One HTTP request on its way through Quart.

quart-trio gives every request two tasks and a nursery. Here the handler runs in the server's task; a second one is only needed where the server cannot say by
itself (`uait.server.disconnect`) that the client has gone.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any

import trio
from quart.wrappers import Response
from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import Headers

from uait.errors import PayloadTooLarge
from uait.server.asgi import Message, Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.web.codec import to_json
from uait.web.exchange import EXCHANGE, Exchange
from uait.web.paths import request_path
from uait.web.pipeline import PlainAnswer

if TYPE_CHECKING:
    from uait.web.app import App

READ_AHEAD = 16
"""Messages of a body taken in before the handler asks, where somebody must look out for the disconnect behind them."""


class Body:
    """A request's body, read when the handler asks and no sooner. Await it for everything, or iterate over its pieces.

    Args:
        length: what Content-Length says, in bytes.
        limit: how many bytes are taken.

    Raises (both ways of reading):
        PayloadTooLarge: it is longer than `limit`.
    """

    _receive: Receive
    _exchange: Exchange

    def __init__(self, length: int | None, limit: int | None) -> None:
        self._limit = math.inf if limit is None else limit
        self._too_large = length is not None and length > self._limit
        self._complete = False
        self._taken = 0
        self._pieces: list[bytes] = []
        self._data: bytes | None = None

    def read_from(self, receive: Receive, exchange: Exchange) -> None:
        """Take the ASGI messages from `receive`."""
        self._receive = receive
        self._exchange = exchange

    def set_result(self, data: bytes) -> None:
        """Have it be `data`: for Quart's `test_request_context`."""
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._too_large:
                raise PayloadTooLarge(f"The body is too large; at most {self._limit} bytes are taken.")
            if self._complete:
                raise StopAsyncIteration
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._exchange.client_left()
                await trio.sleep_forever()
            self._complete = not message.get("more_body", False)
            data: bytes = message.get("body", b"")
            self._taken += len(data)
            self._too_large = self._taken > self._limit
            if data and not self._too_large:
                return data

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.read().__await__()

    async def read(self) -> bytes:
        """All of it. A second call gives the same bytes."""
        if self._data is None:
            async for piece in self:
                self._pieces.append(piece)
            self._data = b"".join(self._pieces)
            self._pieces.clear()
        return self._data

    async def begin(self) -> bool:
        """Take the first piece. True where it is all: then `read` does not wait."""
        if not self._complete and self._data is None:
            async for piece in self:
                self._pieces.append(piece)
                break
        return self._complete

    def clear(self) -> None:
        """Forget what was read."""
        self._data = b""


class Request(TrioRequest):
    """Quart's request, without the queue that its own body has."""

    body_class = Body  # type: ignore[assignment]

    async def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        # Nearly every body comes in one piece, and the cancel scope of Quart's timeout would cost more than taking it. For the first piece the server has a timeout of its own.
        body: Any = self.body
        if DISCONNECT in self.scope and cache and not (as_text or parse_form_data) and await body.begin():
            return await body
        return await super().get_data(cache, as_text, parse_form_data)

    @property
    def content_length(self) -> int | None:
        length: bytes | None = None
        for name, value in self.scope["headers"]:
            if name == b"transfer-encoding":
                return None
            if name == b"content-length":
                length = value
        return int(length) if length is not None and length.isdigit() else None

    @property
    def blueprints(self) -> list[str]:
        # Asked for at every step of the way; a route outside of blueprints has none.
        rule = self.url_rule
        return super().blueprints if rule is not None and "." in rule.endpoint else []


class HTTPConnection:
    """What Quart calls an ASGI connection: made for one request, called once."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._app = app
        self._scope = scope
        self._exchange: Exchange = scope[EXCHANGE]

    async def __call__(self, receive: Receive, send: Send) -> None:
        if DISCONNECT in self._scope:
            await self._handle(receive, send)
            return
        inbox, arrived = trio.open_memory_channel[Message](READ_AHEAD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, receive, inbox)
            await self._handle(arrived.receive, send)
            nursery.cancel_scope.cancel(reason="the request is answered")

    async def _watch(self, receive: Receive, inbox: trio.MemorySendChannel[Message]) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._exchange.client_left()
                return
            await inbox.send(message)

    async def _handle(self, receive: Receive, send: Send) -> None:
        app = self._app
        request = self._make_request(receive)
        # The context stays until the answer is out, so that generators see their request.
        async with app.request_context(request) as context:
            answer = await app.answer(context)
            if isinstance(answer, PlainAnswer):
                await self._send_plain(answer, send)
            else:
                await self._send(answer, send)

    def _make_request(self, receive: Receive) -> Request:
        scope, app = self._scope, self._app
        request: Request = app.request_class(
            scope["method"],
            scope.get("scheme", "http"),
            request_path(scope),
            scope["query_string"],
            RequestHeaders(scope),
            scope.get("root_path", ""),
            scope.get("http_version", "1.1"),
            scope,  # type: ignore[arg-type]
            max_content_length=app.config["MAX_CONTENT_LENGTH"],
            body_timeout=app.config["BODY_TIMEOUT"],
            send_push_promise=_no_push,
        )
        body: Any = request.body
        body.read_from(receive, self._exchange)
        return request

    async def _send_plain(self, answer: PlainAnswer, send: Send) -> None:
        data = to_json(answer.value)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data)), *answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": data, "more_body": False})

    async def _send(self, response: Any, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()
            ],
        }
        if isinstance(response, Response):
            source = response.response
            if isinstance(source, DataBody):
                data = source.data[source.begin : source.end]
                await send(start)
                await send({"type": "http.response.body", "body": data, "more_body": False})
                return
            # Entered before anything can be cancelled, so that what stands behind the body is closed in every case.
            async with source as pieces:
                await send(start)
                # Nobody would see the body of an answer to HEAD, and an endless one would never end.
                if self._scope["method"] != "HEAD":
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": _bytes(piece), "more_body": True})
        else:
            await send(start)
            for piece in response.response:
                await send({"type": "http.response.body", "body": _bytes(piece), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _bytes(piece: Any) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)


async def _no_push(path: str, headers: Headers) -> None:
    pass


class RequestHeaders(Headers):
    """A request's headers as Quart wants them, read from the ASGI scope. Most handlers look at one or two, so the list is only made for who wants more."""

    def __init__(self, scope: Scope) -> None:
        client = scope.get("client")
        # The first one counts: the address is the server's word, not a header that a client sent.
        self._address: str = client[0] if client else "<local>"
        self._raw: list[tuple[bytes, bytes]] = scope["headers"]
        self._made: list[tuple[str, str]] | None = None

    @property
    def _list(self) -> list[tuple[str, str]]:
        if self._made is None:
            self._made = [("Remote-Addr", self._address)]
            self._made += [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw]
        return self._made

    @_list.setter
    def _list(self, made: list[tuple[str, str]]) -> None:
        self._made = made

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]
        if self._made is not None or type is not None:
            return super().get(key, default, type)
        found = self._find(key)
        return default if found is None else found

    def __contains__(self, key: object) -> bool:
        if self._made is not None or not isinstance(key, str):
            return bool(super().__contains__(key))  # type: ignore[operator]
        return self._find(key) is not None

    def _find(self, key: str) -> str | None:
        name = key.lower().encode("latin-1", "replace")
        if name == b"remote-addr":
            return self._address
        for given, value in self._raw:
            if given == name:
                return value.decode("latin-1")
        return None
