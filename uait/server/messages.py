"""A WebSocket's inbound side (RFC 6455): bytes become whole messages, and what must be said about them at once. Pure; wsproto reads the frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from io import BytesIO, StringIO
from typing import Any, TypeAlias

import attrs
from wsproto.connection import Connection, ConnectionState
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

_INFLATED_AT_ONCE = 4096
_BITS = r"(?:9|1[0-5])"
_OFFER = re.compile(
    rf"permessage-deflate(?:\s*;\s*(?:(?:client|server)_no_context_takeover|client_max_window_bits(?:={_BITS})?|server_max_window_bits={_BITS}))*"
)


@attrs.frozen
class Received:
    """A whole message: one of both is None."""

    text: str | None
    data: bytes | None


@attrs.frozen
class Reply:
    """Bytes to send at once: a pong."""

    data: bytes


@attrs.frozen
class Ended:
    """The client's close frame, or frames that are none. `reply` is the last thing to send; nothing is read any more."""

    code: int
    reason: str
    reply: bytes


Inbound: TypeAlias = Received | Reply | Ended


class Messages:
    """What one client sends, put together.

    A message over the limit fails the connection with 1009, bad frames with 1002, text that is none with 1007 (RFC 6455 section 7.1.7).

    Args:
        connection: wsproto's, of the server's side, with the extensions that were agreed on.
        max_message: bytes.
        compressed: whether messages may be compressed.
    """

    def __init__(self, connection: Connection, *, max_message: int, compressed: bool) -> None:
        self._connection = connection
        frames: Any = connection._proto
        frames._frame_decoder.extensions = [_ForDataFrames(each) for each in frames._frame_decoder.extensions]
        self._max_message = max_message
        # In small pieces where it may be compressed, for each inflates to a thousand times its size before it can be counted.
        self._step = _INFLATED_AT_ONCE if compressed else 0
        self._message: StringIO | BytesIO | None = None
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Inbound]:
        """What `data` completes. Ends with an `Ended`, if one comes."""
        step = self._step or max(1, len(data))
        for start in range(0, len(data), step):
            if self._connection.state not in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
                return
            self._connection.receive_data(data[start : start + step])
            for event in self._connection.events():
                found = self._handle(event)
                if found is not None:
                    yield found
                if isinstance(found, Ended):
                    return

    def close(self) -> None:
        """Read no more. (wsproto's parser is a generator that knows its owner, and such a ring keeps its memory until the garbage collector comes by.)"""
        frames: Any = self._connection._proto
        # Not closed: one that has not started, for nothing ever came in, keeps what it knows even so.
        frames._parse_more = iter(())

    def _handle(self, event: Any) -> Inbound | None:
        if isinstance(event, Message):
            return self._add(event) if self._connection.state is ConnectionState.OPEN else None
        if isinstance(event, Ping):
            if self._connection.state is ConnectionState.OPEN:
                return Reply(self._connection.send(event.response()))
        elif isinstance(event, CloseConnection):
            if self._connection.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
                answered = self._connection.state is ConnectionState.CLOSED
                reply = b"" if answered else self._connection.send(event.response())
                return Ended(int(event.code), event.reason or "", reply)
            return self._fail(int(event.code), event.reason or "")  # wsproto's way to say that the frames are wrong
        return None

    def _add(self, event: Message[Any]) -> Inbound | None:
        data = event.data
        self._size += len(data) if not isinstance(data, str) or data.isascii() else len(data.encode())
        if self._size > self._max_message:
            self._message = None
            return self._fail(int(CloseReason.MESSAGE_TOO_BIG), f"at most {self._max_message} bytes")
        is_text = isinstance(event, TextMessage)
        if self._message is None:
            if event.message_finished:
                self._size = 0
                return Received(data, None) if is_text else Received(None, bytes(data))
            self._message = StringIO(newline="") if is_text else BytesIO()
        self._message.write(data)
        if not event.message_finished:
            return None
        whole, self._message, self._size = self._message.getvalue(), None, 0
        return Received(whole, None) if isinstance(whole, str) else Received(None, whole)

    def _fail(self, code: int, reason: str) -> Ended:
        reply = b""
        if self._connection.state is ConnectionState.OPEN:
            reply = self._connection.send(CloseConnection(code=code, reason=reason))
        return Ended(code, reason, reply)


class _ForDataFrames:
    """Keeps control frames from an extension. wsproto's compression takes a ping between the fragments of a message (RFC 6455 section 5.4) for the message's end, and what follows for uncompressed."""

    def __init__(self, inner: Extension) -> None:
        self._inner = inner
        self._control = False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._control = opcode.iscontrol()
        if self._control:
            return RsvBits(False, False, False)
        return self._inner.frame_inbound_header(proto, opcode, rsv, payload_length)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        return data if self._control else self._inner.frame_inbound_payload_data(proto, data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        return None if self._control else self._inner.frame_inbound_complete(proto, fin)


def without_context_takeover(offers: Iterable[str]) -> list[str]:
    """The first offer of compression that is well formed, with the parameters that a server may add on its own (RFC 7692 section 7.1.1): a connection that keeps its context costs 100 KiB more."""
    return list(_acceptable(offers))[:1]


def _acceptable(offers: Iterable[str]) -> Iterator[str]:
    for offer in offers:
        if _OFFER.fullmatch(offer.strip()):
            yield f"{offer.strip()}; server_no_context_takeover; client_no_context_takeover"
