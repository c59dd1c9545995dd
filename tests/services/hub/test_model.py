from __future__ import annotations

import re

import orjson
import pytest

from uait.services.hub.model import Join, Leave, Message, MessageType, Publish, Refused, parse


def test_a_message_has_the_fields_that_clients_know_and_no_empty_ones():
    fields = orjson.loads(Message(type=MessageType.CHAT, user_id="ada", room="general", content="hi").encode())

    assert list(fields) == ["id", "type", "user_id", "room", "content", "timestamp"]
    assert fields["type"] == "chat"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", fields["timestamp"])


def test_ids_sort_by_time():
    ids = [Message(type=MessageType.CHAT).id for _ in range(50)]

    assert ids == sorted(ids)


def test_join_and_leave_name_their_room_in_data():
    assert parse(b'{"type": "join", "data": {"room": "tea"}}') == Join("tea")
    assert parse(b'{"type": "leave", "data": {"room": "tea"}}') == Leave("tea")


def test_join_takes_the_room_from_the_message_too():
    assert parse(b'{"type": "join", "room": "tea"}') == Join("tea")


@pytest.mark.parametrize("kind", ["chat", "status", "typing", "presence", "notification", "broadcast"])
def test_every_type_of_a_client_can_be_published(kind):
    raw = orjson.dumps({"type": kind, "room": "tea", "content": "hi", "data": {"a": [1]}})

    assert parse(raw) == Publish(type=MessageType(kind), room="tea", content="hi", data={"a": [1]})


def test_what_the_server_sets_is_not_taken_from_a_client():
    raw = orjson.dumps({"type": "chat", "content": "x", "id": "mine", "user_id": "root", "timestamp": "1970"})

    assert parse(raw) == Publish(type=MessageType.CHAT, content="x")


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "INVALID_JSON"),
        (b"{", "INVALID_JSON"),
        (b"\xff\xfe", "INVALID_JSON"),
        (b'{"type": NaN}', "INVALID_JSON"),
        (b'{"type": "chat", "content": "\\ud800"}', "INVALID_JSON"),
        (b'{"type": "chat", "data": ' + b"[" * 300 + b"]" * 300 + b"}", "INVALID_JSON"),
        (b"[]", "INVALID_MESSAGE"),
        (b'"chat"', "INVALID_MESSAGE"),
        (b"{}", "UNKNOWN_TYPE"),
        (b'{"type": "nonsense"}', "UNKNOWN_TYPE"),
        (b'{"type": "error", "content": "I am the server"}', "UNKNOWN_TYPE"),
        (b'{"type": ["chat"]}', "UNKNOWN_TYPE"),
        (b'{"type": "chat", "content": 5}', "INVALID_MESSAGE"),
        (b'{"type": "chat", "room": 5}', "INVALID_ROOM"),
        (b'{"type": "join"}', "INVALID_ROOM"),
        (b'{"type": "join", "data": {"room": ""}}', "INVALID_ROOM"),
        (b'{"type": "join", "data": {"room": " tea"}}', "INVALID_ROOM"),
        (b'{"type": "join", "data": {"room": "a\\u0000b"}}', "INVALID_ROOM"),
        (b'{"type": "join", "data": {"room": "\\u202egnihton"}}', "INVALID_ROOM"),
        (b'{"type": "join", "data": {"room": "' + b"x" * 101 + b'"}}', "INVALID_ROOM"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_a_code(raw, code):
    with pytest.raises(Refused) as caught:
        parse(raw)
    assert caught.value.code == code


def test_everything_that_is_taken_can_be_sent_on():
    deep = {"type": "chat", "data": None}
    inner = deep
    for _ in range(98):
        inner["data"] = {"data": None}
        inner = inner["data"]
    published = parse(orjson.dumps(deep))

    assert isinstance(published, Publish)
    assert Message(type=published.type, data=published.data).encode()


def test_a_refusal_names_the_message_it_is_about():
    with pytest.raises(Refused) as caught:
        parse(b'{"type": "nonsense", "id": "my-7"}')

    message = caught.value.message()
    assert message.type is MessageType.ERROR
    assert message.data == {"code": "UNKNOWN_TYPE", "ref": "my-7"}
