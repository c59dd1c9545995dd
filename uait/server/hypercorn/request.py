"""One HTTP request, in HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from typing import Any

import trio
from hypercorn.protocol.events import Body, EndBody, Event, Response, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.utils import suppress_body

from uait.errors import APIError
from uait.server import timing
from uait.server.hypercorn.call import Call
from uait.server.refusal import answer_to


class RequestStream(HTTPStream):
    """hypercorn's stream, which makes the scope and keeps the order of the app's messages.

    It differs at the end: the exchange is over when the app has returned, not in the middle of the app's last `send`. So the app never sees a disconnect that is none, and an app that answers before it has
    read the request does not cost the client its connection.
    """

    def __init__(self, *args: Any, call: Call) -> None:
        super().__init__(*args)
        self.app_put: Any = None
        self._call = call
        self._whole = False
        self._rest = timing.REST_BYTES
        self._rest_arrived: trio.Event | None = None
        call.stream = self

    @property
    def answered(self) -> bool:
        return self.state is ASGIHTTPState.CLOSED

    @property
    def whole(self) -> bool:
        """Whether all of the request has arrived."""
        return self._whole

    async def handle(self, event: Event) -> None:
        if self.closed:
            return
        if isinstance(event, StreamClosed):
            if not self.answered:
                self._call.gone()
        elif isinstance(event, EndBody):
            self._whole = True
            self._stop_waiting()
        elif isinstance(event, Body) and self.answered:
            self._rest -= len(event.data)
            if self._rest < 0:
                self._stop_waiting()
            return
        await super().handle(event)

    async def app_send(self, message: Any) -> None:
        if message is None or message["type"] != "http.response.body" or self.state is not ASGIHTTPState.RESPONSE:
            await super().app_send(message)
        elif message.get("more_body", False) and suppress_body(self.scope["method"], int(self.response["status"])):
            # The answer has no body, so it is complete, however long the app would go on.
            await self._send_closed()
            self._call.stop("its answer has no body")
        else:
            await super().app_send(message)
            if not message.get("body"):
                await trio.lowlevel.checkpoint()  # nothing was sent, so nothing has let others run

    async def refuse(self, error: APIError) -> None:
        if not self.closed and self.state is ASGIHTTPState.REQUEST:
            answer = answer_to(error, close=self.scope["http_version"] != "2")
            self.state = ASGIHTTPState.CLOSED
            await self.send(Response(stream_id=self.stream_id, headers=answer.headers, status_code=answer.status))
            if self.scope["method"] != "HEAD":
                await self.send(Body(stream_id=self.stream_id, data=answer.body))
            await self.send(EndBody(stream_id=self.stream_id))
        self._rest = -1

    async def settle(self) -> None:
        """Wait, for a bounded time and size, for the rest of the request, where the connection can go on after it."""
        if self.answered and not self._whole and self._rest >= 0 and not self._call.last:
            self._rest_arrived = trio.Event()
            with trio.move_on_after(timing.REST_SECONDS):
                await self._rest_arrived.wait()

    def _stop_waiting(self) -> None:
        if self._rest_arrived is not None:
            self._rest_arrived.set()

    async def _send_closed(self) -> None:
        await self.send(EndBody(stream_id=self.stream_id))
        self.state = ASGIHTTPState.CLOSED
