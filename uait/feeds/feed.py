"""One append-only log with a cursor: `append` gives an offset, `read` replays what is kept after one and goes on live.

    feed = Feed("room general")
    feed.append({"text": "hello"})
    with feed.read(after=0) as reader:
        async for event in reader:
            ...                         # event.offset is where to go on after a break

A cursor is an offset and an epoch. Offsets count from 1 without holes; the epoch tells one life of the log from the next, because a log in memory starts at 1 again.
Everything here is synchronous except waiting for the next event, so that there is no gap and no duplicate between replay and live.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Literal, TypeAlias
from weakref import WeakSet

import attrs
import trio

from uait.errors import UaitError

SlowPolicy: TypeAlias = Literal["disconnect", "drop_oldest", "coalesce"]

MIB = 1024 * 1024


@attrs.frozen
class FeedEvent:
    """One entry of a feed, as one reader gets it.

    Attributes:
        offset: its place in the log, from 1.
        data: what was appended, the same object for all readers: do not change it.
        key: what it is about; a later event with the same key supersedes it for readers that coalesce.
        missed: how many events between the one this reader got before and this one were left out because the reader was slow.
    """

    offset: int
    data: Any
    key: str | None = None
    missed: int = 0


class FeedClosed(UaitError):
    """Something was appended after `close`."""


class SlowReader(UaitError):
    """A reader fell too far behind and was cut off. It can come back with `read(after=offset, epoch=epoch)`."""

    def __init__(self, name: str, offset: int, epoch: str) -> None:
        self.offset = offset
        self.epoch = epoch
        super().__init__(f"a reader of the feed {name!r} fell too far behind; it had read up to offset {offset}")


def weigh(data: Any) -> int:
    """About how many bytes `data` is worth for retention: exact for text (in characters) and bytes, the sum of the parts for JSON-like data."""
    if isinstance(data, str | bytes | bytearray):
        return len(data)
    if isinstance(data, Mapping):
        return sum(weigh(key) + weigh(value) for key, value in data.items())
    if isinstance(data, list | tuple):
        return sum(weigh(item) for item in data)
    return 8


class Feed:
    """An append-only log in memory.

    Args:
        name: for messages.
        max_events, max_bytes, max_age: what is kept for replay: at most so many events, so many bytes (by `weigh`), and none older than so many seconds. Readers that are already
            there get every event, kept or not.
        weigh: how heavy an event's data is.
        clock: seconds; only asked where `max_age` is set.
    """

    def __init__(
        self,
        name: str,
        *,
        max_events: int = 1000,
        max_bytes: int = 4 * MIB,
        max_age: float | None = None,
        weigh: Callable[[Any], int] = weigh,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.name = name
        self.epoch = secrets.token_hex(8)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._weigh = weigh
        self._clock = clock
        self._kept: deque[tuple[FeedEvent, int, float]] = deque()
        self._bytes = 0
        self._offset = 0
        self._closed = False
        # Weakly, so that a reader which nobody closed goes when its loop is left.
        self._readers: WeakSet[FeedReader] = WeakSet()

    @property
    def offset(self) -> int:
        """The offset of the last event; 0 before the first."""
        return self._offset

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def bytes(self) -> int:
        """The weight of what is kept."""
        return self._bytes

    @property
    def readers(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, data: Any, *, key: str | None = None) -> int:
        """Add an event and hand it to every reader. Never waits, whatever readers do.

        Returns:
            its offset.

        Raises:
            FeedClosed: the feed is closed.
        """
        if self._closed:
            raise FeedClosed(f"the feed {self.name!r} is closed")
        self._offset += 1
        event = FeedEvent(self._offset, data, key)
        weight = self._weigh(data)
        self._kept.append((event, weight, self._now()))
        self._bytes += weight
        self._trim()
        slow = [reader for reader in self._readers if not reader._offer(event)]
        for reader in slow:
            self._readers.discard(reader)
        return event.offset

    def close(self) -> None:
        """Take no more. Readers end after the last event; what is kept can still be read. Closing twice does nothing."""
        self._closed = True
        for reader in self._readers:
            reader._wake()

    def last(self, count: int) -> list[FeedEvent]:
        """The newest `count` of the kept events, oldest first."""
        self._trim()
        newest = [entry[0] for entry in islice(reversed(self._kept), max(0, count))]
        return newest[::-1]

    def read(
        self,
        after: int | None = None,
        epoch: str | None = None,
        *,
        policy: SlowPolicy = "disconnect",
        queue: int = 64,
    ) -> FeedReader:
        """Read on from a position. The reader misses nothing from this call on; leave its `with` block (or drop it) when done.

        Args:
            after: None: live from now. A number: everything after that offset, then live.
            epoch: the epoch that `after` belongs to, where the caller knows it.
            policy: what happens when more than `queue` live events wait for the reader: "disconnect" raises SlowReader in it, "drop_oldest" leaves the oldest out, "coalesce"
                keeps only the newest of each key (even before it is slow) and drops the oldest when that is not enough. What was left out is counted in `FeedEvent.missed`.
            queue: that bound; the events to replay come on top of it.

        Returns:
            a reader. Where the position is gone, or of another epoch, its `recovered` is False and it is live from now: nothing partial is replayed.
        """
        if queue < 1:
            raise ValueError("a reader's queue holds at least one event")
        self._trim()
        oldest = self._kept[0][0].offset if self._kept else self._offset + 1
        known = after is None or (epoch in (None, self.epoch) and oldest - 1 <= after <= self._offset)
        start = after if known and after is not None else self._offset
        reader = FeedReader(self, start=start, recovered=known, policy=policy, queue=queue)
        reader._replay([entry[0] for entry in self._kept if entry[0].offset > start])
        self._readers.add(reader)
        return reader

    def _now(self) -> float:
        return self._clock() if self._max_age is not None else 0.0

    def _trim(self) -> None:
        too_old = self._clock() - self._max_age if self._max_age is not None else None
        while self._kept and (
            len(self._kept) > self._max_events
            or self._bytes > self._max_bytes
            or (too_old is not None and self._kept[0][2] < too_old)
        ):
            self._bytes -= self._kept.popleft()[1]


class FeedReader:
    """One reader's view of a feed, made by `Feed.read`: an async iterator of `FeedEvent`, for one task at a time.

    Attributes:
        start: the offset it starts after.
        recovered: False when the position asked for is gone; then `start` is where it went on instead.

    Iterating ends when the feed or the reader is closed. It raises SlowReader under the policy "disconnect". Nothing is lost when waiting is cancelled.
    """

    def __init__(self, feed: Feed, *, start: int, recovered: bool, policy: SlowPolicy, queue: int) -> None:
        self.start = start
        self.recovered = recovered
        self.offset = start
        """The last offset this reader got: where to go on after a break."""
        self._feed = feed
        self._policy = policy
        self._queue = queue
        self._waiting: OrderedDict[object, FeedEvent] = OrderedDict()
        self._replayed = 0
        self._slow = False
        self._closed = False
        self._wakeup: trio.Event | None = None

    def __enter__(self) -> FeedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the feed and forget what waits; a task that is waiting for an event ends its loop."""
        self._closed = True
        self._waiting.clear()
        self._feed._readers.discard(self)
        self._wake()

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

    async def _ready(self) -> None:
        if self._wakeup is not None:
            raise trio.BusyResourceError("another task already reads from this FeedReader")
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._slow:
                raise SlowReader(self._feed.name, self.offset, self._feed.epoch)
            if self._closed or self._feed.closed:
                raise StopAsyncIteration
            self._wakeup = trio.Event()
            try:
                await self._wakeup.wait()
            finally:
                self._wakeup = None

    def _take(self) -> FeedEvent:
        _, event = self._waiting.popitem(last=False)
        missed = event.offset - self.offset - 1
        self.offset = event.offset
        self._replayed = max(0, self._replayed - 1)
        return attrs.evolve(event, missed=missed) if missed else event

    def _replay(self, events: list[FeedEvent]) -> None:
        self._replayed = len(events)
        for event in events:
            self._offer(event)

    def _offer(self, event: FeedEvent) -> bool:
        """Put `event` in line. False when the reader is cut off instead."""
        waiting = self._waiting
        slot: object = event.offset
        if self._policy == "coalesce" and event.key is not None:
            slot = event.key
            waiting.pop(slot, None)
        if len(waiting) >= self._queue + self._replayed:
            if self._policy == "disconnect":
                self._slow = True
                waiting.clear()
                self._wake()
                return False
            waiting.popitem(last=False)
        waiting[slot] = event
        self._wake()
        return True

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()
