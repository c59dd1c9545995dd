from __future__ import annotations

import orjson
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from uait.feeds import Feed
from uait.services.hub.model import HubSettings, Message, MessageType, Refused
from uait.services.hub.rooms import Rooms


def chat(room, content="hi", kind=MessageType.CHAT):
    return Message(type=kind, user_id="ada", room=room, content=content)


def test_everybody_starts_in_general(make_rooms, listener):
    rooms, ada = make_rooms(), listener("ada")

    with rooms.present(ada):
        assert rooms.rooms_of(ada) == ["general"]


def test_a_message_reaches_everybody_in_its_room_and_nobody_else(make_rooms, listener):
    rooms, ada, bob, eve = make_rooms(), listener("ada"), listener("bob"), listener("eve")
    with rooms.present(ada), rooms.present(bob), rooms.present(eve):
        rooms.join(ada, "tea")
        rooms.join(bob, "tea")
        for one in (ada, bob, eve):
            one.texts.clear()

        assert rooms.say(ada, chat("tea")) == 2

        assert [message["content"] for message in bob.messages] == ["hi"]
        assert [message["content"] for message in ada.messages] == ["hi"]
        assert eve.messages == []


def test_everybody_in_a_room_is_given_the_same_text_object(make_rooms, listener):
    rooms, ada, bob = make_rooms(), listener("ada"), listener("bob")
    with rooms.present(ada), rooms.present(bob):
        rooms.publish(chat("general"))

        assert ada.texts[-1] is bob.texts[-1]


def test_a_message_without_a_room_reaches_everybody(make_rooms, listener):
    rooms, ada, bob = make_rooms(), listener("ada"), listener("bob")
    with rooms.present(ada), rooms.present(bob):
        rooms.leave(bob, "general")

        assert rooms.publish(chat(None, kind=MessageType.BROADCAST)) == 2
        assert bob.messages[-1]["type"] == "broadcast"


def test_who_is_not_in_a_room_cannot_write_to_it(make_rooms, listener):
    rooms, ada, bob = make_rooms(), listener("ada"), listener("bob")
    with rooms.present(ada), rooms.present(bob):
        rooms.join(bob, "tea")

        with pytest.raises(Refused) as caught:
            rooms.say(ada, chat("tea"))
        assert caught.value.code == "NOT_IN_ROOM"


def test_the_others_are_told_who_comes_and_who_goes(make_rooms, listener):
    rooms, ada, bob = make_rooms(), listener("ada"), listener("bob")
    with rooms.present(ada):
        with rooms.present(bob):
            assert bob.messages == []
        come, go = ada.messages

    assert (come["type"], come["room"], come["user_id"]) == ("presence", "general", "bob")
    assert come["data"] == {"event": "join", "client_id": bob.client_id, "members": 2}
    assert go["data"] == {"event": "leave", "client_id": bob.client_id, "members": 1}


def test_in_a_crowd_nobody_is_told_who_comes_and_goes(make_rooms, listener):
    rooms, crowd = make_rooms(presence_members=2), [listener(str(number)) for number in range(4)]
    with rooms.present(crowd[0]), rooms.present(crowd[1]), rooms.present(crowd[2]), rooms.present(crowd[3]):
        assert [len(one.messages) for one in crowd] == [2, 1, 0, 0]


def test_joining_twice_is_joining_once(make_rooms, listener):
    rooms, ada, bob = make_rooms(), listener("ada"), listener("bob")
    with rooms.present(ada), rooms.present(bob):
        rooms.join(ada, "tea")
        rooms.join(bob, "tea")
        rooms.join(bob, "tea")

        assert [message["data"]["event"] for message in ada.messages] == ["join", "join"]
        rooms.leave(bob, "tea")
        with pytest.raises(Refused):
            rooms.leave(bob, "tea")


def test_a_client_is_in_a_bounded_number_of_rooms(make_rooms, listener):
    rooms, ada = make_rooms(rooms_per_client=2), listener("ada")
    with rooms.present(ada):
        rooms.join(ada, "one")
        with pytest.raises(Refused) as caught:
            rooms.join(ada, "two")
        assert caught.value.code == "TOO_MANY_ROOMS"
        rooms.leave(ada, "one")
        rooms.join(ada, "two")


def test_there_is_a_bounded_number_of_rooms(make_rooms, listener):
    rooms, ada = make_rooms(rooms=2), listener("ada")
    with rooms.present(ada):
        rooms.join(ada, "one")
        with pytest.raises(Refused):
            rooms.join(ada, "two")
        assert [room.name for room in rooms.rooms()] == ["general", "one"]


def test_a_room_is_remembered_for_a_while_after_the_last_has_left(make_rooms, listener):
    rooms, ada = make_rooms(quiet_rooms=1), listener("ada")
    with rooms.present(ada):
        for name in ("one", "two"):
            rooms.join(ada, name)
            rooms.say(ada, chat(name, content=f"in {name}"))
        rooms.leave(ada, "one")
        assert [room.name for room in rooms.rooms()] == ["general", "two"]
        [event] = rooms.room("one").history.last(5)
        assert orjson.loads(event.data)["content"] == "in one"

        rooms.leave(ada, "two")
        assert rooms.room("one") is None
        assert len(rooms.room("two").history) == 1
        rooms.join(ada, "two")
        assert rooms.room("two").messages == 1


def test_history_keeps_what_was_said_and_not_who_typed(make_rooms, listener):
    rooms, ada = make_rooms(history=2), listener("ada")
    with rooms.present(ada):
        for number in range(3):
            rooms.say(ada, chat("general", content=str(number)))
            rooms.say(ada, chat("general", kind=MessageType.TYPING))

    kept = [orjson.loads(event.data)["content"] for event in rooms.room("general").history.last(10)]
    assert kept == ["1", "2"]
    assert rooms.room("general").history.offset == 3


def test_a_broadcast_to_a_room_that_nobody_knows_reaches_nobody_and_makes_no_room(make_rooms):
    rooms = make_rooms()

    assert rooms.publish(chat("nowhere")) == 0
    assert rooms.room("nowhere") is None


class Membership(RuleBasedStateMachine):
    """Whatever clients do, the hub knows exactly those who are connected, and only in the rooms they are in."""

    def __init__(self):
        super().__init__()
        self.rooms = Rooms(HubSettings(quiet_rooms=2), Feed)
        self.present = {}
        self.expected = {}

    @rule(user=st.sampled_from("abcdef"))
    def connect(self, user):
        if user not in self.present:
            member = _Member(user)
            scope = self.rooms.present(member)
            scope.__enter__()
            self.present[user] = (member, scope)
            self.expected[user] = {"general"}

    @precondition(lambda self: self.present)
    @rule(data=st.data(), crash=st.booleans())
    def disconnect(self, data, crash):
        user = data.draw(st.sampled_from(sorted(self.present)))
        _, scope = self.present.pop(user)
        del self.expected[user]
        if crash:
            error = ConnectionError()
            assert not scope.__exit__(ConnectionError, error, None)
        else:
            scope.__exit__(None, None, None)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), room=st.sampled_from(["general", "one", "two", "three", "four"]))
    def toggle(self, data, room):
        user = data.draw(st.sampled_from(sorted(self.present)))
        member, _ = self.present[user]
        if room in self.expected[user]:
            self.rooms.leave(member, room)
            self.expected[user].remove(room)
        else:
            self.rooms.join(member, room)
            self.expected[user].add(room)

    @invariant()
    def nobody_is_a_ghost(self):
        assert {client.user_id for client in self.rooms.clients} == set(self.expected)
        listed = {room.name: {member.user_id for member in room.members.values()} for room in self.rooms.rooms()}
        assert set(listed) == {"general"}.union(*self.expected.values())
        for room, members in listed.items():
            assert members == {user for user, rooms in self.expected.items() if room in rooms}
            assert members or room == "general"
        for user, (member, _) in self.present.items():
            assert set(self.rooms.rooms_of(member)) == self.expected[user]


class _Member:
    connected_at = ""
    queued = 0
    slow = False

    def __init__(self, user_id):
        self.user_id = self.client_id = user_id

    def offer(self, text, size):
        pass


TestMembership = Membership.TestCase
TestMembership.settings = hypothesis_settings(max_examples=30, stateful_step_count=30, deadline=None)
