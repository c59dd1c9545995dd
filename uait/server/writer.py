"""Bytes on their way to one client, who may read slowly, or never."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

import trio

from uait.server.connection import Stream, number_of, transport_of

_PIECE = 64 * 1024
_GIVEN_UP = 256 * 1024
_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Writer:
    """Sends in order, cancellable at any moment, and for a bounded time.

    What is handed to `write` is in order from then on. Where a task gives up waiting, the rest of its bytes stays queued for the next one, so that the framing above stays whole; a client that is
    behind by too much of that is lost. One without any progress for `send_timeout` seconds is lost, too, and its connection reset.

    A TLS stream cannot be left in the middle of a send: there the wait is shielded, with the same bound.

    Attributes:
        lost: nothing can be sent any more.
        on_reset: called when the connection is dropped.
    """

    def __init__(self, stream: Stream, send_timeout: float) -> None:
        self._stream = stream
        self._transport = transport_of(stream)
        # Asked each time: the number may be another connection's as soon as the socket is closed under us.
        self.fileno = number_of(self._transport.socket)
        self._tls = isinstance(stream, trio.SSLStream)
        self._at_once = not self._tls and os.name == "posix"
        self._timeout = send_timeout
        self._unsent = bytearray()
        self._turn = trio.Lock()
        self.lost = False
        self.on_reset: Callable[[], None] = _nothing

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken in yet."""
        return len(self._unsent)

    @property
    def ready(self) -> bool:
        """Whether nothing waits to be sent, so that what is sent now goes out at once."""
        return self._at_once and not self._unsent and not self.lost

    def keep(self, rest: bytes) -> None:
        """Queue the rest of what has been sent in part."""
        self._unsent += rest

    async def write(self, data: bytes) -> None:
        """Send `data`, waiting while the client does not read. Lets others run in any case.

        Raises:
            trio.BrokenResourceError: the connection is lost. The socket is closed then.
        """
        if self.write_nowait(data):
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self.flush()

    def write_nowait(self, data: bytes) -> bool:
        """Put `data` in order and hand over what the system takes in without waiting, which is mostly all of it, and half the cost of being ready to wait. Returns whether nothing is left for `flush`.

        Raises:
            trio.BrokenResourceError: the connection is lost. The socket is closed then.
        """
        if self._unsent or not self._at_once:
            if self.lost:
                raise trio.BrokenResourceError("the connection is lost")
            self._unsent += data
            return False
        try:
            sent = os.write(self.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.reset()
            raise trio.BrokenResourceError("the connection is lost") from error
        if sent == len(data):
            return True
        self._unsent += memoryview(data)[sent:]
        return False

    async def flush(self) -> None:
        """Wait until everything is with the system. Several tasks may.

        Raises:
            trio.BrokenResourceError: the connection is lost, for want of progress, too. The socket is closed then.
        """
        try:
            async with self._turn:
                while self._unsent:
                    await self._send_some()
        except (OSError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            self.reset()
            raise trio.BrokenResourceError("the connection is lost") from error
        except trio.Cancelled:
            if len(self._unsent) > _GIVEN_UP:
                self.reset()
            raise
        if self.lost:
            raise trio.BrokenResourceError("the connection is lost")

    async def _send_some(self) -> None:
        if self._tls:
            await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(deadline=trio.current_time() + self._timeout, shield=self._tls) as patience:
            if self._tls:
                piece = bytes(self._unsent[:_PIECE])
                await self._stream.send_all(piece)
                sent = len(piece)
            else:
                sent = await self._transport.socket.send(self._unsent)
            del self._unsent[:sent]
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    def finish(self) -> None:
        """Say that nothing follows, where nothing is unsent; the client can still send. Over TLS nothing is said before the stream is closed, for its own words for that end both directions."""
        if self._tls or self._unsent:
            return
        try:
            self._transport.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.lost = True

    def reset(self) -> None:
        """Drop the connection and what is unsent, at once; every task that waits on it wakes up with an error."""
        self.lost = True
        self._at_once = False
        self._unsent = bytearray()  # not emptied: a task may be about to send from it
        reset(self._transport)
        self.on_reset()


def _nothing() -> None:
    pass


def reset(transport: trio.SocketStream) -> None:
    """Close with a TCP reset, so that the system does not keep what the client never reads. Idempotent."""
    if transport.socket.fileno() != -1:
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.socket.close()
