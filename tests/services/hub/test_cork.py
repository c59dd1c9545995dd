"""What is said to many in one moment goes out in one write, and nobody can tell but by the clock."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.hub import room
from uait.services.hub.cork import ENOUGH, LONGEST, Cork
from uait.services.hub.protocol import Message, MessageType


class Crowd:
    def __init__(self):
        self.given = []

    def give(self, messages):
        self.given.append(list(messages))


class Somebody:
    def __init__(self, crowd):
        self.crowd = crowd
        self.told = []

    def push(self, encoded):
        self.told.append((encoded, len(self.crowd.given)))


@pytest.fixture
async def cork(nursery):
    cork = Cork()
    nursery.start_soon(cork.run)
    await wait_all_tasks_blocked()
    return cork


@pytest.fixture
def many(monkeypatch):
    """Every room has as many members as are worth it."""
    monkeypatch.setattr(room, "MANY", 0)


@pytest.fixture
async def crowd(cork):
    """Somebody has just said something to this crowd, so that what comes now does not come alone."""
    crowd = Crowd()
    cork.hold(crowd, b"first")
    assert crowd.given == [[b"first"]]
    crowd.given.clear()
    return crowd


async def test_what_comes_alone_goes_out_at_once(cork):
    crowd = Crowd()
    for number in range(3):
        cork.hold(crowd, b"%d" % number)
        assert crowd.given[number:] == [[b"%d" % number]]
        await wait_all_tasks_blocked()


@pytest.mark.parametrize("turns", range(4))
async def test_what_came_in_while_the_first_went_out_does_not_come_alone(cork, crowd, turns):
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    cork.hold(crowd, b"next")
    assert crowd.given == []
    await wait_all_tasks_blocked()
    assert crowd.given == [[b"next"]]


async def test_what_follows_turn_by_turn_goes_out_together_and_soon(cork, crowd):
    for number in range(5):
        cork.hold(crowd, b"%d" % number)
        await trio.lowlevel.checkpoint()
    assert crowd.given == []
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    assert crowd.given == [[b"0", b"1", b"2", b"3", b"4"]]
    cork.hold(crowd, b"later")
    assert crowd.given[1:] == []
    await wait_all_tasks_blocked()
    assert crowd.given[1:] == [[b"later"]]


async def test_it_is_not_held_back_for_long_whatever_follows(cork, crowd, mock_clock):
    for _ in range(100):
        cork.hold(crowd, b"x")
        await trio.lowlevel.checkpoint()
        mock_clock.jump(LONGEST / 10)
    assert 5 <= len(crowd.given) <= 20


async def test_no_more_is_held_back_than_is_worth_it(cork, crowd):
    piece = b"x" * (ENOUGH // 4)
    for _ in range(8):
        cork.hold(crowd, piece)
    assert crowd.given == [[piece] * 4] * 2


async def test_places_keep_their_order_and_do_not_mix(cork, crowd):
    one, other = crowd, Crowd()
    for number in range(4):
        cork.hold(one, b"one %d" % number)
        cork.hold(other, b"other %d" % number)
    cork.flush()
    assert one.given == [[b"one %d" % number for number in range(4)]]
    assert other.given == [[b"other %d" % number for number in range(4)]]


async def test_who_is_told_something_after_is_told_after(cork, crowd):
    somebody = Somebody(crowd)
    cork.tell_after(somebody, b"nothing is held")
    cork.hold(crowd, b"a message")
    cork.tell_after(somebody, b"its ack")
    assert somebody.told == [(b"nothing is held", 0)]
    await wait_all_tasks_blocked()
    assert somebody.told == [(b"nothing is held", 0), (b"its ack", 1)]


async def test_a_room_of_many_gets_a_burst_in_few_writes(hubs, many, monkeypatch, mock_clock):
    async with hubs() as connect:
        wires = [await connect(str(number)) for number in range(3)]
        writes = []
        send = connect.hub.rooms._everyone.__class__.send

        def counted(audience, payloads, *rest):
            writes.append(len(payloads))
            return send(audience, payloads, *rest)

        monkeypatch.setattr("uait.services.hub.audience.Audience.send", counted)
        for number in range(20):
            wires[0].say(type="publish", id=str(number), content=str(number))
        await wait_all_tasks_blocked()
        for wire in wires:
            assert [message["content"] for message in wire.of("chat")] == [str(number) for number in range(20)]
        assert sum(writes) == 20
        assert len(writes) <= 3  # the first by itself
        assert connect.hub.traffic.deliveries.total == 60
        kinds = [message["type"] for message in wires[0].sent]
        assert kinds.index("chat") < kinds.index("ack")


async def test_who_comes_or_goes_meanwhile_gets_what_is_said_while_it_is_there(hubs, many):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        rooms = connect.hub.rooms
        general, [bob_there] = await rooms.find("general", "ada"), rooms.clients_of("bob")

        def say(content):
            general._fan_out(b'{"type":"chat","content":"%b"}' % content)

        say(b"one")
        rooms.leave(bob_there, "general")
        say(b"two")
        rooms.join(bob_there, general)
        say(b"three")
        rooms.broadcast(Message(type=MessageType.BROADCAST, content="four"))
        say(b"five")
        await wait_all_tasks_blocked()

        def heard(wire):
            news = [message for message in wire.sent if message["type"] in ("chat", "broadcast", "presence")]
            return [message["content"] if "content" in message else message["data"]["event"] for message in news]

        assert heard(ada) == ["join", "one", "leave", "two", "join", "three", "four", "five"]
        assert heard(bob) == ["one", "three", "four", "five"]


async def test_who_comes_back_meanwhile_has_everything_once(hubs, many):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        rooms = connect.hub.rooms
        general, [client] = await rooms.find("general", "ada"), rooms.clients_of("bob")
        general.log.append(b'{"type":"chat"}')
        rooms.leave(client, "general")
        general.log.append(b'{"type":"chat"}')
        position = general.log.position
        general.log.append(b'{"type":"chat"}')
        entrance = rooms.subscribe(client, general, presence=None, since=position)
        general.log.append(b'{"type":"chat"}')
        general.go_on(entrance)
        general.log.append(b'{"type":"chat"}')
        await wait_all_tasks_blocked()
        assert [message["offset"] for message in bob.of("chat")] == [1, 3, 4, 5]
        assert [message["offset"] for message in ada.of("chat")] == [1, 2, 3, 4, 5]


async def test_who_has_caught_up_meanwhile_has_everything_once(hubs, many, mock_clock):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        general = await connect.hub.rooms.find("general", "ada")
        [membership] = [each for each in general.members.values() if each.user_id == "bob"]
        general._fall_behind(membership, general._read(membership.client, None))
        for _ in range(30):
            general.log.append(b'{"type":"chat"}')
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
        assert membership.reader is None
        await wait_all_tasks_blocked()
        for wire in (ada, bob):
            assert [message["offset"] for message in wire.of("chat")] == list(range(1, 31))


async def test_what_is_for_one_comes_behind_what_was_for_all(hubs, many):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        ada.say(type="publish", id="1", content="to all")
        ada.say(type="publish", id="2", to="bob", content="to you")
        ada.say(type="join", data={"room": "tea"})
        await wait_all_tasks_blocked()
        assert [message["content"] for message in bob.of("chat")] == ["to all", "to you"]
        assert [message["type"] for message in ada.sent][-4:] == ["chat", "ack", "ack", "status"]
