"""What travels over the hub: the message, and what a client may ask for. Pure."""

from __future__ import annotations

import enum
from typing import Any, Literal, TypeAlias

import attrs
import orjson
from attrs import validators

from uait.errors import InvalidJSON
from uait.storage.ids import new_id, utc_now
from uait.web.codec import from_json

GENERAL = "general"
"""The room that every client is in from the start."""

ROOM_LENGTH = 100
"""The longest room name, in characters."""


class MessageType(enum.StrEnum):
    CHAT = "chat"
    STATUS = "status"
    TYPING = "typing"
    PRESENCE = "presence"
    NOTIFICATION = "notification"
    BROADCAST = "broadcast"
    ERROR = "error"


TYPE_NAMES = tuple(kind.value for kind in MessageType if kind is not MessageType.ERROR)
"""What a client may publish. `error` is the server's alone."""

TRANSIENT = frozenset({MessageType.TYPING, MessageType.PRESENCE})
"""Of no interest to whoever comes later, so a room's history leaves it out."""


@attrs.frozen(kw_only=True)
class Message:
    """One message as clients get it.

    Attributes:
        type: what it is about.
        user_id: whose it is; empty where the hub itself speaks.
        room: where it was said; None for one client or for everybody.
        content: text.
        data: anything that JSON can hold.
        id: a UUIDv7, so that messages sort by time.
        timestamp: RFC 3339 in UTC.
    """

    type: MessageType
    user_id: str = ""
    room: str | None = None
    content: str | None = None
    data: Any = None
    id: str = attrs.field(factory=new_id)
    timestamp: str = attrs.field(factory=utc_now)

    def encode(self) -> bytes:
        """As JSON in UTF-8. `room`, `content` and `data` are left out where there are none."""
        fields: dict[str, Any] = {"id": self.id, "type": self.type, "user_id": self.user_id}
        for name in ("room", "content", "data"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = value
        fields["timestamp"] = self.timestamp
        return orjson.dumps(fields)


@attrs.frozen
class Join:
    room: str


@attrs.frozen
class Leave:
    room: str


@attrs.frozen(kw_only=True)
class Publish:
    """A client says something. `room` is None where it named none."""

    type: MessageType
    room: str | None = None
    content: str | None = None
    data: Any = None


Inbound: TypeAlias = Join | Leave | Publish


class Refused(Exception):
    """A client's message cannot be carried out. It becomes an `error` message; the connection is kept.

    Attributes:
        code: for programs, UPPER_SNAKE.
        text: one sentence that says what to do.
        ref: the `id` that the client gave its message, where it gave one.
    """

    def __init__(self, code: str, text: str, *, ref: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.ref = ref

    def message(self) -> Message:
        data = {"code": self.code} if self.ref is None else {"code": self.code, "ref": self.ref}
        return Message(type=MessageType.ERROR, content=self.text, data=data)


def check_room(name: Any) -> str:
    """Return `name` where it can name a room: 1 to 100 printable characters, no space at either end. Raises `Refused`."""
    if not isinstance(name, str):
        raise Refused("INVALID_ROOM", "Name the room: a string in data.room.")
    if not 0 < len(name) <= ROOM_LENGTH or not name.isprintable() or name != name.strip():
        raise Refused(
            "INVALID_ROOM",
            f"A room name has 1 to {ROOM_LENGTH} printable characters and neither begins nor ends with a space.",
        )
    return name


def parse(raw: bytes) -> Inbound:
    """Read one message of a client.

    `id`, `user_id` and `timestamp` are the server's to set: what a client sends there is not looked at, except that an error names the client's `id` as `ref`.

    Raises:
        Refused: it is not JSON, not an object, or has values that do not fit.
    """
    try:
        fields = from_json(raw)
    except InvalidJSON:
        raise Refused("INVALID_JSON", "Send each message as one JSON object, not nested too deeply.") from None
    if not isinstance(fields, dict):
        raise Refused("INVALID_MESSAGE", "Send each message as one JSON object.")
    given = fields.get("id")
    ref = given[:ROOM_LENGTH] if isinstance(given, str) else None
    try:
        return _read(fields)
    except Refused as refused:
        refused.ref = ref
        raise


def _read(fields: dict[str, Any]) -> Inbound:
    kind = fields.get("type")
    if kind in ("join", "leave"):
        data = fields.get("data")
        named = data.get("room") if isinstance(data, dict) else None
        room = check_room(fields.get("room") if named is None else named)
        return Join(room) if kind == "join" else Leave(room)
    if not isinstance(kind, str) or kind not in TYPE_NAMES:
        raise Refused("UNKNOWN_TYPE", f"Set 'type' to one of join, leave, {', '.join(TYPE_NAMES)}.")
    content = fields.get("content")
    if content is not None and not isinstance(content, str):
        raise Refused("INVALID_MESSAGE", "'content' is text; send anything else in 'data'.")
    place = fields.get("room")
    return Publish(
        type=MessageType(kind),
        room=None if place is None or place == "" else check_room(place),
        content=content,
        data=fields.get("data"),
    )


@attrs.frozen(kw_only=True)
class BroadcastRequest:
    """The body of `POST /broadcast`. Without `room` it goes to every client; into a room that nobody is in, to nobody."""

    type: Literal["chat", "status", "typing", "presence", "notification", "broadcast"] = "broadcast"
    room: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(ROOM_LENGTH)))
    content: str | None = None
    data: Any = None


@attrs.frozen(kw_only=True)
class Broadcast:
    """What became of it: under which `id` it went out, and to how many clients."""

    success: bool = True
    id: str
    recipients: int


@attrs.frozen(kw_only=True)
class RoomInfo:
    """A room: how many clients are in it, and how many messages it has had."""

    name: str
    clients: int
    messages: int
    created_at: str


@attrs.frozen(kw_only=True)
class RoomList:
    rooms: list[RoomInfo]
    total: int


@attrs.frozen(kw_only=True)
class ClientInfo:
    """A connection. `queued`: how many messages wait because it does not read fast enough."""

    client_id: str
    user_id: str
    rooms: list[str]
    connected_at: str
    queued: int


@attrs.frozen(kw_only=True)
class ClientList:
    clients: list[ClientInfo]
    total: int


@attrs.frozen(kw_only=True)
class Stats:
    """The hub in numbers: now (`clients`, `users`, `rooms`, `queued`) and since its start (the rest).

    Attributes:
        messages: published.
        deliveries: messages times those they went to.
        slow: clients closed because they did not read.
    """

    clients: int
    users: int
    rooms: int
    queued: int
    messages: int
    deliveries: int
    slow: int
    uptime_seconds: float


@attrs.frozen(kw_only=True)
class History:
    """The newest kept messages of a room, oldest first, and the position after the last of them."""

    room: str
    messages: list[dict[str, Any]]
    offset: int
    epoch: str


@attrs.frozen(kw_only=True)
class HubSettings:
    """The section `[hub]`.

    Attributes:
        rooms_per_client: rooms that one client may be in at once, `general` included.
        rooms: rooms that may exist at once.
        message_bytes: the longest message of a client; a longer one is refused, and above the host's limit the connection is closed with 1009.
        queue: messages that may wait for one client before it counts as slow and is closed with 3008.
        queue_bytes: the same in bytes.
        history: messages kept of each room.
        history_bytes: the same in bytes.
        quiet_rooms: rooms without members whose history is kept.
        presence_members: in rooms with more members than this, nobody is told who comes and goes: it would cost the square of their number.
    """

    rooms_per_client: int = attrs.field(default=100, validator=validators.ge(1))
    rooms: int = attrs.field(default=2000, validator=validators.ge(1))
    message_bytes: int = attrs.field(default=65536, validator=validators.ge(256))
    queue: int = attrs.field(default=256, validator=validators.ge(8))
    queue_bytes: int = attrs.field(default=1_048_576, validator=validators.ge(1024))
    history: int = attrs.field(default=100, validator=validators.ge(1))
    history_bytes: int = attrs.field(default=262_144, validator=validators.ge(1024))
    quiet_rooms: int = attrs.field(default=200, validator=validators.ge(0))
    presence_members: int = attrs.field(default=128, validator=validators.ge(0))
