"""Durable feeds: stored before anybody gets them, and after a restart as if nothing had been."""

from __future__ import annotations

from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from uait.feeds import FeedBusy, FeedClosed, FeedFenced, StoredFeed, open_journal
from uait.feeds.sqlite import FEED_TABLES, SQLiteFeedStore
from uait.storage import open_database


class MemoryStore:
    """A `FeedStore` that can be held up and made to fail."""

    def __init__(self):
        self.feeds = {}
        self.lives = 0
        self.commits = []
        self.open_gate = trio.Event()
        self.open_gate.set()
        self.failures = []

    async def load(self, name, newest):
        await trio.lowlevel.checkpoint()
        if name not in self.feeds:
            self.lives += 1
            self.feeds[name] = StoredFeed(f"life {self.lives}", 0, [])
        found = self.feeds[name]
        return attrs.evolve(found, events=found.events[-newest:])

    async def append(self, batches):
        await self.open_gate.wait()
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        for batch in batches:
            found = self.feeds.get(batch.name)
            if found is None or (found.epoch, found.offset) != (batch.epoch, batch.events[0].offset - 1):
                raise FeedFenced(batch.name)
        for batch in batches:
            found = self.feeds[batch.name]
            events = [event for event in (*found.events, *batch.events) if event.offset >= batch.oldest]
            self.feeds[batch.name] = StoredFeed(found.epoch, batch.events[-1].offset, events)
        self.commits.append(sum(len(batch.events) for batch in batches))

    async def delete(self, name):
        await trio.lowlevel.checkpoint()
        self.feeds.pop(name, None)


@pytest.fixture
def sqlite_store(tmp_path):
    @asynccontextmanager
    async def opened():
        async with open_database(tmp_path / "feeds.sqlite3", [FEED_TABLES]) as database:
            yield SQLiteFeedStore(database)

    return opened


def kept(feed):
    return [event.data for event in feed.log.last(1000)]


async def test_what_was_appended_is_there_after_a_restart_under_the_same_epoch(sqlite_store):
    async with sqlite_store() as store, open_journal(store) as journal:
        feed = await journal.open("tea")
        assert await feed.append(b"one") == 1
        assert await feed.append(b"two", key="k") == 2
        epoch = feed.log.epoch
    async with sqlite_store() as store, open_journal(store) as journal:
        again = await journal.open("tea")
        assert (again.log.epoch, again.log.offset) == (epoch, 2)
        with again.log.read(after=1, epoch=epoch) as reader:
            assert reader.recovered
            assert await again.append(b"three") == 3
            assert [(event.offset, event.data, event.key) for event in await reader.batch()] == [
                (2, b"two", "k"),
                (3, b"three", None),
            ]


async def test_a_position_is_known_after_a_restart_where_nothing_was_ever_appended(sqlite_store):
    epochs = []
    for _ in range(2):
        async with sqlite_store() as store, open_journal(store) as journal:
            feed = await journal.open("tea")
            epochs.append(feed.log.epoch)
            assert feed.log.read(after=0, epoch=epochs[0]).recovered
    assert epochs[0] == epochs[1]


async def test_retention_holds_in_the_store_too(sqlite_store):
    async with sqlite_store() as store:
        async with open_journal(store) as journal:
            feed = await journal.open("tea", max_events=3)
            for number in range(10):
                await feed.append(b"%d" % number)
            assert kept(feed) == [b"7", b"8", b"9"]
            assert len((await store.load("tea", 1000)).events) <= 4
        async with open_journal(store) as journal:
            assert kept(await journal.open("tea", max_events=2)) == [b"8", b"9"]


async def test_age_counts_over_a_restart(autojump_clock):
    store, wall = MemoryStore(), 1_000_000.0
    for seconds, expected in ((0, []), (30, [b"old"]), (61, [])):
        async with open_journal(store) as journal:
            journal._wall_clock = lambda seconds=seconds: wall + seconds
            feed = await journal.open("tea", max_age=60)
            assert kept(feed) == expected
            if not seconds:
                await feed.append(b"old")
        await trio.sleep(7)  # the clock of trio means nothing from one process to the next


async def test_nobody_gets_what_is_not_stored(nursery):
    store = MemoryStore()
    async with open_journal(store) as journal:
        feed = await journal.open("tea")
        reader = feed.log.read()
        store.open_gate = trio.Event()
        nursery.start_soon(feed.append, b"one")
        await wait_all_tasks_blocked()
        assert (len(reader), feed.log.offset, feed.pending) == (0, 0, 1)

        store.open_gate.set()
        await wait_all_tasks_blocked()
        assert (len(reader), feed.log.offset, feed.pending) == (1, 1, 0)


async def test_what_could_not_be_stored_leaves_no_hole():
    store = MemoryStore()
    async with open_journal(store) as journal:
        feed = await journal.open("tea")
        store.failures = [OSError("the disk is full")]
        with pytest.raises(OSError, match="full"):
            await feed.append(b"one", token="t")
        assert await feed.append(b"one again", token="t") == 1
        assert kept(feed) == [b"one again"]


async def test_what_waits_is_stored_together_and_handed_out_in_order(nursery):
    store, order = MemoryStore(), []
    async with open_journal(store) as journal:
        one = await journal.open("one", on_append=lambda event: order.append(("one", event.offset)))
        two = await journal.open("two", on_append=lambda event: order.append(("two", event.offset)))
        store.open_gate = trio.Event()
        done = []
        for feed in (one, two, one, two, one):
            feed.submit(b"x", done=done.append)
            await wait_all_tasks_blocked()
        store.open_gate.set()
        await wait_all_tasks_blocked()
    assert store.commits == [1, 4]
    assert order == [("one", 1), ("two", 1), ("one", 2), ("two", 2), ("one", 3)]
    assert done == [1, 1, 2, 2, 3]


async def test_a_token_is_appended_once_also_on_its_way_and_after_a_restart(sqlite_store, nursery):
    async with sqlite_store() as store, open_journal(store) as journal:
        feed = await journal.open("tea")
        done = []
        assert feed.submit(b"one", token="t", done=done.append) is True
        assert feed.submit(b"one", token="t", done=done.append) is False
        assert await feed.append(b"one", token="t") == 1
        assert done == [1, 1]
    async with sqlite_store() as store, open_journal(store) as journal:
        feed = await journal.open("tea")
        assert await feed.append(b"one", token="t") == 1
        assert await feed.append(b"one", token="u") == 2
        assert kept(feed) == [b"one", b"one"]


async def test_more_than_may_wait_is_refused():
    store = MemoryStore()
    async with open_journal(store, queue=3) as journal:
        feed = await journal.open("tea")
        store.open_gate = trio.Event()
        done = []
        feed.submit(b"x", done=done.append)
        await wait_all_tasks_blocked()
        for _ in range(3):
            feed.submit(b"x", done=done.append)
        with pytest.raises(FeedBusy):
            feed.submit(b"x", done=done.append)
        store.open_gate.set()
        await wait_all_tasks_blocked()
    assert done == [1, 2, 3, 4]


async def test_who_waits_when_the_journal_is_closed_is_told(nursery):
    store, told = MemoryStore(), []
    async with open_journal(store) as journal:
        feed = await journal.open("tea")
        store.open_gate = trio.Event()
        for _ in range(2):
            feed.submit(b"x", done=told.append)
            await wait_all_tasks_blocked()
    assert [type(one) for one in told] == [FeedClosed, FeedClosed]
    assert feed.log.closed
    with pytest.raises(FeedClosed):
        await feed.append(b"x")


async def test_a_deleted_feed_is_another_life(sqlite_store):
    async with sqlite_store() as store, open_journal(store) as journal:
        feed = await journal.open("tea")
        await feed.append(b"one")
        told = []
        feed.submit(b"two", done=told.append)
        await journal.delete(feed)
        assert [type(one) for one in told] == [FeedClosed]
        with pytest.raises(FeedClosed):
            await feed.append(b"three")

        again = await journal.open("tea")
        assert again.log.epoch != feed.log.epoch
        assert not again.log.read(after=1, epoch=feed.log.epoch).recovered
        assert await again.append(b"new") == 1


async def test_a_feed_whose_deletion_is_cancelled_can_be_opened_again(sqlite_store):
    async with sqlite_store() as store, open_journal(store) as journal:
        feed = await journal.open("tea")
        await feed.append(b"one")
        with trio.CancelScope() as scope:
            scope.cancel(reason="the client left")
            await journal.delete(feed)
        assert feed.log.closed
        assert kept(await journal.open("tea")) == [b"one"]


async def test_deleting_while_it_is_being_stored(nursery):
    store, told = MemoryStore(), []
    async with open_journal(store) as journal:
        feed = await journal.open("tea")
        other = await journal.open("coffee")
        store.open_gate = trio.Event()
        feed.submit(b"x", done=told.append)
        other.submit(b"y", done=told.append)
        await wait_all_tasks_blocked()
        await journal.delete(feed)
        store.open_gate.set()
        await wait_all_tasks_blocked()
    assert [type(one) for one in told] == [FeedClosed, int]
    assert kept(other) == [b"y"]


async def test_a_feed_that_somebody_else_writes_to_is_fenced_and_the_others_go_on(nursery):
    store, told = MemoryStore(), []
    async with open_journal(store) as journal:
        mine, other = await journal.open("mine"), await journal.open("other")
        store.feeds["mine"] = attrs.evolve(store.feeds["mine"], offset=7)
        for feed in (mine, other, mine, other):
            feed.submit(b"x", done=told.append)
        await wait_all_tasks_blocked()
    assert [type(one) for one in told] == [FeedFenced, FeedFenced, int, int]
    assert mine.log.closed
    assert told[2:] == [1, 2]


async def test_a_released_feed_can_be_opened_again_as_it_was(sqlite_store):
    async with sqlite_store() as store, open_journal(store) as journal:
        feed = await journal.open("tea")
        await feed.append(b"one")
        with pytest.raises(ValueError, match="open already"):
            await journal.open("tea")
        told = []
        feed.submit(b"two", done=told.append)
        with pytest.raises(ValueError, match="on their way"):
            journal.release(feed)
        await feed.append(b"three")
        journal.release(feed)
        again = await journal.open("tea")
        assert (kept(again), again.log.epoch) == ([b"one", b"two", b"three"], feed.log.epoch)


@pytest.mark.parametrize("steps", range(12))
async def test_appending_can_be_cancelled_anywhere_and_tried_again(steps):
    """However far it came: with the same token again, the event is in the log once, and offsets have no hole."""
    store = MemoryStore()
    async with open_journal(store) as journal:
        feed = await journal.open("tea")
        seen = feed.log.read()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(feed.append, b"before")
                nursery.start_soon(lambda: feed.append(b"mine", token="mine"))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel(reason="the test's")
        await feed.append(b"mine", token="mine")
        await feed.append(b"after")
        await wait_all_tasks_blocked()
        events = await seen.batch()
        assert [event.offset for event in events] == list(range(1, len(events) + 1))
        assert [event.data for event in events].count(b"mine") == 1
        assert [event.data for event in store.feeds["tea"].events] == [event.data for event in events]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from("ab"), st.sampled_from([None, "t", "u"])),
            st.tuples(st.just("fail"), st.none(), st.none()),
            st.tuples(st.just("settle"), st.none(), st.none()),
            st.tuples(st.just("restart"), st.none(), st.none()),
        ),
        max_size=30,
    )
)
async def test_the_log_says_what_the_store_has_whatever_happens(operations):
    """Random appends, failures of the store and restarts: what was acknowledged is there, in order and once; what was refused is not."""
    store, acknowledged = MemoryStore(), {"a": {}, "b": {}}
    number = 0
    rest = list(operations)
    while True:
        async with open_journal(store) as journal:
            feeds = {name: await journal.open(name) for name in "ab"}
            for name, feed in feeds.items():
                assert [event.data for event in feed.log.last(999)] == [each.data for each in store.feeds[name].events]
                assert acknowledged[name].items() <= {e.offset: e.data for e in store.feeds[name].events}.items()
            while rest:
                what, name, token = rest.pop(0)
                if what == "restart":
                    break
                if what == "fail":
                    store.failures.append(OSError())
                elif what == "settle":
                    await wait_all_tasks_blocked()
                else:
                    number += 1

                    def done(outcome, feed=feeds[name], name=name):
                        if isinstance(outcome, int):
                            [event] = [event for event in feed.log.last(999) if event.offset == outcome]
                            acknowledged[name][outcome] = event.data

                    feeds[name].submit(b"%d" % number, token=token, done=done)
            else:
                await wait_all_tasks_blocked()
                store.failures.clear()
                break
    for name in feeds:
        stored = store.feeds[name].events
        assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
        tokens = [event.token for event in stored if event.token]
        assert len(tokens) == len(set(tokens))
        assert acknowledged[name].items() <= {event.offset: event.data for event in stored}.items()
