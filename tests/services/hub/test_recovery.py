"""Come back with a position, and have every message once and in order, or be told that this cannot be."""

from __future__ import annotations

import random

import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.hub.model import RoomOptions


async def subscribe(wire, room="tea", since=None, **fields):
    wire.say(type="subscribe", id="s", room=room, since=since, **fields)
    await wait_all_tasks_blocked()
    return wire.of("subscribed")[-1]["data"]


async def say(wire, content, room="tea"):
    wire.say(type="publish", id=f"id {content}", room=room, content=content)
    await wait_all_tasks_blocked()


def heard(wire, room="tea"):
    return [message["content"] for message in wire.of("chat") if message.get("room") == room]


async def test_the_position_is_known_before_anything_was_said(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        told = await subscribe(ada)
        assert told["position"]["offset"] == 0
        assert (told["recovered"], told["replayed"], told["members"]) == (False, 0, 1)
        ada.leave()
        await ada.over.wait()
        await subscribe(bob)
        await say(bob, "while you were away")

        back = await connect("ada")
        told = await subscribe(back, since=told["position"])
        assert (told["recovered"], told["replayed"]) == (True, 1)
        assert heard(back) == ["while you were away"]


async def test_the_reply_comes_first_then_what_was_missed_then_what_comes(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        start = (await subscribe(bob))["position"]
        for number in range(5):
            await say(bob, str(number))
        told = await subscribe(ada, since=start)
        assert told["position"] == start
        await say(bob, "live")
        kinds = [message["type"] for message in ada.sent if message.get("room") == "tea"]
        assert kinds == ["subscribed", *["chat"] * 6]
        assert [message["offset"] for message in ada.of("chat")] == [1, 2, 3, 4, 5, 6]


async def test_where_something_is_gone_nothing_is_replayed(hubs):
    async with hubs(history=3) as connect:
        ada, bob = await connect("ada"), await connect("bob")
        epoch = (await subscribe(bob))["position"]["epoch"]
        for number in range(5):
            await say(bob, str(number))
        for since in ({"offset": 1, "epoch": epoch}, {"offset": 2, "epoch": "other"}, {"offset": 9, "epoch": epoch}):
            wire = await connect("eve")
            told = await subscribe(wire, since=since)
            assert (told["recovered"], told["replayed"]) == (False, 0)
            assert told["position"] == {"offset": 5, "epoch": epoch}
            assert heard(wire) == []
        told = await subscribe(ada, since={"offset": 2, "epoch": epoch})
        assert told["recovered"]
        assert heard(ada) == ["2", "3", "4"]


async def test_who_is_in_a_room_already_is_given_only_what_this_connection_has_missed(hubs):
    async with hubs() as connect:
        bob = await connect("bob")
        start = (await subscribe(bob, "general"))["position"]
        for number in range(3):
            await say(bob, str(number), "general")
        ada = await connect("ada")  # in general from the start
        await say(bob, "3", "general")
        told = await subscribe(ada, "general", since={**start, "offset": 1})
        assert (told["recovered"], told["replayed"], told["position"]["offset"]) == (True, 2, 4)
        assert sorted(heard(ada, "general")) == ["1", "2", "3"]
        told = await subscribe(ada, "general", since={**start, "offset": 1})
        assert (told["recovered"], told["replayed"]) == (True, 0)
        told = await subscribe(ada, "general", since={**start, "offset": 0})
        await say(bob, "4", "general")
        assert sorted(heard(ada, "general")) == ["0", "1", "2", "3", "4"]


async def test_what_comes_waits_for_what_is_replayed_to_who_is_in_the_room_already(hubs):
    async with hubs() as connect:
        bob = await connect("bob", general=False)
        start = (await subscribe(bob, "general"))["position"]
        for number in range(30):
            await say(bob, str(number), "general")
        ada = await connect("ada")  # in general from the start
        ada.say(type="subscribe", id="s", room="general", since=start)
        for number in range(30, 60):
            bob.say(type="publish", id=str(number), room="general", content=str(number))
        await wait_all_tasks_blocked()
        assert sorted(heard(ada, "general"), key=int) == [str(number) for number in range(60)]
        [told] = ada.of("subscribed")
        after = [message["offset"] for message in ada.sent[ada.sent.index(told) :] if message["type"] == "chat"]
        assert after == sorted(after)
        assert after[:30] == list(range(1, 31))


async def test_unsubscribing_says_where_to_go_on(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        await subscribe(ada)
        await subscribe(bob)
        await say(bob, "one")
        ada.say(type="unsubscribe", id="u", room="tea")
        await wait_all_tasks_blocked()
        position = ada.of("unsubscribed")[-1]["data"]["position"]
        await say(bob, "two")
        assert heard(ada) == ["one"]
        assert (await subscribe(ada, since=position))["recovered"]
        assert heard(ada) == ["one", "two"]


async def test_nothing_is_replayed_after_the_unsubscribing(hubs):
    async with hubs() as connect:
        bob = await connect("bob", general=False)
        start = (await subscribe(bob))["position"]
        for number in range(5):
            await say(bob, str(number))
        for _ in range(20):  # what is begun for a client begins in any order
            ada = await connect("ada", general=False)
            ada.say(type="subscribe", id="s", room="tea")
            ada.say(type="subscribe", id="again", room="tea", since=start)
            ada.say(type="unsubscribe", id="u", room="tea")
            await wait_all_tasks_blocked()
            assert ada.sent[-1]["type"] == "unsubscribed"
            ada.leave()
            await ada.over.wait()


async def test_more_is_replayed_than_may_wait(hubs):
    async with hubs(queue=8, queue_bytes=1024, history=1000) as connect:
        bob, ada = await connect("bob"), await connect("ada")
        start = (await subscribe(bob))["position"]
        for number in range(300):
            await say(bob, str(number))
        told = await subscribe(ada, since=start)
        assert told["replayed"] == 300
        assert heard(ada) == [str(number) for number in range(300)]
        assert ada.closed is None


class Follower:
    """A client that comes back with its last position whenever its connection has ended, and keeps what it was given."""

    def __init__(self):
        self.position = None
        self.seen = []
        self.returns = 0

    async def follow(self, connect, steps):
        """Be connected for so many steps of the scheduler (None: until nothing comes any more), and leave without a word."""
        wire = await connect("follower", settle=False, general=False)
        wire.say(type="subscribe", id="s", room="tea", since=self.position)
        if steps is None:
            await wait_all_tasks_blocked()
        for _ in range(steps or 0):
            await trio.lowlevel.checkpoint()
        wire.leave()
        await wire.over.wait()
        self.returns += 1
        for message in wire.arrived():
            if message["type"] == "subscribed":
                assert message["data"]["recovered"]
                assert message["data"]["position"] == self.position
            elif "offset" in message:
                assert message["offset"] == self.position["offset"] + 1
                self.position["offset"] += 1
                self.seen.append(int(message["content"]))


class Speaker:
    """Says numbers, each under an id, and says again what was not acknowledged when the hub went."""

    def __init__(self, chance):
        self.chance = chance
        self.said = 0
        self.acknowledged = -1

    async def speak(self, wire):
        number = self.acknowledged + 1
        while True:
            if wire.to_hub.statistics().current_buffer_used < 50:
                for _ in range(self.chance.randrange(4)):
                    wire.say(type="publish", id=f"m{number}", room="tea", content=str(number))
                    number += 1
                    self.said = max(self.said, number)
            for _ in range(self.chance.randrange(6)):
                await trio.lowlevel.checkpoint()

    def take_stock(self, wire):
        acks = [int(message["data"]["ref"][1:]) for message in wire.arrived() if message["type"] == "ack"]
        self.acknowledged = max([self.acknowledged, *acks])


async def follow(hubs, *, durable, returns, lives, seed):
    """A speaker speaks, a follower leaves and returns at any moment, and the hub crashes in between."""
    chance, follower = random.Random(seed), Follower()
    speaker = Speaker(chance)
    ample = {"history": 100_000, "history_bytes": 50_000_000, "queue": 100_000, "queue_bytes": 50_000_000, "rate": 0}
    for life in range(lives):
        async with hubs(**ample) as connect:
            if durable:
                await connect.hub.rooms.declare("tea", "speaker", RoomOptions(durable=True), operator=False)
            wire = await connect("speaker", general=False)
            told = await subscribe(wire)
            follower.position = follower.position or told["position"]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(speaker.speak, wire)
                while follower.returns < returns * (life + 1) // lives:
                    await follower.follow(connect, chance.randrange(12))
                nursery.cancel_scope.cancel(reason="enough")
            if life == lives - 1:
                await wait_all_tasks_blocked()
                await follower.follow(connect, None)
        speaker.take_stock(wire)
    assert follower.seen == list(range(speaker.acknowledged + 1))
    assert len(follower.seen) > returns / 2
    assert follower.returns == returns + 1


async def test_leaving_at_any_moment_costs_nothing(hubs):
    await follow(hubs, durable=False, returns=250, lives=1, seed=1)


async def test_nor_do_crashes_of_the_hub_where_the_room_is_durable(hubs):
    await follow(hubs, durable=True, returns=250, lives=10, seed=2)
