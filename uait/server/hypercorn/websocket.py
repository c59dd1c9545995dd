"""One WebSocket (RFC 6455), on HTTP/1.1 or HTTP/2 (RFC 8441)."""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, EndBody, Event, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from wsproto.events import Ping
from wsproto.frame_protocol import CloseReason

from uait.errors import APIError, BadRequest
from uait.server import timing
from uait.server.hypercorn.call import Call
from uait.server.limits import ServerLimits
from uait.server.messages import Ended, Messages, Received, without_context_takeover
from uait.server.refusal import answer_to


class WebSocketStream(WSStream):
    """hypercorn's stream, which does the handshake and frames what the app sends.

    What comes in is ours:

    * A message over the limit closes with 1009, bad frames with 1002, text that is none with 1007, and nothing is read from that client any more (RFC 6455 section 7.1.7: the connection is failed).
    * After our own close frame the client's is waited for, so that it sees a clean end, but not for long.
    * Compression is agreed to without context takeover (RFC 7692 section 7.1.1), for a connection that keeps its context costs 100 KiB more.
    """

    answered = False

    def __init__(self, *args: Any, call: Call, limits: ServerLimits) -> None:
        super().__init__(*args)
        self.code = int(CloseReason.ABNORMAL_CLOSURE)
        self._reason = ""
        self._call = call
        self._limits = limits
        self._messages: Messages | None = None
        self._closing: trio.Event | None = None
        call.stream = self

    @property
    def open(self) -> bool:
        """Whether messages go both ways."""
        return self.state is ASGIWebsocketState.CONNECTED and not self.closed

    async def handle(self, event: Event) -> None:
        if self.closed:
            return
        if isinstance(event, StreamClosed):
            await self._end()
        elif isinstance(event, EndBody):  # HTTP/2: nothing can follow, not even a close frame
            await self.send(StreamClosed(stream_id=self.stream_id))
        elif not isinstance(event, (Body, Data)):
            await super().handle(event)
        elif self.handshake.accepted:
            await self._feed(event.data)
        elif event.data:
            raise BadRequest("A WebSocket's data must wait for the handshake's answer.")

    async def refuse(self, error: APIError) -> None:
        if not self.closed and self.state is ASGIWebsocketState.HANDSHAKE:
            await self._end()  # first, for the app must not accept any more
            answer = answer_to(error, close=self.scope["http_version"] != "2")
            self.state = ASGIWebsocketState.HTTPCLOSED
            await self.send(Response(stream_id=self.stream_id, headers=answer.headers, status_code=answer.status))
            await self.send(Body(stream_id=self.stream_id, data=answer.body))
            await self.send(EndBody(stream_id=self.stream_id))

    async def settle(self) -> None:
        """Wait, for a bounded time, until the client has answered our close frame."""
        if self.state is ASGIWebsocketState.CLOSED:
            self._closing = trio.Event()
            with trio.move_on_after(timing.CLOSING_SECONDS):
                await self._closing.wait()

    async def ping(self) -> None:
        """Ask the client for a sign of life."""
        await self._send_wsproto_event(Ping())

    async def _accept(self, message: Any) -> None:
        offers = self.handshake.extensions if self._limits.compression else None
        self.handshake.extensions = without_context_takeover(offers or []) or None
        try:
            await super()._accept(message)
        except Exception:
            if not self.handshake.accepted:
                self.state = ASGIWebsocketState.HANDSHAKE
            raise

    async def _feed(self, data: bytes) -> None:
        if self._messages is None:
            compressed = bool(self.handshake.extensions)
            self._messages = Messages(self.connection, max_message=self._limits.message_bytes, compressed=compressed)
        for found in self._messages.feed(data):
            if isinstance(found, Received):
                if self.app_put is not None:
                    await self.app_put({"type": "websocket.receive", "text": found.text, "bytes": found.data})
            elif isinstance(found, Ended):
                self.code, self._reason = found.code, found.reason
                await self._say(found.reply)
                await self.send(StreamClosed(stream_id=self.stream_id))
            else:
                await self._say(found.data)
            if self.closed:
                return

    async def _say(self, data: bytes) -> None:
        if data:
            await self.send(Data(stream_id=self.stream_id, data=data))

    async def _end(self) -> None:
        self.closed = True
        if self._closing is not None:
            self._closing.set()
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": self.code, "reason": self._reason})
        patience = timing.HANDLING_SECONDS if self.handshake.accepted else None
        self._call.gone(cleanly=self.code != CloseReason.ABNORMAL_CLOSURE, patience=patience)
