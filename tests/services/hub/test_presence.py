"""Presence cannot lie: who is listed is connected, and whoever follows the news knows exactly who is there."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from uait.services.hub.presence import PresenceMode

TICK = 1.0


async def subscribe(wire, mode, room="tea"):
    wire.say(type="subscribe", id="s", room=room, presence=mode)
    await wait_all_tasks_blocked()
    return wire.of("subscribed")[-1]["data"]


def news(wire, room="tea"):
    return [message["data"] for message in wire.of("presence") if message["room"] == room]


def users(listed):
    return sorted(member["user_id"] for member in listed)


class View:
    """What a client believes of a room that follows the news by the book."""

    def __init__(self, wire, told):
        self.wire = wire
        self.members = None if told.get("presence") is None else {m["client_id"] for m in told["presence"]}
        self.count = told["members"]
        self.read = 0

    def catch_up(self):
        heard = news(self.wire)
        for data in heard[self.read :]:
            self.count = data["members"]
            if data["event"] == "state":
                self.members = {member["client_id"] for member in data["list"]}
            elif data["event"] == "diff":
                self.members |= {member["client_id"] for member in data["joins"]}
                self.members -= {member["client_id"] for member in data["leaves"]}
            elif data["event"] == "count":
                self.members = None
        self.read = len(heard)
        return self


async def test_whoever_joined_hears_each_coming_and_going(hubs):
    async with hubs() as connect:
        ada = await connect("ada")
        bob = await connect("bob")
        assert news(bob, "general") == []
        bob_id = bob.sent[0]["data"]["client_id"]
        bob.leave()
        await wait_all_tasks_blocked()
        come, go = ada.of("presence")
        assert (come["room"], come["user_id"]) == ("general", "bob")
        assert come["data"] == {"event": "join", "client_id": bob_id, "members": 2}
        assert go["data"] == {"event": "leave", "client_id": bob_id, "members": 1}


async def test_in_a_crowd_nobody_is_told_who_comes_and_goes(hubs):
    async with hubs(presence_members=2) as connect:
        crowd = [await connect(str(number)) for number in range(4)]
        assert [len(wire.of("presence")) for wire in crowd] == [2, 1, 0, 0]


async def test_differences_come_once_per_tick_and_cancel_out(hubs, autojump_clock):
    async with hubs(presence_tick=TICK) as connect:
        ada = await connect("ada")
        told = await subscribe(ada, "diffs")
        assert users(told["presence"]) == ["ada"]
        wires = [await connect(f"user {number}") for number in range(5)]
        for wire in wires:
            wire.say(type="join", data={"room": "tea"})
        await wait_all_tasks_blocked()
        wires[0].leave()
        await wires[0].over.wait()
        assert news(ada) == []
        await trio.sleep(TICK + 0.1)
        [diff] = news(ada)
        assert (diff["event"], diff["members"], diff["leaves"]) == ("diff", 5, [])
        assert users(diff["joins"]) == [f"user {number}" for number in range(1, 5)]
        await trio.sleep(5 * TICK)
        assert len(news(ada)) == 1
        wires[1].leave()
        await trio.sleep(TICK + 0.1)
        assert users(news(ada)[-1]["leaves"]) == ["user 1"]


async def test_the_whole_list_comes_to_those_who_want_it_and_numbers_to_the_others(hubs, autojump_clock):
    async with hubs(presence_tick=TICK) as connect:
        ada, bob = await connect("ada"), await connect("bob")
        assert users((await subscribe(ada, "full"))["presence"]) == ["ada"]
        assert "presence" not in await subscribe(bob, "counts")
        await trio.sleep(TICK + 0.1)
        [state] = news(ada)
        assert (state["event"], users(state["list"])) == ("state", ["ada", "bob"])
        assert news(bob) == [{"event": "count", "members": 2}]


async def test_who_wants_nothing_hears_nothing_and_minds_can_change(hubs, autojump_clock):
    async with hubs(presence_tick=TICK) as connect:
        ada = await connect("ada", general=False)
        await subscribe(ada, None)
        for mode, expected in (("none", 0), ("counts", 1), ("none", 1)):
            await subscribe(ada, mode)
            bob = await connect("bob", general=False)
            bob.say(type="join", data={"room": "tea"})
            await trio.sleep(3 * TICK)
            assert len(news(ada)) == expected


async def test_a_list_that_became_too_long_comes_back_when_it_is_short_again(hubs, autojump_clock):
    async with hubs(presence_tick=TICK, presence_members=3) as connect:
        ada = await connect("ada", general=False)
        view = View(ada, await subscribe(ada, "diffs"))
        others = []
        for number in range(5):
            others.append(await connect(str(number), general=False))
            others[-1].say(type="join", data={"room": "tea"})
        await trio.sleep(2 * TICK)
        assert (view.catch_up().members, view.count) == (None, 6)
        eve = await connect("eve", general=False)
        late = View(eve, await subscribe(eve, "full"))
        assert (late.members, late.count) == (None, 7)
        for wire in others[:4]:
            wire.leave()
        await trio.sleep(2 * TICK)
        assert len(view.catch_up().members) == len(late.catch_up().members) == 3


async def test_a_client_cannot_make_others_believe_in_ghosts(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        for event in ("join", "leave", "diff", "state", "count"):
            bob.say(type="presence", room="general", data={"event": event, "client_id": "x"})
        bob.say(type="presence", room="general", data={"event": "away"})
        await wait_all_tasks_blocked()
        assert [error["data"]["code"] for error in bob.of("error")] == ["RESERVED"] * 5
        assert [data["event"] for data in news(ada, "general")] == ["join", "away"]


LIFE = st.lists(
    st.one_of(
        st.tuples(st.just("connect"), st.sampled_from("abc"), st.sampled_from(list(PresenceMode))),
        st.tuples(st.just("leave"), st.integers(0, 20), st.none()),
        st.tuples(st.just("kick"), st.integers(0, 20), st.none()),
        st.tuples(st.just("crash"), st.integers(0, 20), st.none()),
        st.tuples(st.just("stall"), st.integers(0, 20), st.none()),
        st.tuples(st.just("shout"), st.integers(0, 20), st.none()),
        st.tuples(st.just("toggle"), st.integers(0, 20), st.sampled_from(list(PresenceMode))),
        st.tuples(st.just("delete"), st.none(), st.none()),
        st.tuples(st.just("tick"), st.floats(0, 3), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=30,
)


@pytest.mark.parametrize("native", [True, False], ids=["native", "queued"])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=LIFE)
def test_whatever_happens_nobody_is_a_ghost_and_nobody_believes_in_one(native, open_hub, connection_to, life):
    """Connections come and go, are kicked, crash, stall and are cut off, rooms are deleted, the service restarts: after all that the hub lists exactly those who are connected, and every
    client that reads has exactly that picture."""

    async def main():
        rest = list(life)
        restarts = 0
        while rest or not restarts:
            restarts += 1
            async with open_hub(presence_tick=TICK, presence_members=4, queue=8, queue_bytes=1024) as hub:
                async with trio.open_nursery() as nursery:
                    await one_life(hub, nursery, rest, connection_to, native)
                    nursery.cancel_scope.cancel(reason="the service restarts")
                assert len(hub.rooms.clients) == 0
                assert all(not room.members and not len(room._live) and not room._tasks for room in hub.rooms.rooms())
                assert len(hub.rooms.users) == 0

    trio.run(main, clock=MockClock(autojump_threshold=0.002))


async def one_life(hub, nursery, rest, connection_to, native):
    wires, views, inside = [], {}, set()

    def pick(number):
        alive = [wire for wire in wires if not wire.over.is_set()]
        return alive[number % len(alive)] if alive else None

    while rest:
        what, who, mode = rest.pop(0)
        if what == "restart":
            return
        if what == "connect":
            wire, serve = connection_to(hub, who, native)
            nursery.start_soon(serve)
            wires.append(wire)
            await wait_all_tasks_blocked()
            views[wire] = View(wire, await subscribe(wire, mode))
            inside.add(wire)
        elif what == "tick":
            await trio.sleep(who)
        elif what == "delete":
            if any(room.name == "tea" for room in hub.rooms.rooms()):
                await hub.rooms.delete("tea", "x", operator=True)
                inside.clear()
        elif (wire := pick(who)) is not None:
            if what == "leave":
                wire.leave()
            elif what == "kick":
                client_id = wire.arrived()[0]["data"]["client_id"]
                hub.rooms.disconnect([hub.rooms.client(client_id)])
            elif what == "crash":
                wire.break_down()
            elif what == "stall":
                wire.stop_reading()
            elif what == "shout":
                wire.say(type="chat", room="general", content="x" * 700)
                if wire in inside:
                    wire.say(type="chat", room="tea", content="x" * 700)
            elif wire in inside:
                wire.say(type="leave", data={"room": "tea"})
                inside.discard(wire)
            elif wire.may_read.is_set():
                views[wire] = View(wire, await subscribe(wire, mode))
                views[wire].read = len(news(wire))
                inside.add(wire)
        await wait_all_tasks_blocked()
    await trio.sleep(3 * TICK)
    alive = {wire for wire in wires if not wire.over.is_set()}
    ids = {wire: wire.arrived()[0]["data"]["client_id"] for wire in alive}
    assert {client.client_id for client in hub.rooms.clients} == set(ids.values())
    listed = {room.name: set(room.members) for room in hub.rooms.rooms()}
    assert listed["general"] == set(ids.values())
    expected = {ids[wire] for wire in alive & inside}
    assert listed.get("tea", set()) == expected
    for wire in alive & inside:
        if wire.may_read.is_set():
            view = views[wire].catch_up()
            mode = next(m.presence for c, m in hub.rooms._rooms["tea"].members.items() if c == ids[wire])
            if mode in ("diffs", "full"):
                assert view.members == (expected if len(expected) <= 4 else None)
            if mode in ("diffs", "full", "counts"):
                assert view.count == len(expected)


async def test_who_comes_and_goes_within_a_tick_is_not_left_over_with_who_subscribed_in_between(hubs, autojump_clock):
    async with hubs(presence_tick=TICK) as connect:
        ada = await connect("ada", general=False)
        await subscribe(ada, "diffs")
        eve = await connect("eve", general=False)
        await subscribe(eve, None)
        bob = await connect("bob", general=False)
        view = View(bob, await subscribe(bob, "diffs"))
        eve.leave()
        await trio.sleep(2 * TICK)
        assert len(view.catch_up().members) == 2


async def test_who_was_told_a_number_between_two_ticks_is_told_when_it_is_the_old_one_again(hubs, autojump_clock):
    async with hubs(presence_tick=TICK) as connect:
        ada, bob = [await connect(user, general=False) for user in ("ada", "bob")]
        await subscribe(ada, "counts")
        await subscribe(bob, None)
        await trio.sleep(2 * TICK)
        # A page that is loaded again: the new connection comes before the old one goes.
        back = await connect("bob", general=False)
        assert (await subscribe(back, "counts"))["members"] == 3
        bob.leave()
        await trio.sleep(2 * TICK)
        assert news(back) == [{"event": "count", "members": 2}]
