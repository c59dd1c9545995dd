"""What one client is told, with and without outlets."""

from __future__ import annotations

import orjson
import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.hub.audience import QueuedLine


async def test_a_client_is_welcomed_before_anything_else(hubs):
    async with hubs() as connect:
        wire = await connect("ada")
        [client] = connect.hub.rooms.clients

        [welcome] = wire.sent
        assert welcome["type"] == "status"
        assert welcome["content"] == "Welcome to the WebSocket hub"
        assert welcome["data"] == {"client_id": client.client_id, "rooms": ["general"]}
        assert welcome["user_id"] == "ada"


async def test_what_one_says_the_others_hear_with_what_the_server_sets(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")

        ada.say(type="chat", content="hello", user_id="root", id="1")
        await wait_all_tasks_blocked()

        heard = bob.sent[-1]
        assert (heard["type"], heard["content"], heard["room"], heard["user_id"]) == ("chat", "hello", "general", "ada")
        assert heard["id"] != "1"
        assert heard["offset"] == 1
        assert ada.sent[-1] == heard, "and nothing more: who says things as ever gets nothing new"


async def test_joining_and_leaving_are_confirmed(hubs):
    async with hubs() as connect:
        wire = await connect()

        wire.say(type="join", data={"room": "tea"})
        wire.say(type="leave", data={"room": "tea"})
        await wait_all_tasks_blocked()

        joined, left = wire.sent[1:]
        assert (joined["type"], joined["room"]) == ("status", "tea")
        assert joined["data"] == {"room": "tea", "rooms": ["general", "tea"], "members": 1}
        assert left["data"] == {"room": "tea", "rooms": ["general"], "members": 0}


async def test_a_bad_message_is_answered_and_the_connection_kept(hubs):
    async with hubs(message_bytes=300) as connect:
        wire = await connect()

        wire.to_hub.send_nowait("{")
        wire.to_hub.send_nowait(b"\xff")
        wire.say(type="chat", content="x" * 300)
        wire.say(type="chat", content="still here")
        await wait_all_tasks_blocked()

        assert [message["data"]["code"] for message in wire.of("error")] == [
            "INVALID_JSON",
            "INVALID_JSON",
            "MESSAGE_TOO_LARGE",
        ]
        assert wire.sent[-1]["content"] == "still here"


async def test_one_bad_message_after_the_other_ends_the_connection(hubs):
    async with hubs(bad_messages=3) as connect:
        wire = await connect()

        for _ in range(5):
            wire.to_hub.send_nowait("{")
            wire.to_hub.send_nowait("{")
            wire.say(type="chat", content="a good one between")
        await wait_all_tasks_blocked()
        assert wire.closed is None
        for _ in range(3):
            wire.to_hub.send_nowait("{")
        await wait_all_tasks_blocked()
        assert wire.closed == (3501, "bad messages")


async def test_who_goes_on_asking_for_more_rooms_than_there_may_be_is_sent_away(hubs):
    async with hubs(bad_messages=3, rooms_per_client=2) as connect:
        wire = await connect()
        wire.say(type="join", data={"room": "a"})

        for name in "bcdefg":
            wire.say(type="join", data={"room": name})
            wire.say(type="subscribe", data={"room": name})
            wire.say(type="chat", content="I can live with it")
        await wait_all_tasks_blocked()
        assert wire.closed is None
        for name in "bcd":
            wire.say(type="join", data={"room": name})
        await wait_all_tasks_blocked()
        assert wire.closed == (3505, "too many rooms")
        assert {message["data"]["code"] for message in wire.of("error")} == {"TOO_MANY_ROOMS"}


async def test_a_broadcast_without_a_room_reaches_clients_in_any_room(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        bob.say(type="leave", data={"room": "general"})
        await wait_all_tasks_blocked()

        ada.say(type="broadcast", content="fire")
        await wait_all_tasks_blocked()

        assert bob.sent[-1]["content"] == "fire"
        assert "room" not in bob.sent[-1]


async def test_who_is_not_in_a_room_cannot_write_to_it(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        bob.say(type="join", data={"room": "tea"})
        await wait_all_tasks_blocked()
        ada.say(type="chat", room="tea", content="let me in")
        await wait_all_tasks_blocked()

        assert ada.sent[-1]["data"]["code"] == "NOT_IN_ROOM"
        assert bob.of("chat") == []


async def test_leaving_ends_the_membership(hubs):
    async with hubs() as connect:
        wire = await connect()
        assert len(connect.hub.rooms.clients) == 1
        wire.leave()
        await wire.over.wait()
        assert len(connect.hub.rooms.clients) == 0
        assert connect.hub.rooms.rooms()[0].members == {}
        assert wire.closed is None


async def test_a_client_may_start_outside_of_general(hubs):
    async with hubs() as connect:
        wire = await connect(general=False)
        assert wire.sent[0]["data"]["rooms"] == []
        await connect("bob")
        assert len(wire.sent) == 1


# Publishing with an id


async def test_what_is_published_is_acknowledged_with_its_offset(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        ada.say(type="publish", id="p1", room="general", content="hello", data=[1])
        ada.say(type="publish", id="p2", room="general", kind="notification", content="look")
        await wait_all_tasks_blocked()

        first, second = bob.sent[-2:]
        assert (first["type"], first["content"], first["data"], first["offset"]) == ("chat", "hello", [1], 1)
        assert (second["type"], second["offset"]) == ("notification", 2)
        room = await connect.hub.rooms.find("general", "ada")
        ack = ada.of("ack")[0]
        assert ack["data"] == {
            "ref": "p1",
            "room": "general",
            "offset": 1,
            "epoch": room.log.epoch,
            "recipients": 2,
            "duplicate": False,
        }


async def test_the_same_id_is_published_once(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        for _ in range(2):
            ada.say(type="publish", id="p1", room="general", content="hello")
        await wait_all_tasks_blocked()
        bob.say(type="publish", id="p1", room="general", content="another one's")
        await wait_all_tasks_blocked()

        assert [message["content"] for message in ada.of("chat")] == ["hello", "another one's"]
        assert [(ack["data"]["offset"], ack["data"]["duplicate"]) for ack in ada.of("ack")] == [(1, False), (1, True)]


async def test_the_same_id_is_published_once_also_where_nothing_is_kept(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        for wire in (ada, bob):
            wire.say(type="join", data={"room": "tea"})
        await wait_all_tasks_blocked()
        for room in ("general", "general", "tea", "tea"):
            for wire in (ada, bob):
                wire.say(type="publish", id="p1", room=room, kind="presence", data={"mood": "good"})
            await wait_all_tasks_blocked()

        moods = [(message["room"], message["user_id"]) for message in bob.of("presence") if "mood" in message["data"]]
        assert sorted(moods) == [("general", "ada"), ("general", "bob"), ("tea", "ada"), ("tea", "bob")]
        acks = [ack["data"] for ack in ada.of("ack")]
        assert [(ack["room"], ack["offset"], ack["duplicate"]) for ack in acks] == [
            ("general", None, False),
            ("general", None, True),
            ("tea", None, False),
            ("tea", None, True),
        ]
        assert {ack["recipients"] for ack in acks} == {2}


async def test_a_direct_message_reaches_the_user_s_connections_and_nobody_else(hubs):
    async with hubs() as connect:
        ada, phone, desk, eve = [await connect(user) for user in ("ada", "bob", "bob", "eve")]
        for _ in range(2):
            ada.say(type="publish", id="d1", to="bob", content="psst")
        await wait_all_tasks_blocked()

        for wire in (phone, desk):
            [message] = wire.of("chat")
            assert (message["content"], message["to"], message["user_id"]) == ("psst", "bob", "ada")
            assert "room" not in message
        assert eve.of("chat") == ada.of("chat") == []
        assert [ack["data"] for ack in ada.of("ack")] == [
            {"ref": "d1", "recipients": 2, "duplicate": False},
            {"ref": "d1", "recipients": 2, "duplicate": True},
        ]
        ada.say(type="publish", id="d2", to="nobody", content="psst")
        ada.say(type="publish", id="d3", to={"client": phone.sent[0]["data"]["client_id"]}, content="only you")
        await wait_all_tasks_blocked()
        assert [ack["data"]["recipients"] for ack in ada.of("ack")[2:]] == [0, 1]
        assert len(phone.of("chat")) == 2
        assert len(desk.of("chat")) == 1


async def test_an_error_names_the_message_it_is_about(hubs):
    async with hubs() as connect:
        wire = await connect()
        wire.say(type="publish", id="p1", room="elsewhere", content="x")
        wire.say(type="publish", id="p2", room="general", kind="error", content="x")
        wire.say(type="unsubscribe", id="u1", room="elsewhere")
        await wait_all_tasks_blocked()
        assert [(error["data"]["code"], error["data"]["ref"]) for error in wire.of("error")] == [
            ("NOT_IN_ROOM", "p1"),
            ("UNKNOWN_TYPE", "p2"),
            ("NOT_IN_ROOM", "u1"),
        ]


async def test_so_does_one_about_a_message_that_is_not_even_looked_at(hubs, mock_clock):
    async with hubs(rate=2, message_bytes=300) as connect:
        wire = await connect()
        wire.say(type="publish", id="p0", room="general", content="x" * 300)
        for number in range(1, 6):
            wire.say(type="publish", id=f"p{number}", room="general", content="x")
        wire.say(type="publish", id=7, room="general", content="x")
        await wait_all_tasks_blocked()
        assert [(error["data"]["code"], error["data"].get("ref")) for error in wire.of("error")] == [
            ("MESSAGE_TOO_LARGE", "p0"),
            ("RATE_LIMITED", "p4"),
            ("RATE_LIMITED", "p5"),
            ("RATE_LIMITED", None),
        ]


# Request and reply


async def test_a_request_gets_its_reply(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        ada.say(type="request", id="r1", to="bob", content="sum", data=[1, 2])
        await wait_all_tasks_blocked()
        [asked] = bob.of("request")
        assert (asked["user_id"], asked["content"], asked["data"]) == ("ada", "sum", [1, 2])

        bob.say(type="reply", ref=asked["id"], content="done", data=3)
        bob.say(type="reply", ref=asked["id"], content="again")
        await wait_all_tasks_blocked()
        [reply] = ada.of("reply")
        assert (reply["user_id"], reply["content"], reply["data"]) == ("bob", "done", {"ref": "r1", "data": 3})
        assert bob.of("error")[0]["data"]["code"] == "NO_SUCH_REQUEST"
        assert len(connect.hub.requests) == 0


async def test_the_first_reply_counts_and_only_of_those_who_were_asked(hubs):
    async with hubs() as connect:
        ada, phone, desk, eve = [await connect(user) for user in ("ada", "bob", "bob", "eve")]
        ada.say(type="request", id="r1", to="bob")
        await wait_all_tasks_blocked()
        request_id = phone.of("request")[0]["id"]
        for wire, content in ((eve, "eve"), (desk, "desk"), (phone, "phone")):
            wire.say(type="reply", ref=request_id, content=content)
            await wait_all_tasks_blocked()
        assert [reply["content"] for reply in ada.of("reply")] == ["desk"]


async def test_a_request_that_nobody_answers_ends(hubs, autojump_clock):
    async with hubs(request_timeout=30) as connect:
        ada, bob = await connect("ada"), await connect("bob")
        before = trio.current_time()
        ada.say(type="request", id="r1", to="bob", timeout_ms=5000)
        while not ada.of("error"):
            await trio.sleep(0.5)
        assert ada.of("error")[0]["data"] == {"code": "TIMEOUT", "ref": "r1"}
        assert 5 <= trio.current_time() - before < 7
        bob.say(type="reply", ref=bob.of("request")[0]["id"])
        await wait_all_tasks_blocked()
        assert bob.of("error")[0]["data"]["code"] == "NO_SUCH_REQUEST"


async def test_a_request_ends_when_whom_it_asks_leaves(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        ada.say(type="request", id="r1", to="nobody")
        ada.say(type="request", id="r2", to="bob")
        await wait_all_tasks_blocked()
        bob.leave()
        await bob.over.wait()
        await wait_all_tasks_blocked()
        assert [error["data"] for error in ada.of("error")] == [
            {"code": "NOT_CONNECTED", "ref": "r1"},
            {"code": "GONE", "ref": "r2"},
        ]


async def test_requests_that_wait_are_bounded_and_forgotten_with_their_asker(hubs):
    async with hubs(requests=2) as connect:
        ada, bob = await connect("ada"), await connect("bob")
        for number in range(3):
            ada.say(type="request", id=f"r{number}", to="bob")
        await wait_all_tasks_blocked()
        assert [error["data"]["code"] for error in ada.of("error")] == ["TOO_MANY_REQUESTS"]
        assert len(connect.hub.requests) == 2
        ada.leave()
        await ada.over.wait()
        assert len(connect.hub.requests) == 0
        assert connect.hub.requests._asked == {}
        bob.say(type="reply", ref=bob.of("request")[0]["id"])
        await wait_all_tasks_blocked()
        assert bob.of("error")


# Typing


async def test_typing_expires_by_itself_for_those_who_know_what_that_means(hubs, autojump_clock):
    async with hubs(typing_timeout=5) as connect:
        ada, bob, eve = [await connect(user) for user in ("ada", "bob", "eve")]
        bob.say(type="subscribe", id="s", room="general")
        await wait_all_tasks_blocked()
        ada.say(type="typing", room="general")
        await trio.sleep(3)
        ada.say(type="typing", room="general")
        await trio.sleep(4)
        assert [message.get("data") for message in bob.of("typing")] == [None, None]
        await trio.sleep(2)
        ended = bob.of("typing")[-1]
        assert (ended["user_id"], ended["data"]["typing"]) == ("ada", False)
        assert [message.get("data") for message in eve.of("typing")] == [None, None], (
            "who only joined hears nothing new"
        )


async def test_typing_ends_with_what_was_typed_with_leaving_and_when_it_is_said(hubs):
    async with hubs() as connect:
        ada, bob = await connect("ada"), await connect("bob")
        bob.say(type="subscribe", id="s", room="general")
        ada.say(type="typing", room="general")
        ada.say(type="chat", room="general", content="there")
        await wait_all_tasks_blocked()
        assert [m.get("data", {}).get("typing") for m in bob.of("typing")] == [None, False]
        ada.say(type="typing", room="general")
        ada.say(type="typing", room="general", data={"typing": False})
        await wait_all_tasks_blocked()
        assert [m.get("data", {}).get("typing") for m in bob.of("typing")[2:]] == [None, False]
        ada.say(type="typing", room="general")
        await wait_all_tasks_blocked()
        ada.leave()
        await ada.over.wait()
        await wait_all_tasks_blocked()
        assert [m.get("data", {}).get("typing") for m in bob.of("typing")[4:]] == [None, False]


# Limits


async def test_a_connection_too_many_is_told_so_and_closed(hubs):
    async with hubs(connections=3, connections_per_user=2) as connect:
        await connect("ada")
        await connect("ada")
        third = await connect("ada")
        assert third.sent[0]["data"]["code"] == "TOO_MANY_CONNECTIONS"
        assert third.closed == (3504, "too many connections")
        bob = await connect("bob")
        assert bob.closed is None
        full = await connect("eve")
        assert full.closed == (3014, "full")
        bob.leave()
        await bob.over.wait()
        assert (await connect("eve")).closed is None
        assert connect.hub.traffic.closed == {3504: 1, 3014: 1}


async def test_too_many_messages_are_refused_and_who_goes_on_is_cut_off(hubs, mock_clock):
    async with hubs(rate=5) as connect:
        wire = await connect()
        for number in range(12):
            wire.say(type="chat", content=str(number))
        await wait_all_tasks_blocked()
        assert len(wire.of("chat")) == 10
        assert [error["data"]["code"] for error in wire.of("error")] == ["RATE_LIMITED"] * 2
        mock_clock.jump(1)
        for _ in range(4):
            wire.say(type="chat", content="later")
        await wait_all_tasks_blocked()
        assert len(wire.of("chat")) == 13
        assert wire.closed is None
        for _ in range(12):
            wire.say(type="chat", content="on and on")
        await wait_all_tasks_blocked()
        assert wire.closed == (3013, "too many messages")


async def test_a_connection_does_not_last_longer_than_it_may(hubs, autojump_clock):
    async with hubs(lifetime=60) as connect:
        wire = await connect()
        await trio.sleep(59)
        assert wire.closed is None
        await trio.sleep(2)
        assert wire.closed == (3005, "expired")


# Leaving


async def test_when_the_hub_leaves_clients_are_told_when_to_come_back(hubs):
    async with hubs() as connect:
        wires = [await connect(str(number)) for number in range(20)]
        connect.hub.leave(None)
        for wire in wires:
            wire.leave()  # the server cancels
            await wire.over.wait()
        pauses = []
        for wire in wires:
            told = wire.of("status")[-1]["data"]
            assert told["event"] == "restart"
            pauses.append(told["reconnect_after_ms"])
            assert wire.closed == (1012, f"restart; reconnect in {pauses[-1]} ms")
    assert len(set(pauses)) > 5
    assert all(0 <= pause <= 1000 for pause in pauses)


async def test_a_client_that_does_not_read_holds_nobody_up_when_the_hub_leaves(hubs, autojump_clock):
    async with hubs() as connect:
        wire = await connect()
        wire.stop_reading()
        connect.hub.leave(None)
        before = trio.current_time()
        wire.leave()
        await wire.over.wait()
        assert trio.current_time() - before <= 0.25


async def test_the_writer_cannot_spin_on_a_connection_that_is_gone():
    line = QueuedLine()
    sent = 0

    async def send(text):  # as servers do when the connection is closed: no checkpoint, no error
        nonlocal sent
        sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.write, send)
        for _ in range(5):
            line.push(orjson.dumps("x"))
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="enough")
    assert sent == 5
    assert line.queued == 0
