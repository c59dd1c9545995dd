from __future__ import annotations

import re

import orjson
import pytest

from uait.feeds import Position
from uait.services.hub.presence import PresenceMode
from uait.services.hub.protocol import (
    Address,
    Join,
    Leave,
    Message,
    MessageType,
    Publish,
    Refused,
    Reply,
    Request,
    Subscribe,
    Unsubscribe,
    parse,
    ref_of,
    with_offset,
)


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
    for data in ({"a": [1]}, {"event": []}, {"event": "away"}, ["join"]):
        raw = orjson.dumps({"type": kind, "room": "tea", "content": "hi", "data": data})
        assert parse(raw) == Publish(type=MessageType(kind), room="tea", content="hi", data=data)


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
        (b'{"type": "ack"}', "UNKNOWN_TYPE"),
        (b'{"type": "subscribe"}', "INVALID_ROOM"),
        (b'{"type": "subscribe", "room": "tea", "since": 5}', "INVALID_MESSAGE"),
        (b'{"type": "subscribe", "room": "tea", "since": {"offset": 5}}', "INVALID_MESSAGE"),
        (b'{"type": "subscribe", "room": "tea", "since": {"offset": -1, "epoch": "e"}}', "INVALID_MESSAGE"),
        (b'{"type": "subscribe", "room": "tea", "since": {"offset": true, "epoch": "e"}}', "INVALID_MESSAGE"),
        (b'{"type": "subscribe", "room": "tea", "presence": "all"}', "INVALID_MESSAGE"),
        (b'{"type": "subscribe", "room": "tea", "presence": {}}', "INVALID_MESSAGE"),
        (b'{"type": "subscribe", "room": "tea", "id": ""}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "id": 5}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "id": "' + b"x" * 129 + b'"}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "kind": "error"}', "UNKNOWN_TYPE"),
        (b'{"type": "publish", "kind": []}', "UNKNOWN_TYPE"),
        (b'{"type": "publish", "to": {"user": "a", "client": "b"}}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "to": {"room": "a"}}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "to": ""}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "key": 5}', "INVALID_MESSAGE"),
        (b'{"type": "publish", "kind": "presence", "data": {"event": "leave"}}', "RESERVED"),
        (b'{"type": "request", "id": "r"}', "INVALID_MESSAGE"),
        (b'{"type": "request", "to": "bob"}', "INVALID_MESSAGE"),
        (b'{"type": "request", "id": "r", "to": "bob", "timeout_ms": 0}', "INVALID_MESSAGE"),
        (b'{"type": "request", "id": "r", "to": "bob", "timeout_ms": 1.5}', "INVALID_MESSAGE"),
        (b'{"type": "reply", "data": 1}', "INVALID_MESSAGE"),
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
    assert caught.value.error_code == code


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

    message = caught.value.as_message()
    assert message.type is MessageType.ERROR
    assert message.data == {"code": "UNKNOWN_TYPE", "ref": "my-7"}


@pytest.mark.parametrize(
    ("raw", "ref"), [(b'{"id":"a"}', "a"), (b'{"id":1}', None), (b"[]", None), (b"{", None), (b"{}", None)]
)
def test_a_message_that_is_not_looked_at_is_named_where_it_has_a_name(raw, ref):
    assert ref_of(raw) == ref


def test_who_knows_positions_subscribes_and_publishes_with_an_id():
    assert parse(b'{"type": "subscribe", "room": "tea"}') == Subscribe(room="tea")
    full = {"id": "s", "room": "tea", "since": {"offset": 7, "epoch": "e"}, "presence": "diffs"}
    expected = Subscribe(room="tea", since=Position(7, "e"), presence=PresenceMode.DIFFS, ref="s")
    assert parse(orjson.dumps({"type": "subscribe", **full})) == expected
    assert parse(orjson.dumps({"type": "subscribe", "id": "s", "data": full})) == expected
    assert parse(b'{"type": "unsubscribe", "id": "u", "room": "tea"}') == Unsubscribe(room="tea", ref="u")
    raw = {"type": "publish", "id": "p", "room": "tea", "kind": "notification", "content": "hi", "key": "k"}
    assert parse(orjson.dumps(raw)) == Publish(
        type=MessageType.NOTIFICATION, room="tea", content="hi", key="k", ref="p"
    )


@pytest.mark.parametrize(
    ("to", "address"),
    [("bob", Address(user="bob")), ({"user": "bob"}, Address(user="bob")), ({"client": "c"}, Address(client="c"))],
)
def test_a_message_can_be_for_a_user_or_for_one_connection(to, address):
    assert parse(orjson.dumps({"type": "publish", "to": to})) == Publish(type=MessageType.CHAT, to=address)
    raw = {"type": "request", "id": "r", "to": to, "data": 1, "timeout_ms": 1500}
    assert parse(orjson.dumps(raw)) == Request(ref="r", to=address, data=1, timeout=1.5)
    assert parse(b'{"type": "reply", "ref": "x", "data": 2}') == Reply(ref="x", data=2)


def test_the_place_in_the_log_is_added_to_what_is_encoded():
    encoded = Message(type=MessageType.CHAT, content="}").encode()
    assert orjson.loads(with_offset(encoded, 7)) == {**orjson.loads(encoded), "offset": 7}
    assert orjson.loads(with_offset(encoded, 7, 3)) == {**orjson.loads(encoded), "offset": 7, "missed": 3}
