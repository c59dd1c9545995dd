"""One WebSocket on its way through Quart, the same on both quart-trio lines.

When the client leaves, the handler is cancelled. What comes in waits in a bounded queue (the server's, or one of `limits.queue` messages), so that a client that sends
faster than the handler reads is slowed down. An empty binary message stays one. A crash closes with 1011, a refusal after the handshake with 1008, a leaving service with 1012.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from quart.wrappers import Websocket
from quart.wrappers.base import BaseRequestWebsocket
from werkzeug.datastructures import Headers

from uait.server.asgi import Message, Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.web.codec import from_json, to_json
from uait.web.connection import RequestHeaders
from uait.web.exchange import EXCHANGE, Exchange
from uait.web.paths import request_path

if TYPE_CHECKING:
    from uait.web.app import App


class WebSocket(Websocket):
    """What `quart.websocket` stands for in a handler. It is accepted at the first `receive` or `send`, or by `accept`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Quart's own constructor differs between the lines, and makes a queue that we do not use.
        BaseRequestWebsocket.__init__(
            self,
            "GET",
            scope.get("scheme", "ws"),
            request_path(scope),
            scope["query_string"],
            RequestHeaders(scope),
            scope.get("root_path", ""),
            scope.get("http_version", "1.1"),
            scope,  # type: ignore[arg-type]
        )
        self._subprotocols = list(scope.get("subprotocols", []))
        self._exchange: Exchange = scope[EXCHANGE]
        self._next = receive
        self._put = send

    async def receive(self) -> str | bytes:
        """The next message. There is no end to wait for: when the client leaves, the handler is cancelled."""
        await self.accept()
        message = await self._next()
        if message["type"] != "websocket.receive":
            # Also after the handler's own `close`: nothing else ends the task that waits here.
            self._exchange.client_left()
            self._exchange.cancel_scope.cancel(reason="the WebSocket is closed")
            await trio.sleep_forever()
        text: str | None = message.get("text")
        return text if text is not None else message["bytes"]

    async def send(self, data: str | bytes) -> None:
        """Send a text or binary message. Waits while the client does not read."""
        await self.accept()
        kind = "text" if isinstance(data, str) else "bytes"
        await self._put({"type": "websocket.send", kind: data})

    async def receive_json(self) -> Any:
        """The next message, which must be JSON by the rules of a request's body; InvalidJSON closes the WebSocket with 1008."""
        data = await self.receive()
        return from_json(data.encode() if isinstance(data, str) else data)

    async def send_json(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise TypeError("send_json takes one value, or keywords, not both")
        value = args[0] if len(args) == 1 else (args or kwargs)
        await self.send(to_json(value).decode())

    async def accept(self, headers: Any = None, subprotocol: str | None = None) -> None:
        if self._exchange.began:
            return
        pairs = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in Headers(headers or {}).items()
        ]
        await self._put({"type": "websocket.accept", "subprotocol": subprotocol, "headers": pairs})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if not self._exchange.ended:
            await self._put({"type": "websocket.close", "code": code, "reason": reason})


class WebSocketConnection:
    """What Quart calls an ASGI connection: made for one WebSocket, called once."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._app = app
        self._scope = scope
        self._exchange: Exchange = scope[EXCHANGE]

    async def __call__(self, receive: Receive, send: Send) -> None:
        if DISCONNECT in self._scope:
            await receive()  # websocket.connect
            await self._handle(receive, send)
            return
        inbox, arrived = trio.open_memory_channel[Message](self._app.context.limits.queue)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, receive, inbox)
            await self._handle(arrived.receive, send)
            nursery.cancel_scope.cancel(reason="the WebSocket's handler is done")

    async def _pump(self, receive: Receive, inbox: trio.MemorySendChannel[Message]) -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.receive":
                await inbox.send(message)
            elif message["type"] == "websocket.disconnect":
                self._exchange.client_left()
                await inbox.send(message)
                return

    async def _handle(self, receive: Receive, send: Send) -> None:
        websocket = WebSocket(self._scope, receive, send)
        app = self._app
        async with app.websocket_context(websocket) as context:
            response = await app.full_dispatch_websocket(context)
            if response is not None and not self._exchange.began:
                await self._exchange.refuse(
                    response.status_code,
                    [(name.lower().encode(), value.encode("latin-1")) for name, value in response.headers.items()],
                    await _data(response),
                )
            else:
                await websocket.close(1000)


async def _data(response: Any) -> bytes:
    data = response.get_data()
    return data if isinstance(data, bytes) else await data
