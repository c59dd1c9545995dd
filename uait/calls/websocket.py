"""A WebSocket to a service on another machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import BytesIO, StringIO
from typing import Any

import orjson
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError, RemoteProtocolError

from uait.calls.duplex import NoAnswer, connect
from uait.calls.inprocess import RawHeaders
from uait.calls.pool import Pool
from uait.calls.remote import Instance
from uait.errors import APIError, UpstreamError, from_response

MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message taken from an instance; the client's side has the limit of its own server."""

REFUSAL_BYTES = 64 * 1024
"""How much of the answer is read with which an instance refuses."""

HANDSHAKE_TIMEOUT = 10.0

NORMAL, NO_STATUS, ABNORMAL, TOO_BIG = 1000, 1005, 1006, 1009


class WebSocketClosed(Exception):
    """The other side has closed, with this code and reason; or it was lost: then the code is 1006."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)


class WebSocket:
    """A client's end. One task may receive while others send.

    Pings are answered while somebody receives. `last_heard` is when anything came last, on trio's clock.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.subprotocol: str | None = None
        self.last_heard = trio.current_time()
        self._stream = stream
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._closed: WebSocketClosed | None = None
        self._sending = trio.Lock()
        self._whole = True

    async def handshake(
        self, authority: str, target: str, subprotocols: Sequence[str], headers: RawHeaders, name: str
    ) -> None:
        """Raises `NoAnswer` where it is broken off, and an `APIError` where the instance refuses."""
        await self._send(
            Request(host=authority, target=target, subprotocols=list(subprotocols), extra_headers=list(headers))
        )
        match await self._next():
            case AcceptConnection(subprotocol=chosen):
                self.subprotocol = chosen
            case RejectConnection(status_code=status, has_body=has_body):
                raise _refusal(status, await self._refusal_body() if has_body else b"", name)
            case _:
                raise NoAnswer

    async def send(self, data: str | bytes) -> None:
        """Send one message. Waits while the other side does not read. Raises `WebSocketClosed`."""
        await self._send(TextMessage(data) if isinstance(data, str) else BytesMessage(data))

    async def ping(self) -> None:
        """Ask for a sign of life. Raises `WebSocketClosed`."""
        await self._send(Ping())

    async def receive(self) -> str | bytes:
        """The next message, whole.

        Raises:
            WebSocketClosed: there is none, and will be none.
        """
        if self._closed is None:
            try:
                return await self._message()
            except WebSocketClosed as closed:
                self._closed = closed
        raise self._closed

    async def _message(self) -> str | bytes:
        # Not a list of its parts: of empty ones there may be any number.
        message: Any = None
        size = 0
        while True:
            event = await self._next()
            if isinstance(event, (TextMessage, BytesMessage)):
                if message is None:
                    message = StringIO(newline="") if isinstance(event, TextMessage) else BytesIO()
                message.write(event.data)
                size += len(event.data)
                if size > MESSAGE_BYTES:
                    await self.close(TOO_BIG, "the message is too large")
                    raise WebSocketClosed(TOO_BIG, "the message is too large")
                if event.message_finished:
                    whole: str | bytes = message.getvalue()
                    return whole
            elif isinstance(event, Ping):
                await self._send(event.response())
            elif isinstance(event, CloseConnection):
                with suppress(WebSocketClosed):  # both have closed at once
                    await self._send(event.response())
                raise WebSocketClosed(event.code, event.reason or "")
            elif not isinstance(event, Pong):
                raise WebSocketClosed(ABNORMAL)

    async def close(self, code: int = NORMAL, reason: str | None = None) -> None:
        """Say goodbye. Whoever opened the WebSocket closes its connection."""
        with suppress(WebSocketClosed):  # the other side was faster
            await self._send(CloseConnection(code=code, reason=reason))

    async def _send(self, event: Event) -> None:
        async with self._sending:
            if not self._whole:
                raise WebSocketClosed(ABNORMAL)
            try:
                data = self._wire.send(event)
                # A cancelled send may have put half of a frame on the wire: whatever follows would be taken for the rest of it.
                self._whole = False
                await self._stream.send_all(data)
                self._whole = True
            except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
                raise WebSocketClosed(ABNORMAL) from None

    async def _next(self) -> Event:
        while not self._events:
            try:
                data = await self._stream.receive_some()
                self._wire.receive_data(bytes(data) or None)
                self._events = list(self._wire.events())
            except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
                raise WebSocketClosed(ABNORMAL) from error
            self.last_heard = trio.current_time()
        return self._events.pop(0)

    async def _refusal_body(self) -> bytes:
        body = b""
        while len(body) < REFUSAL_BYTES:
            event = await self._next()
            if not isinstance(event, RejectData):
                break
            body += event.data
            if event.body_finished:
                break
        return body


def _refusal(status: int, body: bytes, name: str) -> APIError:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        payload = None
    if status < 400:
        return UpstreamError(f"{name} does not speak WebSocket here: it answered {status}.")
    return from_response(status, payload, source=name)


@asynccontextmanager
async def open_websocket(
    pool: Pool, instance: Instance, target: bytes, subprotocols: Sequence[str], headers: RawHeaders, *, name: str
) -> AsyncIterator[WebSocket]:
    """Connect to `instance`. However the block ends, the connection is closed then, without waiting for the other side.

    Raises:
        NotSent, NoAnswer: there is nobody, or nobody who speaks WebSocket.
        APIError: the instance refuses, with this answer.
    """
    connection = await connect(pool, ("http", instance.host, instance.port))
    try:
        websocket = WebSocket(connection.stream)
        with trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_TIMEOUT) as scope:
            try:
                await websocket.handshake(instance.authority, target.decode("ascii"), subprotocols, headers, name)
            except WebSocketClosed as error:
                raise NoAnswer from error
        if scope.cancelled_caught:
            raise NoAnswer from trio.TooSlowError()
        yield websocket
    finally:
        connection.close()
