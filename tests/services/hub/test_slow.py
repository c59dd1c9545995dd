"""Nobody waits for a client that does not read, and what becomes of it is its room's to say."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.hub.model import RoomOptions


async def stalled_among(connect, number, slow="disconnect", **settings):
    """A room of that policy with `number` readers, one of whom does not read, and whoever speaks there."""
    await connect.hub.rooms.declare("tea", "speaker", RoomOptions(slow=slow, history=1000), operator=False)
    wires = [await connect(f"reader {each}", general=False) for each in range(number)]
    speaker = await connect("speaker", general=False)
    for wire in (*wires, speaker):
        wire.say(type="subscribe", id="s", room="tea")
    await wait_all_tasks_blocked()
    wires[0].stop_reading()
    return speaker, wires[0], wires[1:]


async def say(speaker, content, **fields):
    speaker.say(type="publish", id=content[:40], room="tea", content=content, **fields)
    await wait_all_tasks_blocked()


def heard(wire):
    return [message["content"].strip("x") for message in wire.of("chat")]


async def test_the_stalled_one_is_cut_off_with_the_code_that_says_so_and_the_others_lose_nothing(hubs):
    async with hubs(queue=8, queue_bytes=1024) as connect:
        speaker, stalled, others = await stalled_among(connect, 10)
        for number in range(100):
            await say(speaker, f"{number:<100}")
        assert stalled.closed == (3008, "slow")
        expected = [f"{number:<100}" for number in range(100)]
        for wire in others:
            assert heard(wire) == expected
        room = await connect.hub.rooms.find("tea", "ada")
        assert len(room.members) == 10
        assert connect.hub.traffic.closed == {3008: 1}


async def test_who_was_a_little_behind_goes_on_as_if_nothing_had_been(hubs):
    async with hubs(queue=50, queue_bytes=20_000) as connect:
        speaker, late, (other,) = await stalled_among(connect, 2)
        for number in range(120):
            if number in (60, 90):
                late.may_read.set()
                await wait_all_tasks_blocked()
            if number == 80:
                late.stop_reading()
            await say(speaker, f"{number:<200}")
        await wait_all_tasks_blocked()
        assert [m["offset"] for m in late.of("chat")] == list(range(1, 121))
        assert late.of("chat") == other.of("chat")
        room = await connect.hub.rooms.find("tea", "ada")
        assert all(membership.reader is None for membership in room.members.values())
        assert room.log.readers == 0


async def test_a_room_may_leave_out_the_oldest_and_says_how_many(hubs):
    async with hubs(queue=10, queue_bytes=2000) as connect:
        speaker, slow, (other,) = await stalled_among(connect, 2, slow="drop_oldest")
        for number in range(100):
            await say(speaker, f"{number:<100}")
        [laggard] = connect.hub.slowest()
        assert laggard.user_id == "reader 0"
        assert laggard.queued_bytes > 0
        slow.may_read.set()
        await wait_all_tasks_blocked()
        await say(speaker, "the end")
        assert slow.closed is None
        assert len(other.of("chat")) == 101
        seen = slow.of("chat")
        reached = 0
        for message in seen:
            assert message["offset"] == reached + message.get("missed", 0) + 1
            reached = message["offset"]
        assert reached == 101
        missed = sum(message.get("missed", 0) for message in seen)
        assert missed > 50
        assert connect.hub.traffic.drops == missed


async def test_a_room_may_keep_only_the_newest_of_each_key(hubs):
    async with hubs(queue=10, queue_bytes=2000) as connect:
        speaker, slow, _ = await stalled_among(connect, 2, slow="coalesce")
        for number in range(100):
            await say(speaker, f"{number:<100}", key=f"cursor {number % 3}")
        slow.may_read.set()
        await wait_all_tasks_blocked()
        assert slow.closed is None
        last = [int(content) for content in heard(slow)][-3:]
        assert last == [97, 98, 99]
        assert sum(message.get("missed", 0) for message in slow.of("chat")) == 100 - len(slow.of("chat"))


async def test_what_is_for_one_client_alone_is_bounded_too(hubs):
    async with hubs(queue_bytes=1024) as connect:
        ada, bob = await connect("ada"), await connect("bob")
        bob.stop_reading()
        for number in range(20):
            ada.say(type="publish", id=str(number), to="bob", content="x" * 300)
            await wait_all_tasks_blocked()
        assert bob.closed == (3008, "slow")
        assert [ack["data"]["recipients"] for ack in ada.of("ack")][-1] == 0


async def test_one_message_over_the_bound_is_taken_where_nothing_else_waits(hubs):
    async with hubs(queue_bytes=1024) as connect:
        ada, bob = await connect("ada"), await connect("bob")
        for number in range(3):
            ada.say(type="publish", id=str(number), to="bob", content="x" * 5000)
            ada.say(type="chat", content="y" * 5000)
            await wait_all_tasks_blocked()
        assert [len(message["content"]) for message in bob.of("chat")] == [5000] * 6
        assert bob.closed is None


@pytest.mark.parametrize("slow", ["disconnect", "drop_oldest", "coalesce"])
async def test_a_stalled_client_leaves_nothing_behind(hubs, slow):
    async with hubs(queue=10, queue_bytes=1024) as connect:
        speaker, stalled, _ = await stalled_among(connect, 2, slow=slow)
        for number in range(15):
            await say(speaker, f"{number:<100}")
        room = await connect.hub.rooms.find("tea", "ada")
        assert room.log.readers == 1 or slow == "disconnect"
        stalled.leave()
        with trio.fail_after(5):
            await stalled.over.wait()
        await wait_all_tasks_blocked()
        assert room.log.readers == 0
        assert room._tasks == 0
        assert len(room._live) == len(room.members) == 2


async def test_who_leaves_in_the_moment_of_catching_up_is_not_brought_back(hubs):
    async with hubs(queue=10, queue_bytes=1024) as connect:
        speaker, stalled, _ = await stalled_among(connect, 2, slow="drop_oldest")
        for number in range(12):
            await say(speaker, f"{number:<100}")
        room = await connect.hub.rooms.find("tea", "ada")
        [membership] = [each for each in room.members.values() if each.user_id == "reader 0"]
        while len(membership.reader):
            membership.reader.take_nowait()
        assert room._tasks == 1
        # Its task is on its way back from sending when the membership ends.
        stalled.may_read.set()
        connect.hub.rooms.leave(membership.client, "tea")
        await wait_all_tasks_blocked()
        assert room._tasks == 0
        assert len(room._live) == len(room.members) == 2
        assert stalled.closed is None


async def test_what_is_of_the_moment_is_not_kept_for_who_is_behind(hubs):
    async with hubs(queue=8, queue_bytes=1024) as connect:
        speaker, stalled, (other,) = await stalled_among(connect, 2)
        for _ in range(50):
            speaker.say(type="typing", room="tea", data={"typing": True})
            await wait_all_tasks_blocked()
        assert len(other.of("typing")) == 50
        [laggard] = connect.hub.slowest()
        assert laggard.queued_bytes < 2000
        await say(speaker, "something that stays")
        stalled.may_read.set()
        await wait_all_tasks_blocked()
        assert heard(stalled) == ["something that stays"]
        assert len(stalled.of("typing")) < 20
        assert stalled.closed is None


async def test_only_the_slowest_are_named(hubs):
    async with hubs() as connect:
        speaker, _, readers = await stalled_among(connect, 15)
        for wire in readers:
            wire.stop_reading()
        for content in ("one", "two"):
            await say(speaker, content)
        assert len(connect.hub.slowest()) == 10
