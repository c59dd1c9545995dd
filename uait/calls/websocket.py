"""A WebSocket to a service on another machine, and a proxy that hands one through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import orjson
import trio
from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from uait.calls.context import CallContext
from uait.calls.duplex import NoAnswer, connect
from uait.calls.inprocess import RawHeaders
from uait.calls.lifetime import open_helpers
from uait.calls.proxy import forwarded_headers, scope_target
from uait.calls.remote import Instance, Remote
from uait.errors import UpstreamError, from_response
from uait.server.asgi import Message, Receive, Scope, Send

MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message taken from an instance; the client's side has the limit of its own server."""

PING_INTERVAL = 20.0
"""Seconds between two pings to an instance."""

PING_TIMEOUT = 20.0
"""Seconds within which an instance that is silent otherwise must answer a ping."""

HANDSHAKE_TIMEOUT = 10.0

GOODBYE = 1.0
"""Seconds that an instance has to answer a close."""

LOST = 1011
"""How the client learns that the instance is gone without a word."""

NO_STATUS, ABNORMAL = 1005, 1006

_OWN = frozenset(
    {
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"sec-websocket-accept",
        b"content-length",
    }
)
"""Headers of the handshake that each side of the proxy makes for itself."""


@asynccontextmanager
async def open_websocket(
    instance: Instance, target: bytes, subprotocols: list[str], headers: RawHeaders, *, name: str
) -> AsyncIterator[WebSocketConnection]:
    """Connect to `instance`. However the block ends, the connection is closed when it has.

    Raises:
        NotSent, NoAnswer: there is nobody, or nobody who speaks WebSocket.
        APIError: the instance has refused, with this answer.
    """
    stream = await connect(instance.host, instance.port)
    try:
        async with open_helpers("the WebSocket is closed") as nursery:
            with trio.CancelScope(deadline=trio.current_time() + HANDSHAKE_TIMEOUT) as scope:
                try:
                    connection = await wrap_client_stream(
                        nursery,
                        stream,
                        instance.authority,
                        target.decode("ascii"),
                        subprotocols=subprotocols or None,
                        extra_headers=[(key, value) for key, value in headers if key not in _OWN],
                        message_queue_size=16,
                        max_message_size=MESSAGE_BYTES,
                    )
                except ConnectionRejected as error:
                    raise _refusal(error, name) from error
                except HandshakeError as error:
                    raise NoAnswer from error
            if scope.cancelled_caught:
                raise NoAnswer from trio.TooSlowError()
            yield connection
    finally:
        await trio.aclose_forcefully(stream)


def _refusal(error: ConnectionRejected, name: str) -> Exception:
    try:
        payload = orjson.loads(error.body or b"")
    except orjson.JSONDecodeError:
        payload = None
    if error.status_code < 400:
        return UpstreamError(f"{name} does not speak WebSocket here: it answered {error.status_code}.")
    return from_response(error.status_code, payload, source=name)


async def proxy_websocket(
    remote: Remote, name: str, scope: Scope, receive: Receive, send: Send, call: CallContext
) -> None:
    """Connect the client of `scope` with an instance of `name` and hand messages, closes and their codes through, until either side leaves.

    A side that does not read stops the other from sending. For the errors before the client is accepted see `Remote.attempt` and `open_websocket`.
    """
    headers = forwarded_headers(scope, call)
    subprotocols = list(scope.get("subprotocols", ()))

    def dial(instance: Instance) -> AbstractAsyncContextManager[WebSocketConnection]:
        return open_websocket(instance, scope_target(scope), subprotocols, headers, name=name)

    await receive()  # websocket.connect
    async with remote.attempt(name, dial, repeatable=True) as connection:
        await send({"type": "websocket.accept", "subprotocol": connection.subprotocol, "headers": []})
        await _Tunnel(connection, receive, send).run()


class _Tunnel:
    """Two pumps and a heartbeat. Whoever ends first ends the others."""

    def __init__(self, connection: WebSocketConnection, receive: Receive, send: Send) -> None:
        self._connection = connection
        self._receive = receive
        self._send = send
        self._scope = trio.CancelScope()
        self._heard = trio.current_time()
        self._handing_over = False
        self._goodbye: tuple[int, str | None] | None = (1001, None)

    async def run(self) -> None:
        try:
            with self._scope:
                async with open_helpers("one side has left") as nursery:
                    nursery.start_soon(self._from_client)
                    nursery.start_soon(self._heartbeat)
                    await self._from_instance()
        finally:
            if self._goodbye is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE):
                    await self._connection.aclose(*self._goodbye)

    async def _from_client(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or NO_STATUS
                # A client that was lost gets its own back: the instance sees a connection that was lost.
                self._goodbye = None if code == ABNORMAL else (code, message.get("reason") or None)
                self._scope.cancel(reason="the client left")
                return
            data = message.get("text")
            try:
                await self._connection.send_message(message["bytes"] if data is None else data)
            except ConnectionClosed:
                return  # `_from_instance` tells the client

    async def _from_instance(self) -> None:
        while True:
            try:
                data = await self._connection.get_message()
            except ConnectionClosed as error:
                await self._close_client(error.reason)
                return
            self._heard = trio.current_time()
            self._handing_over = True
            await self._send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
            self._handing_over = False

    async def _heartbeat(self) -> None:
        while True:
            await trio.sleep(PING_INTERVAL)
            asked = trio.current_time()
            with trio.move_on_after(PING_TIMEOUT) as scope:
                try:
                    await self._connection.ping()
                except ConnectionClosed:
                    return
            # While a slow client takes its time nothing more is read from the instance, its pongs included.
            if scope.cancelled_caught and not self._handing_over and self._heard < asked:
                await self._close_client(None)
                self._scope.cancel(reason="the instance does not answer pings")
                return

    async def _close_client(self, reason: CloseReason | None) -> None:
        self._goodbye = None
        code = LOST if reason is None or reason.code == ABNORMAL else reason.code
        close: Message = {"type": "websocket.close", "code": 1000 if code == NO_STATUS else code}
        await self._send({**close, "reason": (reason.reason if reason else None) or ""})
