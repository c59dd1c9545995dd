"""Bytes on their way to one client, who may read slowly, or never."""

from __future__ import annotations

import os
import socket
import struct

import trio

from uait.server.connection import Stream, transport_of

_PIECE = 64 * 1024
_GIVEN_UP = 256 * 1024
_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Writer:
    """Sends in order, cancellable at any moment, and for a bounded time.

    What is handed to `write` is in order from then on. Where a task gives up waiting, the rest of its bytes stays queued for the next one, so that the framing above stays whole; a client that is
    behind by too much of that is lost. One without any progress for `send_timeout` seconds is lost, too, and its connection reset.

    A TLS stream cannot be left in the middle of a send: there the wait is shielded, with the same bound.
    """

    def __init__(self, stream: Stream, send_timeout: float) -> None:
        self._stream = stream
        self._transport = transport_of(stream)
        self._tls = isinstance(stream, trio.SSLStream)
        self._at_once = not self._tls and os.name == "posix"
        self._timeout = send_timeout
        self._unsent = bytearray()
        self._turn = trio.Lock()
        self.lost = False

    async def write(self, data: bytes) -> None:
        """Send `data`, waiting while the client does not read.

        Raises:
            trio.BrokenResourceError: the connection is lost. The socket is closed then.
        """
        if self.lost:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the connection is lost")
        self._unsent += data
        try:
            if self._at_once and not self._turn.locked() and self._send_now():
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
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

    def _send_now(self) -> bool:
        """Hand over what the system takes in without waiting, which is mostly all of it, and half the cost of being ready to wait. Returns whether nothing is left."""
        try:
            sent = os.write(self._transport.socket.fileno(), self._unsent)
        except BlockingIOError:
            return False
        del self._unsent[:sent]
        return not self._unsent

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

    async def finish(self) -> None:
        """Say that nothing follows; the client can still send. Over TLS nothing is said before the stream is closed, for its own words for that end both directions."""
        if self._tls:
            return
        try:
            await self._transport.send_eof()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            self.lost = True

    def reset(self) -> None:
        """Drop the connection and what is unsent, at once; every task that waits on it wakes up with an error."""
        self.lost = True
        self._unsent.clear()
        reset(self._transport)


def reset(transport: trio.SocketStream) -> None:
    """Close with a TCP reset, so that the system does not keep what the client never reads. Idempotent."""
    if transport.socket.fileno() != -1:
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.socket.close()
