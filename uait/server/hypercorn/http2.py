"""HTTP/2 on one TLS connection."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamReset
from h2.exceptions import ProtocolError
from hypercorn.protocol.events import Body, Event, Request, StreamClosed
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.utils import filter_pseudo_headers
from priority.priority import DuplicateStreamError, MissingStreamError

from uait.errors import APIError
from uait.server.head import check_host, check_size, check_target, check_websocket_fields
from uait.server.hypercorn.call import Call
from uait.server.hypercorn.request import RequestStream
from uait.server.hypercorn.waiting import Waiting
from uait.server.hypercorn.websocket import WebSocketStream

if TYPE_CHECKING:
    from uait.server.hypercorn.connection import Connection

RESETS = 200
RESETS_PER_SECOND = 20
"""How many of its own requests a client may take back; more is the attack known as rapid reset (CVE-2023-44487)."""


class _Buffer(StreamBuffer):
    """What waits for a stream's window. hypercorn's own takes in without bounds while that is closed."""

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError
        self.buffer += data
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class HTTP2(H2Protocol):
    """hypercorn's protocol on h2.

    It differs in what it lets in, and in data that still comes for a stream that is over, which ends nothing but that stream (RFC 9113 section 5.1). The client's own end of a request ends that request.
    """

    def __init__(self, connection: Connection, *args: Any) -> None:
        super().__init__(*args)
        self._owner = connection
        self._site = connection.site
        self._resets = 0
        self._ended = trio.Event()  # a stream, on the wire
        self._since = trio.current_time()

    @property
    def waiting(self) -> Waiting:
        return Waiting.NOTHING if self.streams else Waiting.IDLE

    @property
    def looks_whole(self) -> bool:
        return False

    async def ping(self) -> None:
        """Nothing: TCP's own keep-alive looks after these connections."""

    async def refuse(self, error: APIError) -> None:
        """Never needed: what is refused is refused on its stream."""

    async def stream_send(self, event: Event) -> None:
        stream_id = event.stream_id
        with trio.move_on_after(self._site.limits.send_timeout) as patience:
            if isinstance(event, StreamClosed):
                await self._finish(stream_id)
            await super().stream_send(event)
        if patience.cancelled_caught:  # the client opens no window for it (RFC 9113 section 5.2)
            self._reset(stream_id, ErrorCodes.CANCEL)
            await self._flush()
            await self._close_stream(stream_id)

    async def _finish(self, stream_id: int) -> None:
        """Bring a stream to its end for the client, before it is forgotten here."""
        stream, buffer = self.streams.get(stream_id), self.stream_buffers.get(stream_id)
        if isinstance(stream, RequestStream) and not stream.answered:
            self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
            await self._flush()
            return
        if isinstance(stream, WebSocketStream) and buffer is not None:
            buffer.set_complete()
            with suppress(MissingStreamError):
                self.priority.unblock(stream_id)
            await self.has_data.set()
        while stream_id in self.stream_buffers and not self.closed:
            await self._ended.wait()

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        if stream_id not in self.stream_buffers:
            self._ended.set()
            self._ended = trio.Event()

    async def handle(self, event: Any) -> None:
        await super().handle(event)
        if self.closed:
            self._ended.set()

    async def _handle_events(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, DataReceived):
                await self._take(event)
                continue
            if isinstance(event, StreamReset):
                self._resets += 1
                if self._resets > RESETS + RESETS_PER_SECOND * (trio.current_time() - self._since):
                    raise ProtocolError("the client takes back requests faster than it may")
            await super()._handle_events([event])
        await self._flush()

    async def _take(self, event: DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if isinstance(stream, RequestStream | WebSocketStream):
            try:
                await stream.handle(Body(stream_id=event.stream_id, data=event.data))
            except APIError as error:
                await stream.refuse(error)
                await self.stream_send(StreamClosed(stream_id=event.stream_id))
        with suppress(ProtocolError):
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    async def _create_stream(self, request: RequestReceived) -> None:
        stream_id = request.stream_id
        pseudo = {name: value for name, value in request.headers if name.startswith(b":")}
        method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        websocket = method == b"CONNECT" and pseudo.get(b":protocol") == b"websocket"
        headers = filter_pseudo_headers(request.headers)
        try:
            check_size(path, headers, self._site.limits)
            check_target(method, path)
            check_host(headers[0][1])
            method.decode("ascii")
            if websocket:
                check_websocket_fields(headers)
            if method == b"CONNECT" and not websocket:
                raise ValueError("this server is not a proxy")
        except (APIError, ValueError):
            self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        call = Call(self._owner.nursery, self._site, has_left=self._owner.has_left, websocket=websocket)
        arguments = (
            self.app,
            self.config,
            self.context,
            call,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            stream_id,
        )
        self.stream_buffers[stream_id] = _Buffer(self.context.event_class)
        try:
            self.priority.insert_stream(stream_id)
        except DuplicateStreamError:
            pass  # a PRIORITY frame came before
        else:
            self.priority.block(stream_id)
        stream = self.streams[stream_id] = (
            WebSocketStream(*arguments, call=call, limits=self._site.limits)
            if websocket
            else RequestStream(*arguments, call=call)
        )
        self.keep_alive_requests += 1
        await stream.handle(
            Request(
                stream_id=stream_id,
                headers=headers,
                http_version="2",
                method=method.decode("ascii").upper(),
                raw_path=path,
                state=self.connection_state,
            )
        )
        if stream.closed:  # hypercorn has answered it by itself: no WebSocket of version 13
            await self.stream_send(StreamClosed(stream_id=stream_id))

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        with suppress(ProtocolError):
            self.connection.reset_stream(stream_id, code)
