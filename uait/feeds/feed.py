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
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any
from weakref import WeakSet

import trio

from uait.feeds.events import FeedClosed, FeedEvent, Position, weigh
from uait.feeds.reader import FeedReader, SlowPolicy
from uait.heap import exact

MIB = 1024 * 1024


class Feed:
    """An append-only log in memory.

    Args:
        name: for messages.
        max_events, max_bytes, max_age: what is kept for replay: at most so many events, so many bytes (by `weigh`), and none older than so many seconds. Readers that are already
            there get every event, kept or not.
        max_tokens: of how many events with a token it is remembered that they were appended.
        weigh: how heavy an event's data is.
        clock: seconds; only asked where `max_age` is set.
        on_append: called with each event right after it was appended, in order. It must neither raise nor append.
    """

    def __init__(
        self,
        name: str,
        *,
        max_events: int = 1000,
        max_bytes: int = 4 * MIB,
        max_age: float | None = None,
        max_tokens: int = 1000,
        weigh: Callable[[Any], int] = weigh,
        clock: Callable[[], float] = trio.current_time,
        on_append: Callable[[FeedEvent], None] | None = None,
    ) -> None:
        self.name = name
        self.epoch = secrets.token_hex(8)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._max_tokens = max_tokens
        self._weigh = weigh
        self._clock = clock
        self._on_append = on_append
        self._kept: deque[tuple[FeedEvent, float]] = deque()
        self._bytes = 0
        self._offset = 0
        self._tokens: OrderedDict[str, int] = OrderedDict()
        self._closed = False
        # Weakly, so that a reader which nobody closed goes when its loop is left.
        self._readers: WeakSet[FeedReader] = WeakSet()

    @property
    def offset(self) -> int:
        """The offset of the last event; 0 before the first."""
        return self._offset

    @property
    def position(self) -> Position:
        """Where the log ends now."""
        return Position(self._offset, self.epoch)

    @property
    def oldest(self) -> int:
        """The offset of the oldest event that is kept; where none is, that of the next one."""
        self._trim()
        return self._kept[0][0].offset if self._kept else self._offset + 1

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

    def append(self, data: Any, *, key: str | None = None, token: str | None = None) -> int:
        """Add an event and hand it to every reader. Never waits, whatever readers do.

        Args:
            key: what it is about, see `FeedEvent`.
            token: makes the call idempotent: nothing happens where an event with this token was appended, as far back as that is remembered.

        Returns:
            the event's offset.

        Raises:
            FeedClosed: the feed is closed.
        """
        if self._closed:
            raise FeedClosed(f"the feed {self.name!r} is closed")
        if token is not None:
            if (known := self._tokens.get(token)) is not None:
                return known
            self._remember(token, self._offset + 1)
        self._offset += 1
        if type(data) is bytes:
            data = exact(data)
        event = FeedEvent(self._offset, data, key, weight=self._weigh(data))
        self._keep(event, self._now())
        self._trim()
        slow = [reader for reader in self._readers if not reader.offer(event)]
        for reader in slow:
            self._readers.discard(reader)
        if self._on_append is not None:
            self._on_append(event)
        for reader in slow:
            reader.tell_slow()
        return event.offset

    def restore(
        self, epoch: str, offset: int, events: Iterable[tuple[FeedEvent, float]], tokens: Iterable[tuple[str, int]] = ()
    ) -> None:
        """Go on where an earlier life ended. Before anything is appended or read.

        Args:
            epoch, offset: as they were.
            events: what was kept, oldest first and without holes, each with the time that `clock` showed, or would have shown, at its appending.
            tokens: what `append` was given, with the offsets.
        """
        if self._offset or self._readers:
            raise ValueError("a feed is restored before it is used")
        self.epoch = epoch
        self._offset = offset
        for event, moment in events:
            self._keep(event, moment)
        for token, at in tokens:
            self._remember(token, at)
        self._trim()

    def retain(self, *, max_events: int, max_bytes: int, max_age: float | None) -> None:
        """Keep so much from now on. Where age counts for the first time, what is there already counts as new."""
        if max_age is not None and self._max_age is None:
            self._kept = deque((event, self._clock()) for event, _ in self._kept)
        self._max_events, self._max_bytes, self._max_age = max_events, max_bytes, max_age
        self._trim()

    def offset_of(self, token: str) -> int | None:
        """The offset of the event that was appended with `token`, as far back as that is remembered."""
        return self._tokens.get(token)

    def close(self) -> None:
        """Take no more. Readers end after the last event; what is kept can still be read. Closing twice does nothing."""
        self._closed = True
        for reader in self._readers:
            reader.wake()

    def last(self, count: int) -> list[FeedEvent]:
        """The newest `count` of the kept events, oldest first."""
        self._trim()
        newest = [event for event, _ in islice(reversed(self._kept), max(0, count))]
        return newest[::-1]

    def since(self, after: int, epoch: str | None = None) -> list[FeedEvent] | None:
        """Everything that was appended after a position; None where the position is gone, or of another epoch: never a part.

        Args:
            epoch: the one that `after` belongs to, where the caller knows it.
        """
        if epoch not in (None, self.epoch) or not self.oldest - 1 <= after <= self._offset:
            return None
        kept = self.last(self._offset - after)
        # Time may have passed between the two looks.
        return kept if len(kept) == self._offset - after else None

    def read(
        self,
        after: int | None = None,
        epoch: str | None = None,
        *,
        policy: SlowPolicy = "disconnect",
        queue: int = 64,
        max_bytes: int | None = None,
        on_slow: Callable[[], None] | None = None,
    ) -> FeedReader:
        """Read on from a position. The reader misses nothing from this call on; leave its `with` block (or drop it) when done.

        Args:
            after: None: live from now. A number: everything after that offset, then live.
            epoch: the epoch that `after` belongs to, where the caller knows it.
            policy: what happens when more live events wait for the reader than may: "disconnect" raises SlowReader in it, "drop_oldest" leaves the oldest out, "coalesce"
                keeps only the newest of each key (even before it is slow) and drops the oldest when that is not enough. What was left out is counted in `FeedEvent.missed`.
            queue, max_bytes: that bound, in events and in bytes; the events to replay come on top of it.
            on_slow: called, synchronously, when the reader is cut off under "disconnect": for readers whose task is not waiting here.

        Returns:
            a reader. Where the position is gone, or of another epoch, its `recovered` is False and it is live from now: nothing partial is replayed.
        """
        if queue < 1:
            raise ValueError("a reader's queue holds at least one event")
        replay = [] if after is None else self.since(after, epoch)
        start = after if replay is not None and after is not None else self._offset
        reader = FeedReader(
            self,
            start=start,
            recovered=replay is not None,
            policy=policy,
            queue=queue,
            max_bytes=max_bytes,
            on_slow=on_slow,
        )
        reader.replay(replay or ())
        self._readers.add(reader)
        return reader

    def leave(self, reader: FeedReader) -> None:
        """The reader's part: have no more to do with it."""
        self._readers.discard(reader)

    def _keep(self, event: FeedEvent, moment: float) -> None:
        self._kept.append((event, moment))
        self._bytes += event.weight

    def _remember(self, token: str, offset: int) -> None:
        self._tokens[token] = offset
        while len(self._tokens) > self._max_tokens:
            self._tokens.popitem(last=False)

    def _now(self) -> float:
        return self._clock() if self._max_age is not None else 0.0

    def _trim(self) -> None:
        too_old = self._clock() - self._max_age if self._max_age is not None else None
        while self._kept and (
            len(self._kept) > self._max_events
            or self._bytes > self._max_bytes
            or (too_old is not None and self._kept[0][1] < too_old)
        ):
            self._bytes -= self._kept.popleft()[0].weight
