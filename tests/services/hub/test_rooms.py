"""Who may be where, which rooms there are, and what becomes of them."""

from __future__ import annotations

from functools import partial

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.errors import Forbidden, NotFound, Unavailable
from uait.services.hub.model import RoomOptions
from uait.services.hub.protocol import Message, MessageType, Refused


async def settle():
    await wait_all_tasks_blocked()


async def join(wire, room):
    wire.say(type="join", data={"room": room})
    await settle()
    return wire.sent[-1]


async def say(wire, room, content="hi", **fields):
    wire.say(type="publish", id=f"{room} {content}"[:40], room=room, content=content, **fields)
    await settle()
    return next(message for message in reversed(wire.sent) if message["type"] in ("ack", "error"))


def names(hub):
    return [room.name for room in hub.rooms.rooms()]


def contents(room):
    return [orjson.loads(event.data)["content"] for event in room.log.last(100)]


async def test_a_message_reaches_everybody_in_its_room_and_nobody_else(hubs):
    async with hubs() as connect:
        ada, bob, eve = [await connect(user) for user in ("ada", "bob", "eve")]
        await join(ada, "tea")
        await join(bob, "tea")
        assert (await say(ada, "tea"))["data"]["recipients"] == 2
        assert [message["content"] for message in ada.of("chat")] == ["hi"]
        assert [message["content"] for message in bob.of("chat")] == ["hi"]
        assert eve.of("chat") == []


async def test_a_client_is_in_a_bounded_number_of_rooms(hubs):
    async with hubs(rooms_per_client=2) as connect:
        ada = await connect()
        await join(ada, "one")
        assert (await join(ada, "two"))["data"]["code"] == "TOO_MANY_ROOMS"
        ada.say(type="leave", data={"room": "one"})
        assert (await join(ada, "two"))["data"]["rooms"] == ["general", "two"]


async def test_there_is_a_bounded_number_of_rooms(hubs):
    async with hubs(rooms=2) as connect:
        ada = await connect()
        await join(ada, "one")
        assert (await join(ada, "two"))["data"]["code"] == "TOO_MANY_ROOMS"
        assert names(connect.hub) == ["general", "one"]


async def test_joining_twice_is_joining_once(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        await join(ada, "tea")
        for _ in range(2):
            assert (await join(bob, "tea"))["data"]["members"] == 2
        assert [m["data"]["event"] for m in ada.of("presence") if m["room"] == "tea"] == ["join"]
        bob.say(type="leave", data={"room": "tea"})
        bob.say(type="leave", data={"room": "tea"})
        await settle()
        assert bob.sent[-1]["data"]["code"] == "NOT_IN_ROOM"


async def test_a_room_is_remembered_for_a_while_after_the_last_has_left(hubs):
    async with hubs(quiet_rooms=1) as connect:
        ada, rooms = await connect(), connect.hub.rooms
        for name in ("one", "two"):
            await join(ada, name)
            await say(ada, name, f"in {name}")
        ada.say(type="leave", data={"room": "one"})
        await settle()
        assert names(connect.hub) == ["general", "two"]
        assert contents(await rooms.find("one", "ada")) == ["in one"]

        ada.say(type="leave", data={"room": "two"})
        await settle()
        with pytest.raises(NotFound):
            await rooms.find("one", "ada")
        assert contents(await rooms.find("two", "ada")) == ["in two"]
        await join(ada, "two")
        assert (await rooms.find("two", "ada")).messages == 1


async def test_a_room_that_is_only_read_is_not_forgotten(hubs):
    async with hubs(quiet_rooms=0) as connect:
        ada, rooms = await connect(), connect.hub.rooms
        await join(ada, "tea")
        room = await rooms.find("tea", "ada")
        with rooms.viewing(room):
            ada.say(type="leave", data={"room": "tea"})
            await settle()
            assert await rooms.find("tea", "ada") is room
        with pytest.raises(NotFound):
            await rooms.find("tea", "ada")
        assert room.log.closed


async def test_who_still_reads_a_deleted_room_does_not_keep_the_one_that_came_after_it(hubs):
    async with hubs(quiet_rooms=0) as connect:
        ada, rooms = await connect(), connect.hub.rooms
        await join(ada, "tea")
        with rooms.viewing(await rooms.find("tea", "ada")):
            await rooms.delete("tea", "ada", operator=True)
            await rooms.declare("tea", "ada", RoomOptions(), operator=False)
        await join(ada, "coffee")
        ada.say(type="leave", data={"room": "coffee"})
        await settle()
        assert list(rooms._rooms) == ["general"]


async def test_history_keeps_what_was_said_and_not_who_typed(hubs):
    async with hubs(history=2) as connect:
        ada = await connect()
        for number in range(3):
            await say(ada, "general", str(number))
            ada.say(type="typing", room="general")
        await settle()
        room = await connect.hub.rooms.find("general", "ada")
        assert contents(room) == ["1", "2"]
        assert room.log.offset == 3


async def test_history_is_kept_as_long_as_it_may_be(hubs, mock_clock):
    async with hubs(history_age=60) as connect:
        ada = await connect()
        await connect.hub.rooms.declare("brief", "ada", RoomOptions(history_age=5, history=10), operator=False)
        await join(ada, "brief")
        for name in ("brief", "general"):
            await say(ada, name, "old")
        mock_clock.jump(10)
        assert contents(await connect.hub.rooms.find("brief", "ada")) == []
        assert contents(await connect.hub.rooms.find("general", "ada")) == ["old"]
        mock_clock.jump(60)
        assert contents(await connect.hub.rooms.find("general", "ada")) == []


# Declared rooms


async def test_a_private_room_is_for_its_members_and_nobody_else_knows_of_it(hubs):
    async with hubs() as connect:
        ada, bob, eve = [await connect(user) for user in ("ada", "bob", "eve")]
        rooms = connect.hub.rooms
        await rooms.declare("den", "ada", RoomOptions(private=True, members=["bob"]), operator=False)
        for wire in (ada, bob):
            assert (await join(wire, "den"))["content"] == "Joined den"
        assert (await join(eve, "den"))["data"]["code"] == "NO_SUCH_ROOM"
        eve.say(type="subscribe", id="s", room="den")
        await settle()
        assert eve.sent[-1]["data"] == {"code": "NO_SUCH_ROOM", "ref": "s"}
        with pytest.raises(NotFound):
            await rooms.find("den", "eve")
        assert [room.name for room in rooms.listed("eve")] == ["general"]
        assert [room.name for room in rooms.listed("bob")] == ["den", "general"]
        assert not rooms.may_know("eve", "den")
        with pytest.raises(NotFound):
            await rooms.declare("den", "eve", RoomOptions(), operator=False)
        with pytest.raises(NotFound):
            await rooms.delete("den", "eve", operator=False)


async def test_who_may_not_be_there_any_more_is_taken_out(hubs):
    async with hubs() as connect:
        ada, bob, eve = [await connect(user) for user in ("ada", "bob", "eve")]
        rooms = connect.hub.rooms
        await rooms.declare("den", "ada", RoomOptions(), operator=False)
        for wire in (ada, bob, eve):
            await join(wire, "den")
        await rooms.declare("den", "ada", RoomOptions(private=True, members=["bob"]), operator=False)
        await settle()
        told = eve.of("status")[-1]
        assert (told["room"], told["data"]["event"], told["data"]["rooms"]) == ("den", "removed", ["general"])
        assert (await say(ada, "den"))["data"]["recipients"] == 2


async def test_a_room_takes_no_more_than_it_may(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        await connect.hub.rooms.declare("pair", "x", RoomOptions(max_members=1), operator=False)
        await join(ada, "pair")
        assert (await join(bob, "pair"))["data"]["code"] == "ROOM_FULL"
        ada.leave()
        await ada.over.wait()
        assert (await join(bob, "pair"))["content"] == "Joined pair"


async def test_who_may_publish_is_the_owner_s_to_say(hubs):
    async with hubs() as connect:
        ada, bob, eve = [await connect(user) for user in ("ada", "bob", "eve")]
        await connect.hub.rooms.declare("news", "ada", RoomOptions(publishers=["bob"]), operator=False)
        for wire in (ada, bob, eve):
            await join(wire, "news")
        assert (await say(ada, "news"))["type"] == "ack"
        assert (await say(bob, "news"))["type"] == "ack"
        refused = await say(eve, "news")
        assert (refused["type"], refused["data"]["code"]) == ("error", "NOT_ALLOWED")
        assert len(eve.of("chat")) == 2


async def test_a_room_is_its_owner_s(hubs):
    async with hubs() as connect:
        ada, rooms = await connect("ada"), connect.hub.rooms
        await rooms.declare("tea", "ada", RoomOptions(), operator=False)
        with pytest.raises(Forbidden):
            await rooms.declare("tea", "eve", RoomOptions(private=True), operator=False)
        with pytest.raises(Forbidden):
            await rooms.delete("tea", "eve", operator=False)
        changed = await rooms.declare("tea", "eve", RoomOptions(max_members=5), operator=True)
        assert (changed.owner, changed.options.max_members) == ("ada", 5)

        await join(ada, "nobody's")
        with pytest.raises(Refused):
            await rooms.declare("nobody's", "eve", RoomOptions(), operator=False)
        with pytest.raises(Forbidden):
            await rooms.delete("nobody's", "eve", operator=False)
        await rooms.declare("nobody's", "eve", RoomOptions(), operator=True)


@pytest.mark.parametrize("options", [{"private": True}, {"durable": True}, {"max_members": 3}])
async def test_everybody_starts_in_general_whatever_anybody_declares(hubs, options):
    async with hubs() as connect:
        with pytest.raises(Refused) as caught:
            await connect.hub.rooms.declare("general", "ada", RoomOptions(**options), operator=True)
        assert caught.value.error_code == "ROOM_IS_FOR_ALL"
        with pytest.raises(Refused):
            await connect.hub.rooms.delete("general", "ada", operator=True)


async def test_a_declared_room_is_as_it_was_after_a_restart(hubs):
    for _ in range(2):
        async with hubs(rooms=1, quiet_rooms=0) as connect:
            rooms = connect.hub.rooms
            if "den" not in rooms._declared:
                await rooms.declare("den", "ada", RoomOptions(private=True, members=["bob"]), operator=False)
                with pytest.raises(Refused):
                    await rooms.declare("more", "ada", RoomOptions(), operator=False)
            eve, bob = await connect("eve"), await connect("bob")
            assert (await join(eve, "den"))["data"]["code"] == "NO_SUCH_ROOM"
            assert (await join(bob, "den"))["content"] == "Joined den"


async def test_whether_a_room_is_durable_cannot_be_changed(hubs):
    async with hubs() as connect:
        rooms = connect.hub.rooms
        await rooms.declare("tea", "ada", RoomOptions(), operator=False)
        with pytest.raises(Refused):
            await rooms.declare("tea", "ada", RoomOptions(durable=True), operator=False)
        await rooms.delete("tea", "ada", operator=False)
        assert (await rooms.declare("tea", "ada", RoomOptions(durable=True), operator=False)).durable


async def test_a_deleted_room_is_gone_with_all_that_was_done_for_its_members(hubs):
    async with hubs() as connect:
        ada, deaf, rooms = await connect("ada"), await connect("deaf"), connect.hub.rooms
        options = RoomOptions(slow="drop_oldest", durable=True)
        await rooms.declare("tea", "ada", options, operator=False)
        await join(ada, "tea")
        await join(deaf, "tea")
        deaf.stop_reading()
        for number in range(3):
            await say(ada, "tea", f"{number} {'x' * 50_000}")
        ada.say(type="typing", room="tea")
        await settle()
        room = await rooms.find("tea", "ada")
        assert room._tasks == 2
        epoch = room.log.epoch
        with trio.fail_after(5):
            assert await rooms.delete("tea", "ada", operator=False) == 2
        assert (room._tasks, deaf.closed) == (0, None)
        await settle()
        assert ada.of("status")[-1]["data"]["reason"] == "deleted"
        assert "tea" not in names(connect.hub)
        with pytest.raises(NotFound):
            await rooms.find("tea", "ada")
        assert (await say(ada, "tea"))["data"]["code"] == "NOT_IN_ROOM"

        again = await rooms.declare("tea", "bob", options, operator=False)
        assert (again.owner, again.log.offset) == ("bob", 0)
        assert again.log.epoch != epoch


@pytest.mark.parametrize("step", range(1, 6))
async def test_a_room_whose_deletion_is_cancelled_is_its_owner_s_until_nothing_is_kept_of_it(hubs, disk, step):
    async with hubs() as connect:
        ada, rooms = await connect("ada"), connect.hub.rooms
        options = RoomOptions(private=True, durable=True)
        await rooms.declare("den", "ada", options, operator=False)
        await join(ada, "den")
        await say(ada, "den", "a secret")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(rooms.delete, "den", "ada", operator=False))
            for _ in range(step):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel(reason="the client left")
        kept = "room den" in disk.feeds.feeds
        assert kept <= ("den" in disk.declarations.rooms)
        assert set(disk.declarations.rooms) <= set(rooms._declared)
        if "den" in rooms._declared:
            with pytest.raises(NotFound):
                await rooms.find("den", "eve")
            await rooms.delete("den", "ada", operator=False)
        assert (await rooms.declare("den", "eve", options, operator=False)).log.offset == 0


async def test_a_room_that_could_not_be_deleted_is_still_there_and_can_be_deleted_again(hubs, disk, monkeypatch):
    async with hubs() as connect:
        ada, rooms = await connect("ada"), connect.hub.rooms
        await rooms.declare("log", "ada", RoomOptions(durable=True), operator=False)
        await join(ada, "log")
        await say(ada, "log", "one")
        for store in (disk.feeds, disk.declarations):
            with monkeypatch.context() as patch, pytest.raises(Unavailable):
                patch.setattr(store, "delete", fail)
                await rooms.delete("log", "ada", operator=False)
            assert contents(await rooms.find("log", "ada")) == ["one"] * (store is disk.feeds)
        await rooms.delete("log", "ada", operator=False)
        with pytest.raises(NotFound):
            await rooms.find("log", "ada")


async def fail(name):
    raise Unavailable("The disk is full.", code="DISK_FULL")


# Durable rooms


async def test_what_was_said_in_a_durable_room_is_there_after_a_restart(hubs):
    async with hubs() as connect:
        ada = await connect()
        await connect.hub.rooms.declare("log", "ada", RoomOptions(durable=True), operator=False)
        await join(ada, "log")
        first = await say(ada, "log", "one")
        assert (await say(ada, "log", "two"))["data"]["offset"] == 2
    async with hubs() as connect:
        ada = await connect()
        await join(ada, "log")
        room = await connect.hub.rooms.find("log", "ada")
        assert contents(room) == ["one", "two"]
        assert room.log.epoch == first["data"]["epoch"]
        again = await say(ada, "log", "two")
        assert (again["data"]["offset"], again["data"]["duplicate"]) == (2, True)
        assert (await say(ada, "log", "three"))["data"]["offset"] == 3


async def test_a_durable_room_that_nobody_is_in_is_closed_and_opened_again(hubs):
    async with hubs(quiet_rooms=0) as connect:
        ada = await connect()
        await connect.hub.rooms.declare("log", "ada", RoomOptions(durable=True), operator=False)
        for number in range(3):
            await join(ada, "log")
            assert (await say(ada, "log", str(number)))["data"]["offset"] == number + 1
            ada.say(type="leave", data={"room": "log"})
            await settle()
            assert "log" not in connect.hub.rooms._rooms
        assert contents(await connect.hub.rooms.find("log", "ada")) == ["0", "1", "2"]


async def test_what_could_not_be_stored_is_said_to_nobody_and_not_acknowledged(hubs, disk):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        await connect.hub.rooms.declare("log", "ada", RoomOptions(durable=True), operator=False)
        for wire in (ada, bob):
            await join(wire, "log")
        disk.feeds.failures = [Unavailable("The disk is full.", code="DISK_FULL")]
        assert (await say(ada, "log", "one"))["data"] == {"code": "DISK_FULL", "ref": "log one"}
        assert bob.of("chat") == []
        assert (await say(ada, "log", "one"))["data"]["offset"] == 1
        assert len(bob.of("chat")) == 1


async def test_a_broadcast_without_a_room_is_encoded_once(hubs, monkeypatch):
    async with hubs() as connect:
        for number in range(5):
            await connect(str(number))
        encoded = []
        encode = Message.encode
        monkeypatch.setattr(Message, "encode", lambda message: encoded.append(message) or encode(message))
        message = Message(type=MessageType.BROADCAST, content="all")
        assert connect.hub.rooms.broadcast(message) == 5
        assert encoded == [message]
