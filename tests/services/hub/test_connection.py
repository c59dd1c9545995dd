from __future__ import annotations

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.hub.connection import SLOW, Client, serve_client
from uait.services.hub.model import HubSettings, Message, MessageType


class Wire:
    """Both ends of one connection, without a socket. It stops taking messages while `blocked`."""

    def __init__(self):
        self.to_hub, self._from_client = trio.open_memory_channel(100)
        self.sent: list[dict] = []
        self.closed: tuple[int, str] | None = None
        self.may_send = trio.Event()
        self.may_send.set()

    async def receive(self):
        return await self._from_client.receive()

    async def send(self, text):
        await self.may_send.wait()
        self.sent.append(orjson.loads(text))

    async def close(self, code, reason):
        self.closed = (code, reason)

    def say(self, **message):
        self.to_hub.send_nowait(orjson.dumps(message).decode())


@pytest.fixture
def connect(make_rooms, nursery):
    rooms = make_rooms()

    async def connect(user="ada", **settings):
        chosen = HubSettings(**settings)
        wire, client = Wire(), Client(user, chosen)

        async def serve():
            await serve_client(rooms, client, chosen, receive=wire.receive, send=wire.send, close=wire.close)

        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        return wire, client

    connect.rooms = rooms
    return connect


async def test_a_client_is_welcomed_before_anything_else(connect):
    wire, client = await connect()

    [welcome] = wire.sent
    assert welcome["type"] == "status"
    assert welcome["content"] == "Welcome to the WebSocket hub"
    assert welcome["data"] == {"client_id": client.client_id, "rooms": ["general"]}
    assert welcome["user_id"] == "ada"


async def test_what_one_says_the_others_hear_with_what_the_server_sets(connect):
    ada, _ = await connect("ada")
    bob, _ = await connect("bob")

    ada.say(type="chat", content="hello", user_id="root", id="1")
    await wait_all_tasks_blocked()

    heard = bob.sent[-1]
    assert (heard["type"], heard["content"], heard["room"], heard["user_id"]) == ("chat", "hello", "general", "ada")
    assert heard["id"] != "1"
    assert ada.sent[-1] == heard


async def test_joining_and_leaving_are_confirmed(connect):
    wire, _ = await connect()

    wire.say(type="join", data={"room": "tea"})
    wire.say(type="leave", data={"room": "tea"})
    await wait_all_tasks_blocked()

    joined, left = wire.sent[1:]
    assert (joined["type"], joined["room"]) == ("status", "tea")
    assert joined["data"] == {"room": "tea", "rooms": ["general", "tea"], "members": 1}
    assert left["data"] == {"room": "tea", "rooms": ["general"], "members": 0}


async def test_a_bad_message_is_answered_and_the_connection_kept(connect):
    wire, _ = await connect(message_bytes=300)

    wire.to_hub.send_nowait("{")
    wire.to_hub.send_nowait(b"\xff")
    wire.say(type="chat", content="x" * 300)
    wire.say(type="chat", content="still here")
    await wait_all_tasks_blocked()

    assert [message["data"]["code"] for message in wire.sent[1:4]] == [
        "INVALID_JSON",
        "INVALID_JSON",
        "MESSAGE_TOO_LARGE",
    ]
    assert all(message["type"] == "error" for message in wire.sent[1:4])
    assert wire.sent[4]["content"] == "still here"


async def test_a_broadcast_without_a_room_reaches_clients_in_any_room(connect):
    ada, _ = await connect("ada")
    bob, _ = await connect("bob")
    bob.say(type="leave", data={"room": "general"})
    await wait_all_tasks_blocked()

    ada.say(type="broadcast", content="fire")
    await wait_all_tasks_blocked()

    assert bob.sent[-1]["content"] == "fire"
    assert "room" not in bob.sent[-1]


async def test_nobody_waits_for_a_client_that_does_not_read_and_it_is_closed_as_slow(connect):
    ada, _ = await connect("ada")
    bob, slow = await connect("bob", queue=8)
    bob.may_send = trio.Event()

    for number in range(20):
        ada.say(type="chat", content=str(number))
    await wait_all_tasks_blocked()

    assert [message["content"] for message in ada.sent if message["type"] == "chat"] == [str(n) for n in range(20)]
    assert slow.slow
    assert bob.closed == (SLOW, "slow")
    assert [client.user_id for client in connect.rooms.clients] == ["ada"]
    events = [message["data"]["event"] for message in ada.sent if message["type"] == "presence"]
    assert events == ["join", "leave"]
    assert connect.rooms.slow == 1


async def test_bytes_are_bounded_as_well_as_messages(connect):
    _, client = await connect(queue_bytes=1024)
    text = "x" * 600

    client.offer(text, 600)
    assert not client.slow
    client.offer(text, 600)
    assert client.slow


async def test_one_message_over_the_bound_is_taken_where_nothing_else_waits(connect):
    wire, client = await connect(queue_bytes=1024)

    client.tell(Message(type=MessageType.NOTIFICATION, content="x" * 5000))
    await wait_all_tasks_blocked()

    assert not client.slow
    assert len(wire.sent[-1]["content"]) == 5000


async def test_leaving_ends_the_membership(connect, make_rooms):
    rooms = make_rooms()
    wire, client = Wire(), Client("ada", HubSettings())
    with trio.CancelScope() as connection:
        async with trio.open_nursery() as nursery:

            async def leave():
                await wait_all_tasks_blocked()
                assert len(rooms.clients) == 1
                connection.cancel(reason="the client left")

            nursery.start_soon(leave)
            await serve_client(rooms, client, HubSettings(), receive=wire.receive, send=wire.send, close=wire.close)
    assert len(rooms.clients) == 0
    assert rooms.room("general").members == {}
    assert wire.closed is None


async def test_the_writer_cannot_spin_on_a_connection_that_is_gone():
    client = Client("ada", HubSettings())
    sent = 0

    async def send(text):  # as servers do when the connection is closed: no checkpoint, no error
        nonlocal sent
        sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.write, send)
        for _ in range(5):
            client.offer("x", 1)
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="enough")
    assert sent == 5
