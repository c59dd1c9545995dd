"""WebSockets (RFC 6455) on plain HTTP/1.1 connections, between a connection and an app.

Two tasks a WebSocket: one reads, for pings must be answered and the client's end seen whatever the app does; one runs the app. wsproto reads the frames (`messages`); frames out are ours, but for compressed ones.

**What it does** of RFC 6455: the opening handshake with subprotocols and permessage-deflate (RFC 7692, without context takeover), messages in any number of fragments, limits (1009), strict frames (1002) and UTF-8 (1007), pings both ways, the closing handshake with codes and reasons, a bounded wait for the client's part in it.
An app may refuse with an HTTP answer of its own (ASGI's `websocket.http.response`). `scope["uait.outlet"]` is the way to push prepared frames (`frames`).

**What it does not do**: other extensions, fragments out, context takeover.
"""

from __future__ import annotations

import base64
import hashlib
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import trio
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason

from uait.errors import APIError, BadRequest
from uait.server import frames, timing
from uait.server.answer import make_head, make_upgrade
from uait.server.asgi import Message
from uait.server.deadlines import Deadlines
from uait.server.disconnect import Disconnect
from uait.server.exchange import make_scope
from uait.server.frames import Outlet, binary_frame, text_frame
from uait.server.guard_websocket import PAUSE
from uait.server.head import Head
from uait.server.inbox import ClientLeft, Inbox
from uait.server.messages import Ended, Messages, Received, without_context_takeover
from uait.server.sockets import has_ended

if TYPE_CHECKING:
    from uait.server.http1 import Connection

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ABNORMAL = int(CloseReason.ABNORMAL_CLOSURE)
_PONGS = 16 * 1024
"""Bytes of pongs that wait for a client."""


class _State(Enum):
    CONNECTING = auto()
    REFUSING = auto()
    """The app answers the handshake with an HTTP answer of its own."""
    OPEN = auto()
    CLOSING = auto()
    """Our close frame is out, the client's is not here yet."""
    OVER = auto()


class WebSocket:
    """One WebSocket, from its handshake's request to its end.

    Attributes:
        refusal: what to answer to the handshake instead, where the client broke the rules during it.
    """

    def __init__(self, connection: Connection, head: Head, deadlines: Deadlines) -> None:
        self.refusal: APIError | None = None
        site = self._site = connection.site
        stream = connection.stream
        self._connection = connection
        self._headers = head.headers
        self._state = _State.CONNECTING
        self._disconnect = Disconnect()
        self._frames: Frames | None = None
        self._messages: Messages | None = None
        self._compressed = False
        self._denial = b""
        self._inbox = Inbox(
            max_bytes=site.limits.message_bytes,
            max_messages=site.limits.queue,
            has_left=lambda: has_ended(stream.socket),
            first={"type": "websocket.connect"},
        )
        self._timer = deadlines.timer(self._expire)
        self._pinged = False
        self._unread = 0  # bytes of pongs since the client has last taken in everything
        self._flushing = False
        self._reading = trio.CancelScope()
        self._app_scope = trio.CancelScope()
        self._answered_close = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._outlet = Outlet(connection.writer, self._flush_soon)
        self._scope = make_scope(connection, head, "GET", self._disconnect)
        del self._scope["method"]
        self._scope.update(
            {
                "type": "websocket",
                "scheme": "ws",
                "subprotocols": _listed(head, b"sec-websocket-protocol"),
                "extensions": {"websocket.http.response": {}},
                frames.SCOPE_KEY: self._outlet,
            }
        )

    async def run(self, early: bytes) -> None:
        """Run it to its end.

        Args:
            early: what the client sent right behind its handshake, which must be nothing.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._run_app, name=f"websocket {self._scope['path']}")
            with self._reading:
                await self._read(early)
            if self._state is not _State.OVER:
                self._end(_ABNORMAL, "")
        self._nursery = None

    def close(self) -> None:
        """Let go of everything that knows this object."""
        self._outlet.close()
        self._timer.close()
        self._inbox.close()
        if self._messages is not None:
            self._messages.close()
        self._messages = self._frames = None

    # The app's task

    async def _run_app(self) -> None:
        with self._app_scope:
            await self._site.call(self._scope, self._inbox.get, self._send)
        self._inbox.close()
        self._outlet.open = False
        if self._state is _State.REFUSING:
            self._connection.writer.reset()  # the app has left its answer incomplete, and an end could look like the answer's
        if self._state is _State.CLOSING:
            with trio.move_on_after(timing.CLOSING_SECONDS):
                await self._answered_close.wait()
        self._state = _State.OVER
        self._reading.cancel(reason="the WebSocket is over")

    async def _send(self, message: Message) -> None:
        kind, state = message["type"], self._state
        if kind == "websocket.send" and state is _State.OPEN:
            await self._write(self._encode(message.get("text"), message.get("bytes")))
        elif state is _State.OVER or state is _State.CLOSING:
            await trio.sleep(PAUSE)  # slowly, so that an app that sends in a loop keeps nobody else from running
        elif kind == "websocket.close" and state is _State.OPEN:
            await self._close(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.accept" and state is _State.CONNECTING:
            await self._accept(message)
        elif kind == "websocket.close" and state is _State.CONNECTING:
            await self._deny({"status": 403, "headers": [(b"content-length", b"0")]})
            await self._send({"type": "websocket.http.response.body", "body": b""})
        elif kind == "websocket.http.response.start" and state is _State.CONNECTING:
            await self._deny(message)
        elif kind == "websocket.http.response.body" and state is _State.REFUSING:
            data, self._denial = self._denial + message.get("body", b""), b""
            if not message.get("more_body", False):
                self._state = _State.OVER
            await self._write(data)
        else:
            raise RuntimeError(f"{kind!r} cannot be sent in this state of the WebSocket ({state.name.lower()})")

    async def _accept(self, message: Message) -> None:
        key = b"".join(value for name, value in self._headers if name == b"sec-websocket-key")
        token = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        headers = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", token)]
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            if subprotocol not in self._scope["subprotocols"]:
                raise ValueError(f"the client did not offer the subprotocol {subprotocol!r}")
            headers.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        deflate = PerMessageDeflate()
        extensions: list[Extension] = []
        for offer in without_context_takeover(_listed_values(self._headers, b"sec-websocket-extensions")):
            agreed = deflate.accept(offer)
            if isinstance(agreed, str):
                extensions.append(deflate)
                headers.append((b"sec-websocket-extensions", f"permessage-deflate; {agreed}".encode()))
        for name, value in message.get("headers", ()):
            if name.lower() in (b"sec-websocket-protocol", b"sec-websocket-accept", b"sec-websocket-extensions"):
                raise ValueError(f"{name!r} is not for the app to say")
            headers.append((name, value))
        data = make_upgrade(headers)
        self._compressed = bool(extensions)
        self._frames = Frames(ConnectionType.SERVER, extensions)
        limit = self._site.limits.message_bytes
        self._messages = Messages(self._frames, max_message=limit, compressed=self._compressed)
        self._state = _State.OPEN
        self._outlet.open = True
        self._timer.set(trio.current_time() + self._site.limits.ping_interval)
        await self._write(data)

    async def _deny(self, message: Message) -> None:
        head = make_head(message["status"], message.get("headers", ()), method="GET", version="1.0", last=True)
        self._denial = head.data
        self._state = _State.REFUSING

    async def _close(self, code: int, reason: str) -> None:
        assert self._frames is not None
        data = self._frames.send(CloseConnection(code=code, reason=reason))
        self._state = _State.CLOSING
        self._outlet.open = False
        await self._write(data)

    def _encode(self, text: str | None, data: bytes | None) -> bytes:
        if self._compressed and self._frames is not None:
            return self._frames.send(TextMessage(text) if text is not None else BytesMessage(bytes(data or b"")))
        return text_frame(text) if text is not None else binary_frame(data or b"")

    async def _write(self, data: bytes) -> None:
        writer = self._connection.writer
        try:
            if not writer.write_nowait(data):
                await writer.flush()
            else:
                await self._connection.breathe()
        except trio.BrokenResourceError:
            self._reading.cancel(reason="the client cannot be reached")
            await trio.sleep(PAUSE)
        except trio.Cancelled:
            # The app may have nothing more to send, and the client must not wait for half a frame's rest.
            if writer.unsent:
                self._flush_soon()
            raise

    # The reading task

    async def _read(self, early: bytes) -> None:
        data = early or await self._connection.read()
        while data:
            self._pinged = False
            if self._messages is not None:
                self._timer.set(trio.current_time() + self._site.limits.ping_interval)
                if await self._take(self._messages, data):
                    return
            elif self._state is _State.CONNECTING:
                self._refuse(BadRequest("A WebSocket's data must wait for the handshake's answer."))
                return
            # Else the app refuses the WebSocket: its answer is on its way, and must not have another one in it.
            data = await self._connection.read()

    async def _take(self, messages: Messages, data: bytes) -> bool:
        """Hand over what `data` completes. Returns whether that is the end."""
        for found in messages.feed(data):
            if isinstance(found, Received):
                try:
                    await self._inbox.put({"type": "websocket.receive", "text": found.text, "bytes": found.data})
                except ClientLeft:
                    self._end(_ABNORMAL, "")
                    return True
            elif isinstance(found, Ended):
                self._write_soon(found.reply)
                self._connection.writer.finish()
                self._end(found.code, found.reason)
                return True
            else:
                await self._pong(found.data)
        return False

    async def _pong(self, data: bytes) -> None:
        """Answer a ping. A client that goes on pinging and does not read its answers is not read from, either."""
        self._unread = self._unread + len(data) if self._connection.writer.unsent else 0
        if self._unread > _PONGS:
            await self._write(data)
        else:
            self._write_soon(data)

    def _refuse(self, error: APIError) -> None:
        self.refusal = error
        self._state = _State.OVER
        self._end(_ABNORMAL, "")

    def _end(self, code: int, reason: str) -> None:
        """The client has ended the WebSocket, or has gone. What came before is still the app's to handle, if it left by the closing handshake."""
        accepted = self._messages is not None
        self._state = _State.OVER
        self._outlet.open = False
        self._timer.stop()
        self._answered_close.set()
        self._inbox.end({"type": "websocket.disconnect", "code": code, "reason": reason})
        if code == _ABNORMAL:
            self._disconnect.announce()
        elif self._nursery is not None:
            self._nursery.start_soon(self._announce_soon)
        patience = timing.HANDLING_SECONDS if accepted else timing.SHORTLY
        self._app_scope.deadline = min(self._app_scope.deadline, trio.current_time() + patience)

    async def _announce_soon(self) -> None:
        await trio.sleep(timing.SHORTLY)
        self._disconnect.announce()

    # From anywhere, without waiting

    def _write_soon(self, data: bytes) -> None:
        try:
            if data and not self._connection.writer.write_nowait(data):
                self._flush_soon()
        except trio.BrokenResourceError:
            self._reading.cancel(reason="the client cannot be reached")

    def _flush_soon(self) -> None:
        if not self._flushing and self._nursery is not None:
            self._flushing = True
            self._nursery.start_soon(self._flush)

    async def _flush(self) -> None:
        try:
            await self._connection.writer.flush()
        except trio.BrokenResourceError:
            self._reading.cancel(reason="the client cannot be reached")
        finally:
            self._flushing = False

    def _expire(self) -> None:
        if self._inbox.crowded:  # nobody reads, so that nothing comes in: that says nothing about the client
            self._pinged = False
            self._timer.set(trio.current_time() + self._site.limits.ping_interval)
            return
        if self._pinged:
            self._connection.writer.reset()  # which wakes the reading task up
            return
        self._pinged = True
        self._timer.set(trio.current_time() + self._site.limits.pong_timeout)
        if self._frames is not None and self._state is _State.OPEN:
            self._write_soon(self._frames.send(Ping()))


def _listed(head: Head, name: bytes) -> list[str]:
    return _listed_values(head.headers, name)


def _listed_values(headers: Any, name: bytes) -> list[str]:
    return [
        item.strip()
        for field, value in headers
        if field == name
        for item in value.decode("latin-1").split(",")
        if item.strip()
    ]
