"""One WebSocket (RFC 6455), on HTTP/1.1 or HTTP/2 (RFC 8441)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, EndBody, Event, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from uait.errors import APIError, BadRequest
from uait.server import timing
from uait.server.hypercorn.call import Call
from uait.server.refusal import answer_to

_INFLATED_AT_ONCE = 4096
_BITS = r"(?:9|1[0-5])"
_OFFER = re.compile(
    rf"permessage-deflate(?:\s*;\s*(?:(?:client|server)_no_context_takeover|client_max_window_bits(?:={_BITS})?|server_max_window_bits={_BITS}))*"
)


class WebSocketStream(WSStream):
    """hypercorn's stream, which does the handshake and frames what the app sends.

    What comes in is ours:

    * A message over the limit closes with 1009, bad frames with 1002, text that is none with 1007, and nothing is read from that client any more (RFC 6455 section 7.1.7: the connection is failed).
    * After our own close frame the client's is waited for, so that it sees a clean end, but not for long.
    * Compression is agreed to without context takeover (RFC 7692 section 7.1.1), for a connection that keeps its context costs 100 KiB more.
    """

    answered = False

    def __init__(self, *args: Any, call: Call, max_message: int) -> None:
        super().__init__(*args)
        self.code = int(CloseReason.ABNORMAL_CLOSURE)
        self._reason = ""
        self._call = call
        self._max_message = max_message
        self._message: Any = None
        self._size = 0
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
        self.handshake.extensions = without_context_takeover(self.handshake.extensions or []) or None
        try:
            await super()._accept(message)
        except Exception:
            if not self.handshake.accepted:
                self.state = ASGIWebsocketState.HANDSHAKE
            raise

    async def _feed(self, data: bytes) -> None:
        # In small pieces where it may be compressed, for each inflates to a thousand times its size before it can be counted.
        step = _INFLATED_AT_ONCE if self.handshake.extensions else max(1, len(data))
        for start in range(0, len(data), step):
            if self.connection.state not in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                return
            self.connection.receive_data(data[start : start + step])
            for event in self.connection.events():
                await self._handle_event(event)
                if self.closed:
                    return

    async def _handle_event(self, event: Any) -> None:
        if isinstance(event, Message):
            if self.state is ASGIWebsocketState.CONNECTED:
                await self._add(event)
        elif isinstance(event, Ping):
            await self._send_wsproto_event(event.response())
        elif isinstance(event, CloseConnection):
            if self.connection.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
                self.code, self._reason = int(event.code), event.reason or ""
                await self._send_wsproto_event(event.response())
                await self.send(StreamClosed(stream_id=self.stream_id))
            else:  # wsproto's way to say that the frames are wrong
                await self._fail(int(event.code), event.reason or "")

    async def _add(self, event: Message[Any]) -> None:
        data = event.data
        self._size += len(data) if not isinstance(data, str) or data.isascii() else len(data.encode())
        if self._size > self._max_message:
            await self._fail(int(CloseReason.MESSAGE_TOO_BIG), f"at most {self._max_message} bytes")
            return
        if self._message is None:
            self._message = StringIO(newline="") if isinstance(event, TextMessage) else BytesIO()
        self._message.write(data)
        if event.message_finished:
            whole, self._message, self._size = self._message.getvalue(), None, 0
            text, binary = (whole, None) if isinstance(event, TextMessage) else (None, whole)
            if self.app_put is not None:
                await self.app_put({"type": "websocket.receive", "text": text, "bytes": binary})

    async def _fail(self, code: int, reason: str) -> None:
        self.code, self._reason = code, reason
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _end(self) -> None:
        self.closed = True
        self._message = None
        if self._closing is not None:
            self._closing.set()
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": self.code, "reason": self._reason})
        patience = timing.HANDLING_SECONDS if self.handshake.accepted else None
        self._call.gone(cleanly=self.code != CloseReason.ABNORMAL_CLOSURE, patience=patience)


def without_context_takeover(offers: Iterable[str]) -> list[str]:
    """The first offer of compression that is well formed, with the parameters that a server may add on its own (RFC 7692 section 7.1.1)."""
    return list(_acceptable(offers))[:1]


def _acceptable(offers: Iterable[str]) -> Iterator[str]:
    for offer in offers:
        if _OFFER.fullmatch(offer.strip()):
            yield f"{offer.strip()}; server_no_context_takeover; client_no_context_takeover"
