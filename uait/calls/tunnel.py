"""Answering an ASGI WebSocket from an instance on another machine: messages, closes and their codes are handed through."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress

import trio

from uait.calls.context import CallContext
from uait.calls.lifetime import open_helpers
from uait.calls.proxy import forwarded_headers, scope_target
from uait.calls.remote import Instance, Remote
from uait.calls.websocket import ABNORMAL, NO_STATUS, NORMAL, WebSocket, WebSocketClosed, open_websocket
from uait.server.asgi import Receive, Scope, Send

PING_INTERVAL = 20.0
"""Seconds between two pings to an instance."""

PING_TIMEOUT = 20.0
"""Seconds within which an instance must be heard of after a ping."""

GOODBYE = 1.0
"""Seconds that a last word to an instance may take."""

GOING_AWAY, LOST = 1001, 1011

_OWN = frozenset(
    {
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"content-length",
    }
)
"""Headers of the handshake that each side of the proxy makes for itself."""


async def proxy_websocket(
    remote: Remote, name: str, scope: Scope, receive: Receive, send: Send, call: CallContext
) -> None:
    """Connect the client of `scope` with an instance of `name`, until either side leaves; the other one learns why.

    A side that does not read stops the other from sending. For the errors before the client is accepted see `Remote.attempt` and `open_websocket`.
    """
    headers = [(key, value) for key, value in forwarded_headers(scope, call) if key not in _OWN]

    def dial(instance: Instance) -> AbstractAsyncContextManager[WebSocket]:
        subprotocols = scope.get("subprotocols", ())
        return open_websocket(remote.pool, instance, scope_target(scope), subprotocols, headers, name=name)

    await receive()  # websocket.connect
    async with remote.attempt(name, dial, repeatable=True) as websocket:
        await send({"type": "websocket.accept", "subprotocol": websocket.subprotocol, "headers": []})
        await _Tunnel(websocket, receive, send).run()


class _Tunnel:
    """Two pumps and a heartbeat. Whoever ends first ends the others."""

    def __init__(self, websocket: WebSocket, receive: Receive, send: Send) -> None:
        self._websocket = websocket
        self._receive = receive
        self._send = send
        self._scope = trio.CancelScope()
        self._handing_over = False
        self._pinging = False
        self._goodbye: tuple[int, str | None] | None = (GOING_AWAY, None)

    async def run(self) -> None:
        try:
            with self._scope:
                async with open_helpers("one side has left") as nursery:
                    nursery.start_soon(self._from_client)
                    nursery.start_soon(self._heartbeat, nursery)
                    await self._from_instance()
        finally:
            if self._goodbye is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE):
                    await self._websocket.close(*self._goodbye)

    async def _from_client(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or NO_STATUS
                # A client that was lost is passed on as what it is: a connection that was lost.
                self._goodbye = None if code == ABNORMAL else (code, message.get("reason") or None)
                self._scope.cancel(reason="the client left")
                return
            text = message.get("text")
            try:
                await self._websocket.send(message["bytes"] if text is None else text)
            except WebSocketClosed:
                return  # `_from_instance` tells the client

    async def _from_instance(self) -> None:
        while True:
            try:
                data = await self._websocket.receive()
            except WebSocketClosed as closed:
                await self._close_client(closed)
                return
            self._handing_over = True
            await self._send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
            self._handing_over = False

    async def _heartbeat(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(PING_INTERVAL)
            asked = trio.current_time()
            if not self._pinging:
                # Not here: an instance that does not read lets nobody send, and cutting a frame off would break the connection of one that is merely slow.
                self._pinging = True
                nursery.start_soon(self._ping)
            await trio.sleep(PING_TIMEOUT)
            # While a slow client takes its time, nothing more is read from the instance, its answer included.
            if self._websocket.last_heard < asked and not self._handing_over:
                await self._close_client(WebSocketClosed(ABNORMAL))
                self._scope.cancel(reason="the instance does not answer pings")
                return

    async def _ping(self) -> None:
        with suppress(WebSocketClosed):  # `_from_instance` tells the client
            await self._websocket.ping()
        self._pinging = False

    async def _close_client(self, closed: WebSocketClosed) -> None:
        self._goodbye = None
        code = {ABNORMAL: LOST, NO_STATUS: NORMAL}.get(closed.code, closed.code)
        await self._send({"type": "websocket.close", "code": code, "reason": closed.reason})
