"""Prepared WebSocket frames, written to many connections: what our server offers beyond ASGI.

The scope of each WebSocket on the native server has an `Outlet` as `scope["uait.outlet"]`. An app that has one message for many clients encodes it once, with `text_frame`, and pushes the same bytes to each:

    frame = text_frame('{"type": "chat", ...}')
    for outlet in broadcast(outlets, frame):  # those that are behind
        if outlet.queued > enough: ...

On a server that does not offer it the app sends the message to each client in ASGI's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from uait.server.writer import Writer

SCOPE_KEY = "uait.outlet"

OVERFLOW = 16 * 1024 * 1024
"""Bytes queued for one client at which it is dropped, whatever the app's own policy is."""

_TEXT, _BINARY = 0x81, 0x82


def text_frame(text: str | bytes) -> bytes:
    """One whole text message as a server's frame (RFC 6455 section 5.2): not masked, not compressed, which every client takes, also where compression was agreed on (RFC 7692 section 6).

    Args:
        text: where it is bytes they must be UTF-8.
    """
    return _frame(_TEXT, text.encode() if isinstance(text, str) else text)


def binary_frame(data: bytes) -> bytes:
    """One whole binary message, likewise."""
    return _frame(_BINARY, data)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return b"%c\x7e%b%b" % (first, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (first, size.to_bytes(8, "big"), payload)


class Outlet:
    """The way to one WebSocket's client that never waits. The server makes it; it is of use while the WebSocket is open, and harmless before and after.

    Attributes:
        open: between the handshake and the end.
    """

    __slots__ = ("_flush_soon", "open", "writer")

    def __init__(self, writer: Writer, flush_soon: Callable[[], None]) -> None:
        self.open = False
        self.writer = writer
        self._flush_soon = flush_soon

    @property
    def queued(self) -> int:
        """Bytes that wait because the client does not read fast enough."""
        return self.writer.unsent

    def push(self, frame: bytes) -> int:
        """Send `frame`, or queue it behind what waits already, in order with what the app sends.

        Returns:
            The bytes that are queued now, 0 where all is with the system or the WebSocket is not open.

        Past `OVERFLOW` bytes the client is dropped. One that takes nothing in for the server's `send_timeout` is, too.
        """
        if not self.open:
            return 0
        try:
            if self.writer.write_nowait(frame):
                return 0
        except trio.BrokenResourceError:
            self.open = False
            return 0
        return self._keep_to_limit()

    def keep(self, rest: bytes) -> None:
        """For `broadcast`: queue what is left of a frame."""
        self.writer.keep(rest)
        self._keep_to_limit()

    def _keep_to_limit(self) -> int:
        queued = self.writer.unsent
        if queued > OVERFLOW:
            self.open = False
            self.writer.reset()
            return 0
        self._flush_soon()
        return queued

    def close(self) -> None:
        """For the server: the WebSocket is over, and its task cannot be asked for anything any more."""
        self.open = False
        self._flush_soon = _nothing


def _nothing() -> None:
    pass


def broadcast(outlets: Iterable[Outlet], frame: bytes) -> list[Outlet]:
    """Push `frame` to all `outlets`, in one go: nothing else runs meanwhile.

    Returns:
        Those of them that have something queued now, so that only they need to be looked at.
    """
    behind = []
    size = len(frame)
    for outlet in outlets:
        send = outlet.writer.direct
        if send is not None and outlet.open:
            # What `push` does, without the calls, which would take a quarter of the time.
            try:
                sent = send(frame)
            except OSError:
                sent = 0  # `push` meets the same, and knows what it means
            if sent == size:
                continue
            if sent:
                outlet.keep(frame[sent:])
                behind.append(outlet)
                continue
        if outlet.push(frame):
            behind.append(outlet)
    return behind
