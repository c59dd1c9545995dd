"""What the hub's HTTP face takes and gives, and its settings."""

from __future__ import annotations

from typing import Any, Literal

import attrs
from attrs import validators

from uait.services.hub.protocol import ROOM_LENGTH

USERS = 1000
"""Most users that a room's options name."""

HISTORY = 100_000
"""Most messages that a room can be told to keep."""


@attrs.frozen(kw_only=True)
class Said:
    """Something to be said: `type` is the kind of message, `content` text, `data` anything that JSON can hold."""

    type: Literal["chat", "status", "typing", "notification", "broadcast"] = "chat"
    content: str | None = None
    data: Any = None


@attrs.frozen(kw_only=True)
class RoomMessage(Said):
    """The body of `POST /rooms/{room}/messages`.

    Attributes:
        id: under which it is said once, however often it is sent.
        key: what it is about; a later one with the same key takes its place for members who are slow, in a room that coalesces.
    """

    id: str | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.min_len(1), validators.max_len(128)))
    )
    key: str | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.min_len(1), validators.max_len(128)))
    )


@attrs.frozen(kw_only=True)
class Receipt:
    """What became of it: its place in the room's log where it is kept, how many members had it, and whether it had been said before under its id."""

    success: bool = True
    id: str
    room: str
    offset: int | None
    epoch: str
    recipients: int
    duplicate: bool


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


def _users() -> Any:
    return validators.and_(
        validators.max_len(USERS),
        validators.deep_iterable(validators.and_(validators.min_len(1), validators.max_len(128))),
    )


@attrs.frozen(kw_only=True)
class RoomOptions:
    """The body of `PUT /rooms/{room}`: what a room is like.

    Attributes:
        private: only `members` and the owner may enter it, read it, and know that it exists.
        members: users who may enter it, where it is private.
        publishers: users who may say something, besides the owner; null: everybody who may enter.
        max_members: most connections in it at once; null: no such limit.
        history: messages that are kept; null: as many as the hub keeps by default.
        history_age: seconds after which they are not kept any more; null: as long as the hub keeps them by default.
        slow: what is done about a member that does not keep up: "disconnect" it, "drop_oldest" of what waits for it and say how many, or "coalesce": of messages with the same key only the newest.
        durable: what is kept outlives restarts, and is stored before anybody gets it. It cannot be changed later.
    """

    private: bool = False
    members: list[str] = attrs.field(factory=list, validator=_users())
    publishers: list[str] | None = attrs.field(default=None, validator=validators.optional(_users()))
    max_members: int | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.ge(1), validators.le(1_000_000)))
    )
    history: int | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.ge(0), validators.le(HISTORY)))
    )
    history_age: float | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.gt(0), validators.le(1e9)))
    )
    slow: Literal["disconnect", "drop_oldest", "coalesce"] = "disconnect"
    durable: bool = False

    def lets_in(self, user_id: str, owner: str | None) -> bool:
        """Whether the user may enter, read, and know of it."""
        return not self.private or user_id == owner or user_id in self.members

    def lets_publish(self, user_id: str, owner: str | None) -> bool:
        """Whether the user, who may enter, may say something."""
        return self.publishers is None or user_id == owner or user_id in self.publishers


@attrs.frozen(kw_only=True)
class RoomInfo:
    """A room: how many clients are in it, and how many messages it has had since it was opened."""

    name: str
    clients: int
    messages: int
    created_at: str


@attrs.frozen(kw_only=True)
class RoomDetails(RoomInfo):
    """A room, its options, and how far its log goes. `oldest`: the offset of the oldest message that is kept."""

    owner: str | None
    options: RoomOptions
    offset: int
    epoch: str
    oldest: int
    viewers: int


@attrs.frozen(kw_only=True)
class RoomList:
    rooms: list[RoomInfo]
    total: int


@attrs.frozen(kw_only=True)
class RoomDeleted:
    """It is gone, and so is everything that was done for its members: `clients` of them were in it."""

    success: bool = True
    room: str
    clients: int


@attrs.frozen(kw_only=True)
class MemberInfo:
    client_id: str
    user_id: str


@attrs.frozen(kw_only=True)
class MemberList:
    """Who is in a room now: exactly those whose connections are."""

    room: str
    members: list[MemberInfo]
    total: int


@attrs.frozen(kw_only=True)
class ClientInfo:
    """A connection. `queued`: how many messages, and `queued_bytes` how many bytes, wait because it does not read fast enough."""

    client_id: str
    user_id: str
    rooms: list[str]
    connected_at: str
    queued: int
    queued_bytes: int


@attrs.frozen(kw_only=True)
class ClientList:
    clients: list[ClientInfo]
    total: int


@attrs.frozen(kw_only=True)
class Disconnected:
    """How many connections were ended."""

    success: bool = True
    clients: int


@attrs.frozen(kw_only=True)
class Laggard:
    """A client that does not keep up: `queued` messages and `queued_bytes` wait for it, `dropped` were left out."""

    client_id: str
    user_id: str
    queued: int
    queued_bytes: int
    dropped: int


@attrs.frozen(kw_only=True)
class Stats:
    """The hub in numbers: now (`clients`, `users`, `rooms`, `queued`, `queued_bytes`, `slowest`), over the last seconds (`..._per_second`), and since its start (the rest).

    Attributes:
        messages: published.
        deliveries: messages times those they went to.
        dropped: messages left out for clients that were slow, in rooms that do that.
        slow: clients closed because they did not read.
        closed: connections that the hub ended, by close code.
        requests: requests from client to client that wait for their reply.
        slowest: the clients for whom most waits.
    """

    clients: int
    users: int
    rooms: int
    queued: int
    queued_bytes: int
    messages: int
    messages_in: int
    messages_in_per_second: float
    deliveries: int
    messages_out_per_second: float
    bytes_in: int
    bytes_out: int
    dropped: int
    slow: int
    closed: dict[str, int]
    requests: int
    slowest: list[Laggard]
    uptime_seconds: float


@attrs.frozen(kw_only=True)
class History:
    """Kept messages of a room, oldest first, and the position after the last one of the room. `recovered` is false where some since the position asked for are gone; then there are none here."""

    room: str
    messages: list[dict[str, Any]]
    offset: int
    epoch: str
    recovered: bool


@attrs.frozen(kw_only=True)
class HubSettings:
    """The section `[hub]`.

    Attributes:
        connections: connections at once; one more is closed with 3014.
        connections_per_user: connections of one user at once; one more is closed with 3504.
        lifetime: seconds after which a connection is closed with 3005, so that clients connect again; 0: never.
        operators: users who may manage rooms and connections that are not theirs. Without keys everybody may.
        rooms_per_client: rooms that one client may be in at once, `general` included.
        rooms: rooms that may exist at once, and as many that may be declared.
        message_bytes: the longest message of a client; a longer one is refused, and above the host's limit the connection is closed with 1009.
        rate: messages a second from one client; more are refused, and go on for long with 3013. 0: any number.
        bad_messages: messages that cannot be understood, or ask for more rooms than `rooms_per_client`, one after the other, before the connection is closed with 3501 or 3505.
        queue: messages of one room that may wait for one client, beyond what its connection holds, before it counts as slow; where the room does not say otherwise, it is closed with 3008.
        queue_bytes: the same in bytes.
        history: messages kept of each room.
        history_bytes: the same in bytes.
        history_age: seconds that they are kept; 0: as long as the other two limits let them.
        quiet_rooms: rooms without members whose history is kept in memory.
        presence_members: in rooms with more members than this, nobody is told who comes and goes, only how many there are.
        presence_tick: seconds between two differences, lists or counts of who is there.
        typing_timeout: seconds that somebody is believed to be typing after saying so.
        request_timeout: most seconds that a request from client to client waits for its reply.
        requests: requests of one client that may wait for their reply at once.
    """

    connections: int = attrs.field(default=10_000, validator=validators.ge(1))
    connections_per_user: int = attrs.field(default=1000, validator=validators.ge(1))
    lifetime: float = attrs.field(default=0.0, validator=validators.ge(0))
    operators: tuple[str, ...] = ()
    rooms_per_client: int = attrs.field(default=100, validator=validators.ge(1))
    rooms: int = attrs.field(default=2000, validator=validators.ge(1))
    message_bytes: int = attrs.field(default=65536, validator=validators.ge(256))
    rate: int = attrs.field(default=500, validator=validators.ge(0))
    bad_messages: int = attrs.field(default=100, validator=validators.ge(1))
    queue: int = attrs.field(default=256, validator=validators.ge(8))
    queue_bytes: int = attrs.field(default=1_048_576, validator=validators.ge(1024))
    history: int = attrs.field(default=100, validator=[validators.ge(1), validators.le(HISTORY)])
    history_bytes: int = attrs.field(default=262_144, validator=validators.ge(1024))
    history_age: float = attrs.field(default=0.0, validator=validators.ge(0))
    quiet_rooms: int = attrs.field(default=200, validator=validators.ge(0))
    presence_members: int = attrs.field(default=128, validator=validators.ge(0))
    presence_tick: float = attrs.field(default=1.0, validator=validators.gt(0))
    typing_timeout: float = attrs.field(default=5.0, validator=validators.gt(0))
    request_timeout: float = attrs.field(default=30.0, validator=validators.gt(0))
    requests: int = attrs.field(default=32, validator=validators.ge(1))
