"""What travels over the hub's WebSocket: the message, and what a client may ask for. Pure.

Every client may send `chat`, `status`, `typing`, `presence`, `notification`, `broadcast`, `join` and `leave`, and gets those and `error`. Who sends one of the following gets its answer,
which names the message it answers by the `id` given there, as `data.ref`:

| a client sends | and gets |
| --- | --- |
| `{"type": "subscribe", "id", "room", "since": {"offset", "epoch"}, "presence": "none" \\| "events" \\| "diffs" \\| "full" \\| "counts"}` | `subscribed` with `data: {ref, room, position: {offset, epoch}, recovered, replayed, members, presence}`, then what came after `since`, then what comes. `recovered` is false where that cannot be said completely; then nothing is replayed |
| `{"type": "unsubscribe", "id", "room"}` | `unsubscribed` with `data: {ref, room, position}` |
| `{"type": "publish", "id", "room", "kind", "content", "data", "key"}` | `ack` with `data: {ref, room, offset, epoch, recipients, duplicate}`, as soon as it is stored where the room is durable. The same id again publishes nothing |
| `{"type": "publish", "id", "to": USER, ...}` | `ack` with `data: {ref, recipients}`; it went to all connections of that user, or to one: `"to": {"client": ID}` |
| `{"type": "request", "id", "to", "content", "data", "timeout_ms"}` | `reply` with `data: {ref, data}`, or an `error` |
| `{"type": "reply", "ref", "content", "data"}`, to a `request` that it got with this `id` | |

Messages that a room keeps carry their `offset` there, and `missed`, where some before it were left out for a client that is slow.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, TypeAlias

import attrs
import orjson

from uait.errors import APIError, InvalidJSON
from uait.feeds import Position
from uait.heap import exact
from uait.services.hub.codes import CloseCode
from uait.services.hub.presence import PresenceMode
from uait.storage.ids import new_id, utc_now
from uait.web.codec import from_json

GENERAL = "general"
"""The room that every client is in from the start."""

ROOM_LENGTH = 100
"""The longest room name, in characters."""

ID_LENGTH = 128
"""The longest id that a client gives a message, in characters."""


class MessageType(enum.StrEnum):
    CHAT = "chat"
    STATUS = "status"
    TYPING = "typing"
    PRESENCE = "presence"
    NOTIFICATION = "notification"
    BROADCAST = "broadcast"
    ERROR = "error"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    ACK = "ack"
    REQUEST = "request"
    REPLY = "reply"


KINDS = ("chat", "status", "typing", "presence", "notification", "broadcast")
"""What a client may publish. The rest is the server's alone."""

TRANSIENT = frozenset({MessageType.TYPING, MessageType.PRESENCE})
"""Of no interest to whoever comes later, so a room's history leaves it out."""

SERVER_EVENTS = ("join", "leave", "diff", "state", "count")
"""What `data.event` of a `presence` message is where the hub speaks. A client that said so could make others believe in ghosts."""


@attrs.frozen(kw_only=True)
class Message:
    """One message as clients get it.

    Attributes:
        type: what it is about.
        user_id: whose it is; empty where the hub itself speaks.
        room: where it was said; None for one client or for everybody.
        to: the user for whom alone it is.
        content: text.
        data: anything that JSON can hold.
        id: a UUIDv7, so that messages sort by time.
        timestamp: RFC 3339 in UTC.
    """

    type: MessageType
    user_id: str = ""
    room: str | None = None
    to: str | None = None
    content: str | None = None
    data: Any = None
    id: str = attrs.field(factory=new_id)
    timestamp: str = attrs.field(factory=utc_now)

    def encode(self) -> bytes:
        """As JSON in UTF-8. `room`, `to`, `content` and `data` are left out where there are none."""
        fields: dict[str, Any] = {"id": self.id, "type": self.type, "user_id": self.user_id}
        for name in ("room", "to", "content", "data"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = value
        fields["timestamp"] = self.timestamp
        return exact(orjson.dumps(fields))  # it may have to wait for many slow clients


def with_offset(encoded: bytes, offset: int, missed: int = 0) -> bytes:
    """An encoded message, with its place in the log. What is stored does not have it, for it is known only when it is stored."""
    if missed:
        return b'%s,"offset":%d,"missed":%d}' % (encoded[:-1], offset, missed)
    return b'%s,"offset":%d}' % (encoded[:-1], offset)


@attrs.frozen
class Join:
    room: str


@attrs.frozen
class Leave:
    room: str


@attrs.frozen(kw_only=True)
class Subscribe:
    """Enter a room, and have what came after `since`. `presence` None: as before, or none."""

    room: str
    since: Position | None = None
    presence: PresenceMode | None = None
    ref: str | None = None


@attrs.frozen(kw_only=True)
class Unsubscribe:
    room: str
    ref: str | None = None


@attrs.frozen
class Address:
    """Whom a message is for: all connections of a user, or one connection."""

    user: str | None = None
    client: str | None = None


@attrs.frozen(kw_only=True)
class Publish:
    """A client says something. `room` is None where it named none; `ref` is the id under which it is said once, and acknowledged."""

    type: MessageType
    room: str | None = None
    to: Address | None = None
    content: str | None = None
    data: Any = None
    key: str | None = None
    ref: str | None = None


@attrs.frozen(kw_only=True)
class Request:
    """A client asks another one. `timeout` is in seconds; None: as long as the hub lets it."""

    ref: str
    to: Address
    content: str | None = None
    data: Any = None
    timeout: float | None = None


@attrs.frozen(kw_only=True)
class Reply:
    """The answer to the request that came under the id `ref`."""

    ref: str
    content: str | None = None
    data: Any = None


Inbound: TypeAlias = Join | Leave | Subscribe | Unsubscribe | Publish | Request | Reply


class Refused(APIError):
    """Something that a client asked for cannot be done. Over the WebSocket it becomes an `error` message, and the connection is kept; over HTTP an error body.

    Attributes:
        ref: the `id` that the client gave its message, where it gave one.
        insisting: the code that a connection is closed with where its client asks for nothing else, time after time; None where that harms nobody.
    """

    insisting: ClassVar[CloseCode | None] = None

    def __init__(self, code: str, text: str, *, status: int = 409, ref: str | None = None) -> None:
        super().__init__(text, code=code, status=status)
        self.ref = ref

    def as_message(self) -> Message:
        data = {"code": self.error_code} if self.ref is None else {"code": self.error_code, "ref": self.ref}
        return Message(type=MessageType.ERROR, content=self.text, data=data)


class Malformed(Refused):
    """A message that cannot be understood, whatever the state of things."""

    insisting = CloseCode.BAD_MESSAGES

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text, status=422)


def check_room(name: Any) -> str:
    """Return `name` where it can name a room: 1 to 100 printable characters, no space at either end. Raises `Malformed`."""
    if not isinstance(name, str):
        raise Malformed("INVALID_ROOM", "Name the room: a string in data.room.")
    if not 0 < len(name) <= ROOM_LENGTH or not name.isprintable() or name != name.strip():
        raise Malformed(
            "INVALID_ROOM",
            f"A room name has 1 to {ROOM_LENGTH} printable characters and neither begins nor ends with a space.",
        )
    return name


def parse(raw: bytes) -> Inbound:
    """Read one message of a client.

    `user_id` and `timestamp` are the server's to set: what a client sends there is not looked at. So is `id` of the messages that have always been; an error names it all the same.

    Raises:
        Malformed: it is not JSON, not an object, or has values that do not fit.
    """
    try:
        fields = from_json(raw)
    except InvalidJSON:
        raise Malformed("INVALID_JSON", "Send each message as one JSON object, not nested too deeply.") from None
    if not isinstance(fields, dict):
        raise Malformed("INVALID_MESSAGE", "Send each message as one JSON object.")
    try:
        return _read(fields)
    except Refused as refused:
        refused.ref = _given_id(fields)
        raise


def ref_of(raw: bytes) -> str | None:
    """The id that a client gave a message that is refused whatever it says, as far as it has one."""
    try:
        return _given_id(from_json(raw))
    except InvalidJSON:
        return None


def _given_id(fields: Any) -> str | None:
    given = fields.get("id") if isinstance(fields, dict) else None
    return given[:ID_LENGTH] if isinstance(given, str) else None


def _read(fields: dict[str, Any]) -> Inbound:
    match fields.get("type"):
        case "join":
            return Join(check_room(_in_data(fields, "room")))
        case "leave":
            return Leave(check_room(_in_data(fields, "room")))
        case "subscribe":
            return Subscribe(
                room=check_room(_in_data(fields, "room")),
                since=_position(_in_data(fields, "since")),
                presence=_mode(_in_data(fields, "presence")),
                ref=_text(fields, "id"),
            )
        case "unsubscribe":
            return Unsubscribe(room=check_room(_in_data(fields, "room")), ref=_text(fields, "id"))
        case "publish":
            kind = fields.get("kind", "chat")
            if kind not in KINDS:
                raise Malformed("UNKNOWN_TYPE", f"Set 'kind' to one of {', '.join(KINDS)}.")
            return _publish(fields, kind, to=_address(fields), key=_text(fields, "key"), ref=_text(fields, "id"))
        case "request":
            ref, to = _text(fields, "id"), _address(fields)
            if ref is None or to is None:
                raise Malformed("INVALID_MESSAGE", "A request has an 'id', and says in 'to' whom it is for.")
            return Request(ref=ref, to=to, content=_content(fields), data=fields.get("data"), timeout=_seconds(fields))
        case "reply":
            ref = _text(fields, "ref")
            if ref is None:
                raise Malformed("INVALID_MESSAGE", "A reply names in 'ref' the id of the request that it answers.")
            return Reply(ref=ref, content=_content(fields), data=fields.get("data"))
        case str() as kind if kind in KINDS:
            return _publish(fields, kind)
        case _:
            known = ("join", "leave", "subscribe", "unsubscribe", "publish", "request", "reply", *KINDS)
            raise Malformed("UNKNOWN_TYPE", f"Set 'type' to one of {', '.join(known)}.")


def _publish(fields: dict[str, Any], kind: str, **rest: Any) -> Publish:
    place, data = fields.get("room"), fields.get("data")
    check_presence(kind, data)
    return Publish(
        type=MessageType(kind),
        room=None if place is None or place == "" else check_room(place),
        content=_content(fields),
        data=data,
        **rest,
    )


def check_presence(kind: str, data: Any) -> None:
    """Refuse a message that says what the hub alone says. Raises `Malformed`."""
    if kind == "presence" and isinstance(data, dict) and data.get("event") in SERVER_EVENTS:
        raise Malformed("RESERVED", "Who is there the hub alone says: use another 'data.event'.")


def _in_data(fields: dict[str, Any], name: str) -> Any:
    data = fields.get("data")
    value = data.get(name) if isinstance(data, dict) else None
    return fields.get(name) if value is None else value


def _content(fields: dict[str, Any]) -> str | None:
    content = fields.get("content")
    if content is not None and not isinstance(content, str):
        raise Malformed("INVALID_MESSAGE", "'content' is text; send anything else in 'data'.")
    return content


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= ID_LENGTH):
        raise Malformed("INVALID_MESSAGE", f"'{name}' is text of 1 to {ID_LENGTH} characters.")
    return value


def _position(value: Any) -> Position | None:
    if value is None:
        return None
    if isinstance(value, dict):
        offset, epoch = value.get("offset"), value.get("epoch")
        if type(offset) is int and offset >= 0 and isinstance(epoch, str):
            return Position(offset, epoch)
    raise Malformed("INVALID_MESSAGE", "'since' is a position that the hub gave: its 'offset' and its 'epoch'.")


def _mode(value: Any) -> PresenceMode | None:
    if value is None:
        return None
    try:
        return PresenceMode(value)
    except ValueError:
        raise Malformed("INVALID_MESSAGE", f"Set 'presence' to one of {', '.join(PresenceMode)}.") from None


def _address(fields: dict[str, Any]) -> Address | None:
    to = fields.get("to")
    if to is None:
        return None
    if isinstance(to, str) and to:
        return Address(user=to)
    if isinstance(to, dict) and len(to) == 1:
        [(kind, name)] = to.items()
        if kind in ("user", "client") and isinstance(name, str) and name:
            return Address(**{kind: name})
    raise Malformed("INVALID_MESSAGE", "'to' is a user's id, or {'user': ID}, or {'client': ID}.")


def _seconds(fields: dict[str, Any]) -> float | None:
    given = fields.get("timeout_ms")
    if given is None:
        return None
    if type(given) is not int or not 0 < given <= 86_400_000:
        raise Malformed("INVALID_MESSAGE", "'timeout_ms' is a number of milliseconds, above 0.")
    return given / 1000
