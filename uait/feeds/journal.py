"""Feeds that outlive the process: what is appended is stored first, many events in one commit, and then handed to the readers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import trio

from uait.feeds.events import FeedBusy, FeedClosed, FeedEvent, FeedFenced, weigh
from uait.feeds.feed import Feed
from uait.feeds.store import Batch, FeedStore, StoredEvent

Outcome: TypeAlias = int | Exception
"""The offset at which something was appended and stored, or why it was not."""

GROUP = 256
"""Most events in one commit."""


@attrs.define(eq=False)
class _Entry:
    feed: DurableFeed
    data: bytes
    key: str | None
    token: str | None
    told: list[Callable[[Outcome], None]]

    def answer(self, outcome: Outcome) -> None:
        self.feed._forget(self)
        for tell in self.told:
            tell(outcome)


class DurableFeed:
    """A feed whose events are stored before anybody gets them. Made by `Journal.open`.

    Attributes:
        log: what is kept, to read from. Only the journal appends to it.
    """

    def __init__(self, journal: Journal, log: Feed) -> None:
        self.log = log
        self._journal = journal
        self._pending: dict[str, _Entry] = {}
        self._waiting = 0

    @property
    def pending(self) -> int:
        """How many events are on their way to the store."""
        return self._waiting

    def knows(self, token: str) -> bool:
        """Whether an event with this token was appended, or is on its way."""
        return token in self._pending or self.log.offset_of(token) is not None

    def submit(
        self, data: bytes, *, key: str | None = None, token: str | None = None, done: Callable[[Outcome], None]
    ) -> bool:
        """Have an event stored and appended, behind all that were submitted before. Never waits.

        Args:
            key, token: see `Feed.append`. A token that is still on its way counts as appended.
            done: called once, synchronously, with the offset when the event is durable and its readers have it, or with the reason why it was not stored. It must not raise.

        Returns:
            False where the token was known already: nothing is appended, and `done` is told the offset of what was.

        Raises:
            FeedBusy: too much waits to be stored.
            FeedClosed: the feed, or the journal, is closed.
        """
        if token is not None:
            if (known := self.log.offset_of(token)) is not None:
                done(known)
                return False
            if (under_way := self._pending.get(token)) is not None:
                under_way.told.append(done)
                return False
        if self.log.closed:
            raise FeedClosed(f"the feed {self.log.name!r} is closed")
        entry = _Entry(self, data, key, token, [done])
        self._journal._add(entry)
        self._waiting += 1
        if token is not None:
            self._pending[token] = entry
        return True

    async def append(self, data: bytes, *, key: str | None = None, token: str | None = None) -> int:
        """`submit`, and wait until it is stored. Returns the offset.

        Raises also what the store raises. On cancellation it returns at once, and the event may or may not be appended; with the same token again, it is so once.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        answered = trio.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            answered.set()

        self.submit(data, key=key, token=token, done=done)
        await answered.wait()
        outcome = outcomes.pop()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _forget(self, entry: _Entry) -> None:
        self._waiting -= 1
        if entry.token is not None:
            self._pending.pop(entry.token, None)


class Journal:
    """Writes all durable feeds of one store, in one order. Made by `open_journal`.

    Args:
        store: where to.
        queue: most events that wait to be stored.
        clock, wall_clock: seconds on the feeds' clock, and Unix seconds.
    """

    def __init__(
        self,
        store: FeedStore,
        *,
        queue: int,
        clock: Callable[[], float] = trio.current_time,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._wall_clock = wall_clock
        self._waiting: deque[_Entry] = deque()
        self._under_way: list[_Entry] = []
        self._wakeup = trio.Event()
        self._open: dict[str, DurableFeed] = {}
        self._closed = False

    async def open(
        self,
        name: str,
        *,
        max_events: int = 1000,
        max_age: float | None = None,
        on_append: Callable[[FeedEvent], None] | None = None,
        **options: Any,
    ) -> DurableFeed:
        """The feed of this name as it was left, or a new one. For the options see `Feed`.

        Raises:
            ValueError: it is open already.
        """
        stored = await self._store.load(name, max_events)
        if name in self._open:
            raise ValueError(f"the feed {name!r} is open already")
        log = Feed(name, max_events=max_events, max_age=max_age, clock=self._clock, on_append=on_append, **options)
        weight = options.get("weigh", weigh)
        behind = self._clock() - self._wall_clock()
        log.restore(
            stored.epoch,
            stored.offset,
            [
                (FeedEvent(event.offset, event.data, event.key, weight=weight(event.data)), event.at + behind)
                for event in stored.events
            ],
            [(event.token, event.offset) for event in stored.events if event.token is not None],
        )
        feed = self._open[name] = DurableFeed(self, log)
        return feed

    def release(self, feed: DurableFeed) -> None:
        """Close a feed that has nothing pending, and keep what is stored of it."""
        if feed.pending:
            raise ValueError(f"the feed {feed.log.name!r} still has events on their way")
        feed.log.close()
        if self._open.get(feed.log.name) is feed:
            del self._open[feed.log.name]

    async def delete(self, feed: DurableFeed) -> None:
        """Close a feed and forget all of it. What waits to be stored of it is answered with FeedClosed.

        Where the store fails, or this is cancelled, it is closed all the same; opened again, it is as it is stored.
        """
        feed.log.close()
        mine = [entry for entry in self._waiting if entry.feed is feed]
        self._waiting = deque(entry for entry in self._waiting if entry.feed is not feed)
        for entry in mine:
            entry.answer(_closed(feed))
        try:
            await self._store.delete(feed.log.name)
        finally:
            if self._open.get(feed.log.name) is feed:
                del self._open[feed.log.name]

    def _add(self, entry: _Entry) -> None:
        if self._closed:
            raise _closed(entry.feed)
        if len(self._waiting) >= self._queue:
            raise FeedBusy("Too much waits to be stored; try again.")
        self._waiting.append(entry)
        self._wakeup.set()

    async def run(self) -> None:
        """Store group after group, for ever. What is not stored when this is cancelled is answered with FeedClosed."""
        try:
            while True:
                if self._waiting:
                    await self._commit()
                else:
                    self._wakeup = trio.Event()
                    await self._wakeup.wait()
        finally:
            self._closed = True
            for feed in self._open.values():
                feed.log.close()
            for entry in (*self._under_way, *self._waiting):
                entry.answer(_closed(entry.feed))

    async def _commit(self) -> None:
        group = self._under_way = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
        try:
            await self._store.append(list(self._batches(group)))
        except FeedFenced as error:
            # Nothing of the group is stored: the others' have another go, in their old places.
            self._waiting.extendleft(reversed([entry for entry in group if entry.feed.log.name != error.name]))
            fenced = [entry for entry in group if entry.feed.log.name == error.name]
            deleted = any(entry.feed.log.closed for entry in fenced)
            for entry in fenced:
                entry.feed.log.close()
                entry.answer(_closed(entry.feed) if deleted else error)
        except Exception as error:
            for entry in group:
                entry.answer(error)
        else:
            for entry in group:
                log = entry.feed.log
                # One that was deleted meanwhile has no readers who would miss it.
                gone = log.closed
                entry.answer(_closed(entry.feed) if gone else log.append(entry.data, key=entry.key, token=entry.token))
        self._under_way = []

    def _batches(self, group: list[_Entry]) -> Iterator[Batch]:
        now = self._wall_clock()
        by_feed: dict[DurableFeed, list[_Entry]] = {}
        for entry in group:
            by_feed.setdefault(entry.feed, []).append(entry)
        for feed, entries in by_feed.items():
            log = feed.log
            events = [
                StoredEvent(log.offset + index, entry.data, entry.key, entry.token, now)
                for index, entry in enumerate(entries, start=1)
            ]
            yield Batch(log.name, log.epoch, events, log.oldest)


def _closed(feed: DurableFeed) -> FeedClosed:
    return FeedClosed(f"the feed {feed.log.name!r} is closed")


@asynccontextmanager
async def open_journal(store: FeedStore, *, queue: int = 4096) -> AsyncIterator[Journal]:
    """A journal that runs as long as the block. What waits to be stored when it is left is answered with FeedClosed.

    Args:
        store: where to; the block that opened it is left later than this one.
        queue: most events that wait to be stored.
    """
    journal = Journal(store, queue=queue)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            try:
                yield journal
            except BaseException as error:
                # Raised outside the nursery: what the block raises is not to come wrapped in a group.
                failure = error
            nursery.cancel_scope.cancel(reason="the journal is closed")
        if failure is not None:
            raise failure
    finally:
        failure = None
