"""Bytes on their way to one client, who may read slowly, or never."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

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

    Attributes:
        direct: hands bytes over to the system, as many as it takes without waiting, and says how many; None where something waits already, and what is sent has to wait behind it, or where it cannot be done so.
        lost: nothing can be sent any more.
        on_reset: called when the connection is dropped.
    """

    def __init__(self, stream: Stream, send_timeout: float) -> None:
        self._stream = stream
        self._transport = transport_of(stream)
        self._tls = isinstance(stream, trio.SSLStream)
        self._hand_over = None if self._tls or os.name != "posix" else _sender(self._transport.socket)
        self.direct = self._hand_over
        self._timeout = send_timeout
        self._unsent = bytearray()
        self._turn = trio.Lock()
        self.lost = False
        self.on_reset: Callable[[], None] = _nothing

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken in yet."""
        return len(self._unsent)

    def keep(self, rest: bytes | memoryview) -> None:
        """Queue the rest of what has been sent in part."""
        self._unsent += rest
        self.direct = None

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
        direct = self.direct
        if direct is None:
            if self.lost:
                raise trio.BrokenResourceError("the connection is lost")
            self._unsent += data
            return False
        try:
            sent = direct(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.reset()
            raise trio.BrokenResourceError("the connection is lost") from error
        if sent == len(data):
            return True
        self.keep(memoryview(data)[sent:])
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
            if not self._unsent:
                self.direct = self._hand_over
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")

    def finish(self) -> None:
        """Say that nothing follows, where nothing is unsent; the client can still send. Over TLS nothing is said before the stream is closed, for its own words for that end both directions."""
        if self._tls or self._unsent:
            return
        try:
            self._transport.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()

    def reset(self) -> None:
        """Drop the connection and what is unsent, at once; every task that waits on it wakes up with an error."""
        self._lose()
        self._unsent = bytearray()  # not emptied: a task may be about to send from it
        reset(self._transport)
        self.on_reset()

    def _lose(self) -> None:
        self.lost = True
        self.direct = self._hand_over = None


def _nothing() -> None:
    pass


def _sender(sock: trio.socket.SocketType) -> Callable[[bytes], int]:
    """`send` of the socket that `sock` wraps: a call of C, which knows that the socket has been closed under us. Where trio (whose private part that is) wraps none, the same by its number."""
    wrapped: socket.socket | None = getattr(sock, "_sock", None)
    return wrapped.send if wrapped is not None else lambda data: os.write(sock.fileno(), data)


def reset(transport: trio.SocketStream) -> None:
    """Close with a TCP reset, so that the system does not keep what the client never reads. Idempotent."""
    if transport.socket.fileno() != -1:
        transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.socket.close()
