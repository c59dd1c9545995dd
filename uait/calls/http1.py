"""One HTTP/1.1 connection at the client's side: a question, then its answer as it comes (RFC 9112).

httpx's own transport makes seven async generators an answer; one that is not read to its end leaves them to the garbage collector, which trio reports as seven resource warnings. Here is none, and closing is one
synchronous call, so that it needs no shield when a scope is cancelled.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import suppress

import httpx
import trio

from uait.calls.answer import Answer, StaleConnection
from uait.calls.inprocess import CLOSE_TIMEOUT
from uait.calls.question import Question, WrongLength

TOGETHER_BYTES = 64 * 1024
"""Up to here a body goes out in one piece with its head, and before the answer is waited for."""

PIECE_BYTES = 256 * 1024
"""How much has to go out within one write timeout."""

_READ_BYTES = 64 * 1024

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class Connection:
    """A connected stream. Whoever opened it calls `close`, also in the middle of anything."""

    def __init__(self, origin: Origin, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.origin = origin
        self.stream = stream
        self.used = False
        self.idle_since = 0.0
        self._look: select.poll | None = None
        self._secure = stream if isinstance(stream, trio.SSLStream) else None
        self._socket = (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket

    def close(self) -> None:
        """Close the socket now, without a TLS goodbye. Whoever waits for it gets an error. Idempotent."""
        self._socket.close()

    def quiet(self) -> bool:
        """Whether an idle connection has neither been closed by the other side nor received what nobody asked for."""
        if self._socket.fileno() < 0:
            return False
        if self._look is None:
            self._look = select.poll()
            self._look.register(self._socket.fileno(), select.POLLIN)
        if self._look.poll(0):
            return False
        # What came over TLS behind an answer has left the socket, and the stream does not tell of it: without a look into it, no connection serves twice.
        incoming = getattr(self._secure, "_incoming", None)
        return self._secure is None or (incoming is not None and not incoming.pending and not self._secure.pending())

    async def receive(self) -> bytes:
        """What has come; b"" at the end.

        Raises:
            httpx.ReadError: the connection broke, or was closed here.
        """
        try:
            if self._secure is not None:
                return bytes(await self._secure.receive_some(_READ_BYTES))
            while (fd := self._socket.fileno()) >= 0:
                # trio's socket would first try to read, which is in vain after a question, and wait its turn once more after it was not.
                await trio.lowlevel.wait_readable(fd)
                try:
                    return os.read(fd, _READ_BYTES)
                except BlockingIOError:
                    pass
            raise httpx.ReadError("the connection has been closed")
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(str(error) or "the connection broke") from error

    async def exchange(
        self,
        question: Question,
        body: bytes | AsyncIterable[bytes],
        release: Callable[[Answer], None],
        times: Mapping[str, float | None],
    ) -> Answer:
        """Send a request and read the head of its answer.

        An answer that refuses the request before its body is sent ends the sending. When this raises or is cancelled, the connection is of no further use: close it.

        Args:
            question: its head.
            body: a generator is closed in whatever way this ends.
            release: called once, when the answer is closed.
            times: seconds: `read` for each wait for a part of the answer once the request is out, `write` for each `PIECE_BYTES` of the request.

        Raises:
            StaleConnection: see there.
            httpx.TransportError: it broke, or not in time, or the other side does not speak HTTP.
        """
        answer = Answer(self, question, release, times.get("read"))
        if isinstance(body, bytes) and len(body) <= TOGETHER_BYTES:
            await self.send(question, body, answer, times.get("write"))
            await answer.read_head()
        else:
            await self._exchange_long(question, body, answer, times.get("write"))
        return answer

    async def _exchange_long(
        self, question: Question, body: bytes | AsyncIterable[bytes], answer: Answer, timeout: float | None
    ) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                nonlocal failure
                try:
                    await self.send(question, body, answer, timeout)
                except Exception as error:
                    if answer.status and isinstance(error, httpx.WriteTimeout):
                        return  # it has been answered without being read
                    failure = error
                    nursery.cancel_scope.cancel(reason="the request's body failed")

            nursery.start_soon(send)
            try:
                await answer.read_head()
            except (httpx.TransportError, StaleConnection) as error:
                failure = error
            if answer.status >= 300 or failure is not None:
                nursery.cancel_scope.cancel(reason="nobody wants the rest of the body")
        if failure is not None:
            raise failure

    async def send(
        self, question: Question, body: bytes | AsyncIterable[bytes], answer: Answer, timeout: float | None = None
    ) -> None:
        """Send a request. That the connection broke is noted in `answer`: the other side may have said why before it closed, and if not, reading tells.

        Args:
            question: its head.
            body: a generator is closed in whatever way this ends.
            answer: learns how far this has come.
            timeout: seconds for each `PIECE_BYTES`.

        Raises:
            httpx.WriteTimeout: a piece was not taken in time.
            WrongLength: the body is not as long as the head says.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # sending does not wait for anything that would notice
        if isinstance(body, bytes):
            await self._write(question.head + question.framed(body), answer, timeout)
        else:
            await self._send_parts(question, body, answer, timeout)
        answer.sent()

    async def _send_parts(
        self, question: Question, body: AsyncIterable[bytes], answer: Answer, timeout: float | None
    ) -> None:
        left = question.length or 0
        parts = aiter(body)
        try:
            await self._write(question.head, answer, timeout)
            while not answer.broken and (part := await anext(parts, None)) is not None:
                left -= len(part)
                if question.chunked:
                    part = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
                elif left < 0:
                    raise WrongLength("the body is longer than its Content-Length")
                await trio.lowlevel.checkpoint()
                await self._write(part, answer, timeout)
            if question.chunked:
                await self._write(b"0\r\n\r\n", answer, timeout)
            elif left and not answer.broken:
                raise WrongLength("the body is shorter than its Content-Length")
        finally:
            if isinstance(parts, AsyncGenerator):
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                    await parts.aclose()

    async def _write(self, data: bytes, answer: Answer, timeout: float | None) -> None:
        if answer.broken:
            return
        try:
            sent = 0
            if self._secure is None:
                # Nearly always the system takes it all, and half of what `send_all` costs is being ready to wait.
                with suppress(BlockingIOError):
                    sent = os.write(self._socket.fileno(), data)
            answer.untouched = False
            if sent == len(data):
                return
            rest = memoryview(data)
            while sent < len(data):
                deadline = math.inf if timeout is None else trio.current_time() + timeout
                with trio.CancelScope(deadline=deadline) as patience:
                    await self.stream.send_all(rest[sent : sent + PIECE_BYTES])
                if patience.cancelled_caught:
                    raise httpx.WriteTimeout("the request was not taken in time")
                sent += PIECE_BYTES
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            answer.broken = True
