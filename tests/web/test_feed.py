"""A feed as server-sent events, and over a WebSocket."""

from __future__ import annotations

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.errors import Unavailable
from uait.feeds import Feed, Position
from uait.web.feed import send_feed, send_feed_messages


class Stream:
    """The client's end: keeps the events, and does not read while `may_read` is unset."""

    def __init__(self):
        self.events = []
        self.may_read = trio.Event()
        self.may_read.set()

    async def send(self, event):
        await self.may_read.wait()
        self.events.append(event)


def filled(count, **options):
    feed = Feed("test", **options)
    for number in range(1, count + 1):
        feed.append(number)
    return feed


async def test_the_first_event_says_where_it_begins_and_every_one_where_to_go_on(nursery):
    feed, stream = filled(3), Stream()
    nursery.start_soon(lambda: send_feed(feed, stream.send))
    await wait_all_tasks_blocked()
    [opening] = stream.events
    assert (opening.event, opening.id) == ("position", f"{feed.epoch}:3")
    assert opening.data == {"offset": 3, "epoch": feed.epoch, "recovered": False}
    feed.append(4)
    await wait_all_tasks_blocked()
    assert (stream.events[1].data, stream.events[1].event, stream.events[1].id) == (4, None, f"{feed.epoch}:4")


async def test_whoever_comes_back_with_an_id_gets_what_was_appended_since():
    feed, stream = filled(5), Stream()
    feed.close()
    await send_feed(feed, stream.send, since=Position.parse(f"{feed.epoch}:2"), encode=lambda event: event.data * 10)
    assert stream.events[0].data["recovered"] is True
    assert [event.data for event in stream.events[1:]] == [30, 40, 50]


@pytest.mark.parametrize("since", ["other:2", "{epoch}:0", "{epoch}:9"])
async def test_where_something_is_gone_nothing_old_is_sent(since):
    feed, stream = filled(5, max_events=3), Stream()
    feed.close()
    await send_feed(feed, stream.send, since=Position.parse(since.format(epoch=feed.epoch)))
    [opening] = stream.events
    assert (opening.data["recovered"], opening.id) == (False, f"{feed.epoch}:5")


async def test_a_client_that_is_too_slow_is_told_to_come_back():
    feed, stream = Feed("test"), Stream()
    async with trio.open_nursery() as nursery:

        async def serve():
            with pytest.raises(Unavailable) as caught:
                await send_feed(feed, stream.send, queue=2)
            assert caught.value.error_code == "SLOW"

        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        stream.may_read = trio.Event()
        for number in range(10):
            feed.append(number)
            await wait_all_tasks_blocked()
        stream.may_read.set()
    assert feed.readers == 0


async def test_over_a_websocket_each_message_has_its_offset_and_what_was_left_out_is_counted(nursery):
    feed, stream = filled(3), Stream()
    since = Position(1, feed.epoch)
    nursery.start_soon(
        lambda: send_feed_messages(
            feed, stream.send, since=since, policy="drop_oldest", queue=2, encode=lambda e: [e.data]
        )
    )
    await wait_all_tasks_blocked()
    stream.may_read = trio.Event()
    for number in range(4, 9):
        feed.append(number)
        await wait_all_tasks_blocked()
    stream.may_read.set()
    await wait_all_tasks_blocked()
    opening, *messages = [orjson.loads(text) for text in stream.events]
    assert opening == {"position": {"offset": 1, "epoch": feed.epoch, "recovered": True}}
    assert messages == [
        {"offset": 2, "data": [2]},
        {"offset": 3, "data": [3]},
        {"offset": 4, "data": [4]},
        {"offset": 7, "data": [7], "missed": 2},
        {"offset": 8, "data": [8]},
    ]


@pytest.mark.parametrize("text", ["", "x", ":5", "e:", "e:-1", "e:1.5", "e:²", "e:" + "9" * 16])
def test_what_is_no_position_is_none(text):
    assert Position.parse(text) is None


def test_a_position_is_what_it_was_written_as():
    assert Position.parse(str(Position(7, "a:b"))) == Position(7, "a:b")
