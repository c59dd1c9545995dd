"""Who is in which room, and what everybody there is given. Sync and without I/O: nothing here ever waits for a reader."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

import attrs

from uait.feeds import Feed
from uait.services.hub.model import GENERAL, TRANSIENT, HubSettings, Message, MessageType, Refused
from uait.storage.ids import utc_now


class Member(Protocol):
    """One connection, as rooms see it."""

    @property
    def client_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def connected_at(self) -> str: ...
    @property
    def queued(self) -> int: ...
    @property
    def slow(self) -> bool: ...
    def offer(self, text: str, size: int) -> None:
        """Take one encoded message of `size` bytes, without waiting and without raising, whatever state the connection is in."""


@attrs.define(eq=False)
class Room:
    """A room and what was said in it of late."""

    name: str
    history: Feed
    created_at: str = attrs.field(factory=utc_now)
    members: dict[str, Member] = attrs.field(factory=dict)
    messages: int = 0


class Rooms:
    """All rooms and all clients of one hub.

    A client is in it exactly as long as the block of `present` lasts, so nobody can be listed who is not connected.

    Args:
        settings: the limits.
        new_history: makes the log of a new room, by the room's name.

    Attributes:
        messages: how many were published.
        deliveries: the same, times those who got them.
        slow: how many clients were closed because they did not read.
    """

    def __init__(self, settings: HubSettings, new_history: Callable[[str], Feed]) -> None:
        self._settings = settings
        self._new_history = new_history
        self._clients: dict[str, Member] = {}
        self._joined: dict[str, dict[str, Room]] = {}
        self._rooms: dict[str, Room] = {GENERAL: Room(GENERAL, new_history(GENERAL))}
        self._quiet: dict[str, None] = {}
        self.messages = 0
        self.deliveries = 0
        self.slow = 0

    @property
    def clients(self) -> Collection[Member]:
        """Everybody who is connected."""
        return self._clients.values()

    def rooms(self) -> list[Room]:
        """The rooms that have members, and `general`, by name."""
        return sorted(
            (room for room in self._rooms.values() if room.name not in self._quiet), key=lambda room: room.name
        )

    def room(self, name: str) -> Room | None:
        """The room, members or not, as long as its history is kept."""
        return self._rooms.get(name)

    def rooms_of(self, member: Member) -> list[str]:
        """The names of the rooms that `member` is in, in the order of joining."""
        return list(self._joined.get(member.client_id, ()))

    @contextmanager
    def present(self, member: Member) -> Iterator[None]:
        """`member` is connected, and in `general`, inside this block; in no room after it, however it ends."""
        self._clients[member.client_id] = member
        self._joined[member.client_id] = {}
        try:
            self.join(member, GENERAL)
            yield
        finally:
            del self._clients[member.client_id]
            for room in list(self._joined[member.client_id].values()):
                self._leave(member, room)
            del self._joined[member.client_id]
            self.slow += member.slow

    def join(self, member: Member, name: str) -> Room:
        """Put `member` into the room, making it where needed, and tell the others. Nothing happens where it is in already.

        Raises:
            Refused: a limit is reached.
        """
        joined = self._joined[member.client_id]
        if name in joined:
            return joined[name]
        if len(joined) >= self._settings.rooms_per_client:
            raise Refused("TOO_MANY_ROOMS", f"You are in {len(joined)} rooms, which is the limit: leave one first.")
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) - len(self._quiet) >= self._settings.rooms:
                raise Refused("TOO_MANY_ROOMS", "There are as many rooms as there may be: join one that exists.")
            room = self._rooms[name] = Room(name, self._new_history(name))
        self._quiet.pop(name, None)
        self._tell_presence(room, member, "join", len(room.members) + 1)
        room.members[member.client_id] = member
        joined[name] = room
        return room

    def leave(self, member: Member, name: str) -> Room:
        """Take `member` out of the room and tell the others. Raises `Refused` where it is not in."""
        room = self._joined[member.client_id].get(name)
        if room is None:
            raise Refused("NOT_IN_ROOM", "You are not in this room.")
        self._leave(member, room)
        return room

    def say(self, member: Member, message: Message) -> int:
        """Publish what a client says. Raises `Refused` where it is not in the room."""
        if message.room is not None and message.room not in self._joined[member.client_id]:
            raise Refused("NOT_IN_ROOM", "Join the room before you write to it.")
        return self.publish(message)

    def publish(self, message: Message) -> int:
        """Give `message`, encoded once, to everybody in its room, or to everybody where it has none.

        Returns:
            How many it was given to. 0 where there is no such room; it is kept nowhere then.
        """
        if message.room is None:
            self.messages += 1
            return self._deliver(self._clients.values(), message.encode())
        room = self._rooms.get(message.room)
        if room is None:
            return 0
        encoded = message.encode()
        self.messages += 1
        room.messages += 1
        if message.type not in TRANSIENT:
            room.history.append(encoded)
        return self._deliver(room.members.values(), encoded)

    def _leave(self, member: Member, room: Room) -> None:
        del room.members[member.client_id]
        del self._joined[member.client_id][room.name]
        self._tell_presence(room, member, "leave", len(room.members))
        if not room.members and room.name != GENERAL:
            self._quiet[room.name] = None
            while len(self._quiet) > self._settings.quiet_rooms:
                forgotten = next(iter(self._quiet))
                del self._quiet[forgotten]
                self._rooms.pop(forgotten).history.close()

    def _tell_presence(self, room: Room, member: Member, event: str, members: int) -> None:
        if 0 < len(room.members) <= self._settings.presence_members:
            news = Message(
                type=MessageType.PRESENCE,
                user_id=member.user_id,
                room=room.name,
                data={"event": event, "client_id": member.client_id, "members": members},
            )
            self._deliver(room.members.values(), news.encode())

    def _deliver(self, members: Collection[Member], encoded: bytes) -> int:
        text, size = encoded.decode(), len(encoded)
        for member in members:
            member.offer(text, size)
        self.deliveries += len(members)
        return len(members)
