"""The way out to clients, one and many. A message is encoded and framed once, and the same bytes go to everybody.

On uait's own server a client has an `Outlet`: writing to it never waits, and costs hardly more than the system call. On any other server a task of the client's writes what waits in a
queue. Everything else is the same for both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import trio

from uait.server import Outlet, broadcast, text_frame

Send: TypeAlias = Callable[[str], Awaitable[None]]

BUFFER = 65536
"""Bytes that may wait in a client's way out before the client counts as behind."""


class Line(Protocol):
    """One client's way out. What is pushed and what is sent keeps its order."""

    outlet: Any
    """What tells clients apart, and an `Outlet` where `native`."""

    native: bool

    @property
    def queued(self) -> int:
        """Bytes that wait here."""
        ...

    @property
    def messages(self) -> int:
        """Messages that wait here, as far as that is known."""
        ...

    def push(self, payload: bytes) -> None:
        """Have an encoded message go out. Never waits and never raises, whatever state the connection is in."""
        ...

    async def send(self, payload: bytes) -> None:
        """The same, and wait until what was before it is on its way. Where the task is cancelled already, it does not go out."""
        ...


class NativeLine:
    """Over an outlet."""

    native = True

    def __init__(self, outlet: Outlet, send: Send) -> None:
        self.outlet = outlet
        self._send = send

    @property
    def queued(self) -> int:
        return self.outlet.queued

    @property
    def messages(self) -> int:
        return int(self.queued > 0)

    def push(self, payload: bytes) -> None:
        self.outlet.push(text_frame(payload))

    async def send(self, payload: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # the server writes before it looks
        await self._send(payload.decode())


class QueuedLine:
    """Over a queue, from which `write`, in a task of its own, sends. Whoever pushes looks at `queued` before, which bounds it."""

    native = False

    def __init__(self) -> None:
        self.outlet = self
        self.queued = 0
        self._waiting: deque[str] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._emptied = trio.lowlevel.ParkingLot()

    @property
    def messages(self) -> int:
        return len(self._waiting)

    def push(self, payload: bytes) -> None:
        self.push_texts((payload.decode(),))

    def push_texts(self, texts: Sequence[str]) -> int:
        self._waiting.extend(texts)
        self.queued += sum(map(len, texts))
        self._arrived.unpark()
        return self.queued

    async def send(self, payload: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._waiting:
            await self._emptied.park()
            await trio.lowlevel.checkpoint_if_cancelled()  # what cancelled it may have come after what woke it up
        self.push(payload)

    async def write(self, send: Send) -> None:
        """Send what comes, for ever.

        A server may return from `send` at once, without a checkpoint, when the connection is gone; the loop parks as soon as the queue is empty, so it cannot spin.
        """
        while True:
            while not self._waiting:
                await self._arrived.park()
            await self._next(send)

    async def flush(self, send: Send) -> None:
        """Send what waits now. `write` has ended."""
        while self._waiting:
            await self._next(send)

    async def _next(self, send: Send) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # while the message is still here for `flush`
        text = self._waiting.popleft()
        self.queued -= len(text)
        if not self._waiting:
            self._emptied.unpark_all()
        await send(text)


class HasLine(Protocol):
    @property
    def line(self) -> Line: ...


Who = TypeVar("Who", bound=HasLine)


class Audience(Generic[Who]):
    """Those who get the same messages."""

    __slots__ = ("_native", "_queued")

    def __init__(self) -> None:
        self._native: dict[Any, Who] = {}
        self._queued: dict[Any, Who] = {}

    def __len__(self) -> int:
        return len(self._native) + len(self._queued)

    def __iter__(self) -> Iterator[Who]:
        yield from self._native.values()
        yield from self._queued.values()

    def add(self, who: Who) -> None:
        line = who.line
        (self._native if line.native else self._queued)[line.outlet] = who

    def discard(self, who: Who) -> None:
        line = who.line
        (self._native if line.native else self._queued).pop(line.outlet, None)

    def send(self, payloads: Sequence[bytes], buffer: int = BUFFER) -> list[Who]:
        """Give everybody encoded messages, in one write each, without waiting for anybody.

        Returns:
            those for whom more than `buffer` bytes wait now.
        """
        behind: list[Who] = []
        if self._native:
            slow = broadcast(self._native, b"".join(map(text_frame, payloads)))
            behind.extend(self._native[outlet] for outlet in slow if outlet.queued > buffer)
        if self._queued:
            texts = [payload.decode() for payload in payloads]
            for line, who in self._queued.items():
                if line.push_texts(texts) > buffer:
                    behind.append(who)
        return behind
