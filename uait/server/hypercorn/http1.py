"""HTTP/1.1 on one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
import trio
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import Event, Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection

from uait.errors import APIError
from uait.server.head import check_head
from uait.server.hypercorn.call import Call
from uait.server.hypercorn.request import RequestStream
from uait.server.hypercorn.waiting import Waiting
from uait.server.hypercorn.websocket import WebSocketStream
from uait.server.refusal import answer_to, error_for

if TYPE_CHECKING:
    from uait.server.hypercorn.connection import Connection


class HTTP1(H11Protocol):
    """hypercorn's protocol on h11.

    It differs in what it lets in (`uait.server.head`; an upgrade to h2c is ignored, as RFC 9110 section 7.8 allows, and HTTP/2's preface answered 505), in its error answers, and in how it waits.
    """

    def __init__(self, connection: Connection, *args: Any) -> None:
        super().__init__(*args)
        self._owner = connection
        self._site = connection.site
        assert isinstance(self.connection, h11.Connection)
        self._h11 = self.connection
        self._method = b""
        self._held = b""
        self.can_read = _Turn(connection)

    @property
    def waiting(self) -> Waiting:
        if self.stream is None:
            return Waiting.HEAD if self.keep_alive_requests == 0 or self._h11.trailing_data[0] else Waiting.IDLE
        if isinstance(self.stream, WebSocketStream):
            return Waiting.FRAMES if self.stream.open else Waiting.NOTHING
        return Waiting.BODY if self._h11.their_state is h11.SEND_BODY else Waiting.NOTHING

    @property
    def looks_whole(self) -> bool:
        """Whether the end of the connection would look like the end of an answer that is not complete. RFC 9112 section 8: nothing else ends it in HTTP/1.0."""
        return self._h11.our_state is h11.SEND_BODY and self._h11.their_http_version == b"1.0"

    async def ping(self) -> None:
        """Ask a WebSocket's client for a sign of life."""
        if isinstance(self.stream, WebSocketStream):
            await self.stream.ping()

    async def refuse(self, error: APIError) -> None:
        """Answer with `error` where nothing has been answered yet, and end the connection: what follows cannot be understood, or trusted."""
        await self._close_stream()  # first, for its app must not answer, too
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._site.log.debug("answered %d %s by itself", error.http_status, error.error_code)
            answer = answer_to(error)
            # While h11 is idle it has understood no request, and the method is that of the one before.
            to_head = self._method == b"HEAD" and self._h11.our_state is h11.SEND_RESPONSE
            await self._send_h11_event(h11.Response(headers=answer.headers, status_code=answer.status))
            if not to_head:
                await self._send_h11_event(h11.Data(data=answer.body))
            await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    async def handle(self, event: Any) -> None:
        if isinstance(event, RawData) and event.data and self.stream is None and not self._h11.trailing_data[0]:
            # RFC 9112 section 2.2: line ends before a request are nothing.
            data = event.data.lstrip(b"\r\n")
            if not data:
                return
            event = RawData(data)
        await super().handle(event)

    async def stream_send(self, event: Event) -> None:
        last = self._site.drain.draining or isinstance(self.stream, WebSocketStream)
        if last and isinstance(event, Response) and event.status_code >= 200:
            headers = [*event.headers, (b"connection", b"close")]
            event = Response(stream_id=event.stream_id, headers=headers, status_code=event.status_code)
        await super().stream_send(event)
        if isinstance(event, Response):
            self._owner.reconsider()  # a WebSocket may be open now

    async def _check_protocol(self, event: h11.Request) -> None:
        """Leave out hypercorn's ways to HTTP/2 without TLS."""

    async def _create_stream(self, request: h11.Request) -> None:
        self._method = request.method
        head = check_head(request.method, request.target, request.http_version, request.headers, self._site.limits)
        call = Call(self._owner.nursery, self._site, has_left=self._owner.has_left, websocket=head.websocket)
        arguments = (
            self.app,
            self.config,
            self.context,
            call,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        if head.websocket:
            self.stream = WebSocketStream(*arguments, call=call, limits=self._site.limits)
            self.connection = H11WSConnection(self._h11)
        else:
            self.stream = RequestStream(*arguments, call=call)
        self.keep_alive_requests += 1
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=head.headers,
                http_version=head.version,
                method=request.method.decode("ascii").upper(),
                raw_path=head.target,
                state=self.connection_state,
            )
        )

    async def _send_h11_event(self, event: Any) -> None:
        """Send `event`, but hold the head of an answer of known length back for the body that follows at once: one packet is cheaper than two."""
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self._h11.their_state is not h11.ERROR:
                raise
            return
        if type(event) is h11.Response and any(name == b"content-length" for name, _ in event.headers):
            self._held = data
            return
        held, self._held = self._held, b""
        await self.send(RawData(held + data))

    async def _send_error_response(self, status_code: int) -> None:
        # The connection is ended by the caller, and once is enough: `refuse` does both.
        await self.refuse(error_for(status_code))


class _Turn:
    """What hypercorn waits for while a client has sent the next request before it has the answer to this one.

    The wait looks out for the client's end, for else the work for it would go on unseen.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._event = trio.Event()
        self._waiting = False

    async def clear(self) -> None:
        self._event = trio.Event()

    async def set(self) -> None:
        self._event.set()
        if self._waiting:
            self._connection.wake("the next request's turn has come")

    async def wait(self) -> None:
        self._waiting = True
        try:
            await self._connection.wait_for(self._event)
        finally:
            self._waiting = False

    def is_set(self) -> bool:
        return self._event.is_set()
