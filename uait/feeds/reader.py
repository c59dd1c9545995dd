"""One reader's view of a feed: what waits for it, how much that may be, and what happens when it is more."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Protocol, TypeAlias

import attrs
import trio

from uait.feeds.events import FeedEvent, SlowReader

SlowPolicy: TypeAlias = Literal["disconnect", "drop_oldest", "coalesce"]


class Log(Protocol):
    """What a reader needs of its feed."""

    name: str
    epoch: str

    @property
    def closed(self) -> bool: ...
    def leave(self, reader: FeedReader) -> None: ...


class FeedReader:
    """Made by `Feed.read`: an async iterator of `FeedEvent`, for one task at a time.

    Attributes:
        start: the offset it starts after.
        recovered: False when the position asked for is gone; then `start` is where it went on instead.
        offset: the last offset this reader got: where to go on after a break.
        missed: how many events were left out so far, because it was slow.

    Iterating ends when the feed or the reader is closed. It raises SlowReader under the policy "disconnect". Nothing is lost when waiting is cancelled.
    """

    def __init__(
        self,
        feed: Log,
        *,
        start: int,
        recovered: bool,
        policy: SlowPolicy,
        queue: int,
        max_bytes: float | None,
        on_slow: Callable[[], None] | None,
    ) -> None:
        self.start = start
        self.recovered = recovered
        self.offset = start
        self.missed = 0
        self._feed = feed
        self._policy = policy
        self._queue = queue
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._on_slow = on_slow
        self._waiting: OrderedDict[object, FeedEvent] = OrderedDict()
        self._bytes = 0
        # What was there to replay comes on top of the bounds, and shrinks as it is read.
        self._extra = 0
        self._extra_bytes = 0
        self._slow = False
        self._closed = False
        self._wakeup: trio.Event | None = None

    def __enter__(self) -> FeedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many events wait to be taken."""
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """The weight of what waits."""
        return self._bytes

    def close(self) -> None:
        """Leave the feed and forget what waits; a task that is waiting for an event ends its loop."""
        self._closed = True
        self._forget()
        self._feed.leave(self)
        self.wake()

    def __aiter__(self) -> FeedReader:
        return self

    async def __anext__(self) -> FeedEvent:
        await self._ready()
        return self._take()

    async def batch(self) -> list[FeedEvent]:
        """Wait for an event and take everything that waits then, in order: one wait for many events.

        Returns:
            an empty list when the feed or the reader is closed and nothing is left.

        Raises:
            SlowReader: as iterating does.
        """
        try:
            await self._ready()
        except StopAsyncIteration:
            return []
        return [self._take() for _ in range(len(self._waiting))]

    def take_nowait(self) -> FeedEvent | None:
        """The next event where one waits, else None. Raises SlowReader as iterating does."""
        if not self._waiting:
            self._raise_if_slow()
            return None
        return self._take()

    async def _ready(self) -> None:
        await trio.lowlevel.checkpoint()
        # Not before the checkpoint: of two that come at the same moment, neither waits yet.
        if self._wakeup is not None:
            raise trio.BusyResourceError("another task already reads from this FeedReader")
        while not self._waiting:
            self._raise_if_slow()
            if self._closed or self._feed.closed:
                raise StopAsyncIteration
            self._wakeup = trio.Event()
            try:
                await self._wakeup.wait()
            finally:
                self._wakeup = None

    def _raise_if_slow(self) -> None:
        if self._slow:
            raise SlowReader(self._feed.name, self.offset, self._feed.epoch)

    def _take(self) -> FeedEvent:
        _, event = self._waiting.popitem(last=False)
        missed = event.offset - self.offset - 1
        self.offset = event.offset
        self._bytes -= event.weight
        if self._extra:
            self._extra -= 1
            self._extra_bytes = max(0, self._extra_bytes - event.weight) if self._extra else 0
        if missed:
            self.missed += missed
            return attrs.evolve(event, missed=missed)
        return event

    def replay(self, events: Iterable[FeedEvent]) -> None:
        """The feed's part: put what there was before in line, on top of the bounds."""
        kept = list(events)
        self._extra = len(kept)
        self._extra_bytes = sum(event.weight for event in kept)
        for event in kept:
            self.offer(event)

    def offer(self, event: FeedEvent) -> bool:
        """The feed's part: put `event` in line. False when the reader is cut off instead; `tell_slow` is to follow."""
        waiting = self._waiting
        slot: object = event.offset
        if self._policy == "coalesce" and event.key is not None:
            slot = event.key
            if superseded := waiting.pop(slot, None):
                self._bytes -= superseded.weight
        # One that is heavier than all that may wait is taken where nothing else waits.
        while waiting and (
            len(waiting) >= self._queue + self._extra
            or self._bytes + event.weight > self._max_bytes + self._extra_bytes
        ):
            if self._policy == "disconnect":
                self._slow = True
                self._forget()
                self.wake()
                return False
            self._bytes -= waiting.popitem(last=False)[1].weight
        waiting[slot] = event
        self._bytes += event.weight
        self.wake()
        return True

    def tell_slow(self) -> None:
        """The feed's part: say that the reader is cut off. Whoever hears it may close and open readers."""
        if self._on_slow is not None:
            self._on_slow()

    def wake(self) -> None:
        """The feed's part: let the task that waits look again."""
        if self._wakeup is not None:
            self._wakeup.set()

    def _forget(self) -> None:
        self._waiting.clear()
        self._bytes = 0
