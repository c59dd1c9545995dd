"""All rooms and all clients of one hub: who is connected, and who is where."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from uait.feeds import Position
from uait.services.hub.audience import Audience
from uait.services.hub.client import Client
from uait.services.hub.codes import CloseCode
from uait.services.hub.directory import Directory
from uait.services.hub.presence import PresenceMode
from uait.services.hub.protocol import GENERAL, Address, Message, MessageType, Refused
from uait.services.hub.room import Entrance, Membership, Room


class TooMany(Refused):
    """A connection more than there may be. `close` is the code that it is closed with."""

    def __init__(self, text: str, close: CloseCode) -> None:
        super().__init__("TOO_MANY_CONNECTIONS", text, status=429)
        self.close = close


class TooManyRooms(Refused):
    """A room more than one client may be in."""

    insisting = CloseCode.TOO_MANY_ROOMS

    def __init__(self, joined: int) -> None:
        super().__init__(
            "TOO_MANY_ROOMS", f"You are in {joined} rooms, which is the limit: leave one first.", status=429
        )


class Rooms(Directory):
    """A client is in it exactly as long as the block of `present` lasts, so nobody can be listed who is not connected.

    Args:
        counted: told how many clients there are, whenever that changes. For the rest see `Directory`.
    """

    def __init__(self, *arguments: Any, counted: Callable[[int], None], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._counted = counted
        self._clients: dict[str, Client] = {}
        self._users: dict[str, dict[str, Client]] = {}
        self._everyone: Audience[Client] = Audience()
        self._joined: dict[str, dict[str, Membership]] = {}

    # Clients

    @property
    def clients(self) -> Collection[Client]:
        """Everybody who is connected."""
        return self._clients.values()

    @property
    def users(self) -> Collection[str]:
        """The users who have connections."""
        return self._users.keys()

    def clients_of(self, user_id: str) -> list[Client]:
        """The connections of a user."""
        return list(self._users.get(user_id, {}).values())

    def client(self, client_id: str) -> Client | None:
        return self._clients.get(client_id)

    def addressed(self, to: Address) -> list[Client]:
        """The connections that an address stands for."""
        if to.user is not None:
            return self.clients_of(to.user)
        found = self._clients.get(to.client or "")
        return [found] if found is not None else []

    @contextmanager
    def present(self, client: Client, *, general: bool = True) -> Iterator[None]:
        """`client` is connected, and in `general` unless that is not wanted, inside this block; in no room after it, however it ends.

        Raises:
            TooMany: there are as many connections as there may be, in all or of this user.
        """
        if len(self._clients) >= self._settings.connections:
            raise TooMany("The hub has as many connections as it takes: try again later.", CloseCode.FULL)
        mine = self._users.get(client.user_id, {})
        if len(mine) >= self._settings.connections_per_user:
            raise TooMany(
                f"You have {len(mine)} connections, which is the limit: close one first.",
                CloseCode.TOO_MANY_CONNECTIONS,
            )
        client_id = client.client_id
        self._clients[client_id] = client
        self._users.setdefault(client.user_id, {})[client_id] = client
        self._joined[client_id] = {}
        self._everyone.add(client)
        self._counted(len(self._clients))
        try:
            if general:
                self.join(client, self._rooms[GENERAL])
            yield
        finally:
            for membership in list(self._joined[client_id].values()):
                self._leave(membership)
            self._everyone.discard(client)
            del self._joined[client_id], self._clients[client_id]
            connections = self._users[client.user_id]
            del connections[client_id]
            if not connections:
                del self._users[client.user_id]
            self._counted(len(self._clients))

    def memberships(self, client: Client) -> list[Membership]:
        """Where `client` is in, in the order of entering."""
        return list(self._joined.get(client.client_id, {}).values())

    def rooms_of(self, client: Client) -> list[str]:
        """The names of those rooms."""
        return list(self._joined.get(client.client_id, ()))

    # Coming and going

    def join(self, client: Client, room: Room) -> Membership:
        """Put `client` into the room and tell the others. Nothing happens where it is in already.

        Raises:
            Refused: a limit is reached.
        """
        membership = self._joined[client.client_id].get(room.name)
        if membership is None:
            self._check_room_for_one(client, room)
            entrance = room.enter(client)
            membership = entrance.membership
            self._entered(membership)
            room.go_on(entrance)
        return membership

    def subscribe(
        self, client: Client, room: Room, *, presence: PresenceMode | None, since: Position | None
    ) -> Entrance:
        """The same for clients that know positions. The caller tells what stands in the entrance, and then has the room `go_on`."""
        membership = self._joined[client.client_id].get(room.name)
        if membership is not None:
            return room.again(membership, presence, since)
        self._check_room_for_one(client, room)
        entrance = room.enter(client, subscribed=True, presence=presence or PresenceMode.NONE, since=since)
        self._entered(entrance.membership)
        return entrance

    def _check_room_for_one(self, client: Client, room: Room) -> None:
        joined = self._joined[client.client_id]
        if len(joined) >= self._settings.rooms_per_client:
            raise TooManyRooms(len(joined))
        most = room.options.max_members
        if most is not None and len(room.members) >= most:
            raise Refused("ROOM_FULL", f"There are {most} in the room already, which is its limit.")

    def _entered(self, membership: Membership) -> None:
        self._joined[membership.client_id][membership.room.name] = membership
        self._settle(membership.room)

    def leave(self, client: Client, name: str) -> Room:
        """Take `client` out of the room and tell the others. Raises `Refused` where it is not in."""
        membership = self.membership(client, name)
        self._leave(membership)
        return membership.room

    def membership(self, client: Client, name: str) -> Membership:
        """`client`'s membership of the room. Raises `Refused` where it has none."""
        membership = self._joined[client.client_id].get(name)
        if membership is None:
            raise Refused("NOT_IN_ROOM", "You are not in this room: join it first.")
        return membership

    def _leave(self, membership: Membership) -> None:
        del self._joined[membership.client_id][membership.room.name]
        membership.room.leave(membership)
        self._settle(membership.room)

    def _remove(self, membership: Membership, why: str) -> None:
        client, name = membership.client, membership.room.name
        self._leave(membership)
        data = {"room": name, "rooms": self.rooms_of(client), "event": "removed", "reason": why}
        client.tell(
            Message(type=MessageType.STATUS, user_id=client.user_id, room=name, content=f"Left {name}", data=data)
        )

    # For everybody

    def broadcast(self, message: Message) -> int:
        """Give `message`, encoded once, to everybody. Returns how many that are."""
        encoded = message.encode()
        self._cork.flush()
        self._traffic.sent(len(self._everyone), len(encoded))
        for client in self._everyone.send((encoded,)):
            client.check()
        return len(self._everyone)

    def direct(self, message: Message, to: Address) -> int:
        """Give `message` to those it is for. Returns how many connections that were."""
        clients, encoded = self.addressed(to), message.encode()
        self._traffic.sent(len(clients), len(encoded))
        for client in clients:
            client.push(encoded)
        return len(clients)

    def disconnect(self, clients: Collection[Client]) -> None:
        """End connections for good."""
        for client in clients:
            client.cut(CloseCode.DISCONNECTED)
