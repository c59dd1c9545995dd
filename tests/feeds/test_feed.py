"""A feed's promises: no gap, no duplicate, nothing silent, nobody waits for a reader."""

from __future__ import annotations

import gc
import tracemalloc

import orjson
import pytest
import trio
import trio.testing

from uait.feeds import Feed, FeedClosed, SlowReader
from uait.feeds.events import weigh


def filled(count=10, **options):
    feed = Feed("test", **options)
    for number in range(1, count + 1):
        assert feed.append(number) == number
    return feed


@pytest.fixture(autouse=True)
def _instant(autojump_clock):
    """A reader that waits for ever fails at once."""


async def take(reader, count):
    with trio.fail_after(10):
        return [(await reader.__anext__()).data for _ in range(count)]


async def everything(reader):
    with trio.fail_after(10):
        return [event.data async for event in reader]


async def test_replay_then_live():
    feed = filled(3)
    with feed.read(after=1) as reader:
        assert (reader.recovered, reader.start) == (True, 1)
        assert await take(reader, 2) == [2, 3]
        feed.append(4)
        assert await take(reader, 1) == [4]
        assert reader.offset == 4


async def test_live_from_now_by_default():
    feed = filled(3)
    with feed.read() as reader:
        assert (reader.recovered, reader.start) == (True, 3)
        feed.append(4)
        feed.close()
        assert await everything(reader) == [4]


async def test_from_the_beginning():
    with filled(3).read(after=0) as reader:
        assert await take(reader, 3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("after", "epoch"),
    [(4, "another life's"), (4, ""), (11, None), (-1, None), (2, None)],
    ids=["epoch changed", "empty epoch", "ahead of the log", "negative", "dropped"],
)
async def test_a_position_that_is_gone_is_told_and_nothing_partial_replayed(after, epoch):
    feed = filled(10, max_events=7)
    with feed.read(after=after, epoch=epoch) as reader:
        assert (reader.recovered, reader.start) == (False, 10)
        feed.append(11)
        feed.close()
        assert await everything(reader) == [11]


@pytest.mark.parametrize("after", [3, 9, 10])
async def test_the_oldest_position_that_is_kept_is_still_there(after):
    feed = filled(10, max_events=7)
    with feed.read(after=after, epoch=feed.epoch) as reader:
        assert reader.recovered
        feed.close()
        assert await everything(reader) == list(range(after + 1, 11))


async def test_every_feed_is_a_new_epoch():
    assert len({Feed("test").epoch for _ in range(100)}) == 100


async def test_retention_by_count_bytes_and_age(autojump_clock):
    assert [event.data for event in filled(10, max_events=3).last(99)] == [8, 9, 10]
    feed = Feed("test", max_bytes=10)
    for text in ("aaaa", "bbbb", "cccc"):
        feed.append(text)
    assert [event.data for event in feed.last(99)] == ["bbbb", "cccc"]
    assert feed.bytes == 8
    feed = Feed("test", max_age=60)
    feed.append("old")
    autojump_clock.jump(61)
    assert feed.read(after=0).recovered is False
    feed.append("new")
    assert [event.data for event in feed.last(99)] == ["new"]
    assert len(feed) == 1


async def test_what_gets_too_old_while_it_is_looked_for_is_not_left_out_silently():
    moment = iter(range(0, 100, 10))
    feed = Feed("test", max_age=25, clock=lambda: next(moment))
    feed.append("old")  # the clock shows 0, and 10
    # It shows 20 when the position is looked for, and 30 when the events are taken.
    assert feed.since(0) is None


async def test_what_is_kept_takes_no_more_than_it_weighs():
    feed = Feed("f")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            feed.append(orjson.dumps({"type": "chat", "content": "x" * 1500, "number": number}))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(feed) == 1000
    assert after - before < 1.3 * feed.bytes


async def test_an_event_too_big_to_keep_still_reaches_those_who_are_there():
    feed = Feed("test", max_bytes=10)
    with feed.read() as reader:
        feed.append("x" * 11)
        assert len(feed) == 0
        assert await take(reader, 1) == ["x" * 11]


async def test_a_feed_without_history_is_live_only():
    feed = Feed("test", max_events=0)
    with feed.read() as reader:
        feed.append(1)
        assert await take(reader, 1) == [1]
        assert feed.read(after=0).recovered is False
        assert feed.read(after=1).recovered is True


async def test_what_was_there_when_reading_began_outlives_retention():
    feed = filled(5, max_events=5)
    with feed.read(after=0, queue=10) as reader:
        for number in range(6, 12):
            feed.append(number)
        feed.close()
        assert await everything(reader) == list(range(1, 12))


async def test_last_is_the_newest_oldest_first():
    feed = filled(5)
    assert [event.offset for event in feed.last(2)] == [4, 5]
    assert feed.last(0) == []
    assert feed.last(-1) == []


def test_weights_follow_the_size():
    assert weigh("abc") == 3
    assert weigh(b"abcd") == 4
    assert weigh({"ab": ["c", "de"], "f": None}) == 2 + 1 + 2 + 1 + 8


# Closing


async def test_a_closed_feed_ends_readers_after_the_last_event():
    feed = filled(3)
    with feed.read(after=0) as reader:
        feed.close()
        feed.close()
        assert await everything(reader) == [1, 2, 3]
        assert await reader.batch() == []
    with pytest.raises(FeedClosed, match="'test' is closed"):
        feed.append(4)
    with feed.read(after=1) as late:
        assert await everything(late) == [2, 3]


async def test_closing_wakes_who_waits():
    for close in ("feed", "reader"):
        feed = Feed("test")
        reader = feed.read()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(everything, reader)
            await trio.testing.wait_all_tasks_blocked()
            (feed if close == "feed" else reader).close()


async def test_a_reader_that_is_left_or_dropped_is_gone():
    feed = filled(3)
    with feed.read(after=0):
        assert feed.readers == 1
    assert feed.readers == 0
    async for _ in feed.read(after=0):
        assert feed.readers == 1
        break
    gc.collect()
    assert feed.readers == 0


# Slow readers


async def test_a_slow_reader_is_cut_off_and_can_come_back():
    feed = Feed("test")
    with feed.read(queue=3) as reader:
        feed.append(1)
        assert await take(reader, 1) == [1]
        for number in range(2, 6):
            feed.append(number)
        assert feed.readers == 0
        with pytest.raises(SlowReader) as caught:
            await take(reader, 1)
        assert (caught.value.offset, caught.value.epoch) == (1, feed.epoch)
        with pytest.raises(SlowReader):
            await reader.batch()
    with feed.read(after=caught.value.offset, epoch=caught.value.epoch) as again:
        assert await take(again, 4) == [2, 3, 4, 5]


async def test_who_is_told_of_slowness_may_leave_come_back_and_have_others_leave():
    feed = Feed("test")
    slow, patient = feed.read(queue=1, on_slow=lambda: told()), [feed.read() for _ in range(5)]
    came_back = []

    def told():
        slow.close()
        patient.pop().close()
        came_back.append(feed.read(after=slow.offset))

    for number in range(1, 4):
        assert feed.append(number) == number
    for reader in [*patient, *came_back]:
        assert await take(reader, 3) == [1, 2, 3]
    assert (len(patient), len(came_back), feed.readers) == (4, 1, 5)


async def test_events_to_replay_do_not_count_as_slowness():
    feed = filled(100)
    with feed.read(after=0, queue=3) as reader:
        for number in (101, 102, 103):
            feed.append(number)
        assert await take(reader, 103) == list(range(1, 104))
        for number in (104, 105, 106):
            feed.append(number)
        assert await take(reader, 3) == [104, 105, 106]
        for number in (107, 108, 109, 110):
            feed.append(number)
        with pytest.raises(SlowReader):  # and with nothing left to replay, the bound is what was asked for
            await take(reader, 1)


async def test_dropping_the_oldest_says_how_many():
    feed = Feed("test")
    with feed.read(policy="drop_oldest", queue=3) as reader:
        for number in range(1, 11):
            feed.append(number)
        first = await reader.__anext__()
        assert (first.offset, first.missed) == (8, 7)
        second = await reader.__anext__()
        assert (second.offset, second.missed) == (9, 0)


async def test_coalescing_keeps_the_newest_of_each_key():
    feed = Feed("test")
    with feed.read(policy="coalesce", queue=10) as reader:
        for number, key in enumerate(["a", "b", "a", None, "a", "b"], start=1):
            feed.append(number, key=key)
        events = await reader.batch()
        assert [(event.data, event.key, event.missed) for event in events] == [(4, None, 3), (5, "a", 0), (6, "b", 0)]


async def test_coalescing_drops_the_oldest_when_keys_are_not_enough():
    feed = Feed("test")
    with feed.read(policy="coalesce", queue=3) as reader:
        for number in range(1, 15):
            feed.append(number, key=str(number % 5))
        events = await reader.batch()
        assert [(event.data, event.missed) for event in events] == [(12, 11), (13, 0), (14, 0)]


async def test_a_writer_never_waits_and_readers_do_not_see_each_other():
    feed = Feed("test", max_events=10_000)
    fast, slow = feed.read(queue=10_000), feed.read(queue=1)
    for number in range(1000):
        feed.append(number)  # not even async
    assert await take(fast, 1000) == list(range(1000))
    with pytest.raises(SlowReader):
        await take(slow, 1)


async def test_the_queue_has_room_for_one():
    with pytest.raises(ValueError, match="at least one"):
        Feed("test").read(queue=0)


# Tasks


async def test_a_batch_is_everything_that_waits():
    feed = filled(3)
    with feed.read(after=0) as reader:
        assert [event.data for event in await reader.batch()] == [1, 2, 3]

        async def write():
            await trio.testing.wait_all_tasks_blocked()
            feed.append(4)
            feed.append(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            assert [event.data for event in await reader.batch()] == [4, 5]


async def test_only_one_task_may_wait():
    reader = Feed("test").read()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(everything, reader)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await take(reader, 1)
        reader.close()


async def test_only_one_of_two_that_come_at_the_same_moment_may_wait():
    feed = Feed("test")
    reader = feed.read()
    ended = []

    async def read():
        try:
            ended.append(await everything(reader))
        except trio.BusyResourceError:
            ended.append("busy")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["busy"]
            feed.close()

    assert ended == ["busy", []]


async def test_every_step_is_a_checkpoint():
    feed = filled(3)
    with feed.read(after=0) as reader:
        with trio.testing.assert_checkpoints():
            await reader.__anext__()
        with trio.testing.assert_checkpoints():
            await reader.batch()


@pytest.mark.parametrize("method", ["__anext__", "batch"])
@pytest.mark.parametrize("steps", range(12))
async def test_nothing_is_lost_or_doubled_by_cancelling_anywhere(method, steps):
    """The reader is cancelled after every possible number of the loop's steps, and goes on with the same reader."""
    feed = Feed("test")
    feed.append(0)
    seen = []
    with feed.read(after=0) as reader:
        scope = trio.CancelScope()

        async def read():
            with scope:
                await collect(reader, method, seen, 4)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for step in range(steps):
                if step % 3 == 0 and step < 9:
                    feed.append(step)
                await trio.lowlevel.checkpoint()
            scope.cancel(reason="test")
        feed.append("end")
        feed.close()
        await collect(reader, method, seen, 99)
    assert [event.offset for event in seen] == list(range(1, feed.offset + 1))
    assert all(event.missed == 0 for event in seen)


async def collect(reader, method, seen, enough):
    with trio.fail_after(10):
        while len(seen) < enough:
            try:
                got = await getattr(reader, method)()
            except StopAsyncIteration:
                return
            if got == []:
                return
            seen.extend(got if method == "batch" else [got])
