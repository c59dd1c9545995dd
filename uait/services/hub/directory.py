"""Which rooms there are: found, made, declared, forgotten and deleted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import trio

from uait.errors import Forbidden, NotFound
from uait.feeds import Feed, Journal
from uait.services.hub.cork import Cork
from uait.services.hub.model import HubSettings, RoomOptions
from uait.services.hub.presence import RoomPresence
from uait.services.hub.protocol import GENERAL, Refused
from uait.services.hub.room import Membership, Room
from uait.services.hub.store import Declaration
from uait.services.hub.traffic import Traffic
from uait.storage.ids import utc_now


class Declarations(Protocol):
    """Where declared rooms are kept; `uait.services.hub.store.RoomStore` is one."""

    async def load(self) -> list[Declaration]: ...
    async def save(self, declared: Declaration) -> None: ...
    async def delete(self, name: str) -> None: ...


class Directory(ABC):
    """The rooms of one hub.

    Args:
        settings: the limits.
        traffic: where is counted what goes through.
        new_feed: makes the log of a room that is not durable, by its name and the options of `Feed`.
        journal: opens those of durable ones.
        store: keeps the declared rooms.
        cork: holds what is said to many.
        mark: called with the presence of a room when there is something for its `flush` to tell.
    """

    def __init__(
        self,
        settings: HubSettings,
        traffic: Traffic,
        *,
        new_feed: Callable[..., Feed],
        journal: Journal,
        store: Declarations,
        cork: Cork,
        mark: Callable[[RoomPresence], None],
    ) -> None:
        self._settings = settings
        self._traffic = traffic
        self._new_feed = new_feed
        self._journal = journal
        self._store = store
        self._cork = cork
        self._mark = mark
        self._rooms: dict[str, Room] = {}
        self._quiet: dict[str, None] = {}
        self._declared: dict[str, Declaration] = {}
        # Held while rooms come and go for a while, so that no room is made twice.
        self._changing = trio.Lock()

    async def start(self) -> None:
        """Read which rooms there are. Before anything else."""
        self._declared = {declared.name: declared for declared in await self._store.load()}
        await self._open(GENERAL)

    @abstractmethod
    def _remove(self, membership: Membership, why: str) -> None:
        """Take somebody out of a room, and tell so."""

    # Finding and making rooms

    def rooms(self) -> list[Room]:
        """The rooms that have members, and `general`, by name."""
        return sorted(
            (room for room in self._rooms.values() if room.members or room.name == GENERAL), key=lambda room: room.name
        )

    def listed(self, user_id: str) -> list[Room]:
        """Those of them that the user may know of."""
        return [room for room in self.rooms() if room.options.lets_in(user_id, room.owner)]

    def may_know(self, user_id: str, name: str) -> bool:
        """Whether the user may know that there is a room of this name."""
        room = self._rooms.get(name) or self._declared.get(name)
        return room is None or room.options.lets_in(user_id, room.owner)

    async def find(self, name: str, user_id: str) -> Room:
        """The room, members or not, as long as anything of it is kept.

        Raises:
            NotFound: there is none, or it is private and others'.
        """
        room = self._rooms.get(name)
        if room is None and name in self._declared:
            room = await self._make(name)
        if room is None or not room.options.lets_in(user_id, room.owner):
            raise NotFound("There is no such room, and nothing is kept of it.")
        return room

    async def obtain(self, name: str, user_id: str) -> Room:
        """The room, made where there is none. What is done with it before the next checkpoint finds it as it is.

        Raises:
            Refused: there is one, but not for this user; or as many as there may be.
        """
        room = self._rooms.get(name) or await self._make(name)
        if not room.options.lets_in(user_id, room.owner):
            raise Refused("NO_SUCH_ROOM", "There is no such room.", status=404)
        return room

    async def _make(self, name: str) -> Room:
        async with self._changing:
            room = self._rooms.get(name)
            if room is None:
                if name not in self._declared and len(self._rooms) - len(self._quiet) >= self._settings.rooms:
                    raise Refused(
                        "TOO_MANY_ROOMS", "There are as many rooms as there may be: join one that exists.", status=429
                    )
                room = await self._open(name)
                self._settle(room, wanted=True)
            return room

    async def _open(self, name: str) -> Room:
        declared = self._declared.get(name)
        options = declared.options if declared is not None else RoomOptions()
        room = Room(
            name,
            options,
            self._settings,
            self._traffic,
            owner=declared.owner if declared is not None else None,
            created_at=declared.created_at if declared is not None else None,
            cork=self._cork,
            mark=self._mark,
        )
        kept = self._retention(options)
        if options.durable:
            room.keep_in(await self._journal.open(f"room {name}", on_append=room.deliver, **kept))
        else:
            room.keep_in(self._new_feed(f"room {name}", on_append=room.deliver, **kept))
        self._rooms[name] = room
        return room

    def _retention(self, options: RoomOptions) -> dict[str, Any]:
        settings = self._settings
        return {
            "max_events": settings.history if options.history is None else options.history,
            "max_bytes": settings.history_bytes,
            "max_age": options.history_age or settings.history_age or None,
        }

    def _settle(self, room: Room, *, wanted: bool = False) -> None:
        """Remember, or forget, that nobody is there; and forget the rooms that have been so for the longest, but not one that is `wanted` just now."""
        if self._rooms.get(room.name) is not room:
            return  # it is deleted, and there may be another one of its name
        if room.used or room.name == GENERAL:
            self._quiet.pop(room.name, None)
            return
        self._quiet[room.name] = None
        for name in list(self._quiet)[: max(0, len(self._quiet) - self._settings.quiet_rooms)]:
            quiet = self._rooms[name]
            if (wanted and quiet is room) or (quiet.durable is not None and quiet.durable.pending):
                continue
            del self._quiet[name], self._rooms[name]
            if quiet.durable is not None:
                self._journal.release(quiet.durable)
            else:
                quiet.log.close()

    @contextmanager
    def viewing(self, room: Room) -> Iterator[None]:
        """Somebody reads the room, without being a member, inside this block."""
        room.viewers += 1
        self._settle(room)
        try:
            yield
        finally:
            room.viewers -= 1
            self._settle(room)

    # Managing

    async def declare(self, name: str, user_id: str, options: RoomOptions, *, operator: bool) -> Room:
        """Make a room with these options, or give them to the one that there is. Whoever declares it first owns it.

        Raises:
            NotFound, Forbidden: it is not the user's.
            Refused: it cannot be like that.
        """
        async with self._changing:
            declared, room = self._declared.get(name), self._rooms.get(name)
            if declared is not None:
                self._check_owner(declared.owner, declared.options, user_id, operator)
            elif room is not None and not operator:
                raise Refused("ROOM_EXISTS", "The room is in use, and nobody's: only an operator can change it.")
            elif len(self._declared) >= self._settings.rooms:
                raise Refused("TOO_MANY_ROOMS", "There are as many declared rooms as there may be.", status=429)
            if name == GENERAL and (options.private or options.durable or options.max_members is not None):
                raise Refused(
                    "ROOM_IS_FOR_ALL", "Everybody starts in this room: it is neither private, limited, nor durable."
                )
            before = declared.options.durable if declared is not None else False
            if (room is not None or declared is not None) and options.durable != before:
                raise Refused("ROOM_EXISTS", "Whether a room is durable cannot be changed: delete it first.")
            created_at = room.created_at if room is not None else utc_now()
            new = (
                Declaration(name, declared.owner, declared.created_at, options)
                if declared is not None
                else Declaration(name, user_id, created_at, options)
            )
            await self._store.save(new)
            self._declared[name] = new
            room = self._rooms.get(name)
            if room is None:
                room = await self._open(name)
                self._settle(room, wanted=True)
            else:
                room.options, room.owner = options, new.owner
                room.log.retain(**self._retention(options))
                for membership in list(room.members.values()):
                    if not options.lets_in(membership.user_id, new.owner):
                        self._remove(membership, "private")
            return room

    async def delete(self, name: str, user_id: str, *, operator: bool) -> int:
        """Take everybody out of a room and forget it.

        Returns:
            how many were in it, once nothing is done for them any more.

        Raises:
            NotFound, Forbidden: there is none, or it is not the user's.
            Refused: everybody starts there.
        """
        if name == GENERAL:
            raise Refused("ROOM_IS_FOR_ALL", "Everybody starts in this room: it cannot be deleted.")
        async with self._changing:
            declared, room = self._declared.get(name), self._rooms.get(name)
            owner, options = None, RoomOptions()
            if declared is not None:
                owner, options = declared.owner, declared.options
            elif room is None:
                raise NotFound("There is no such room, and nothing is kept of it.")
            self._check_owner(owner, options, user_id, operator)
            if room is None:
                room = await self._open(name)
            self._declared.pop(name, None)
            del self._rooms[name]
            self._quiet.pop(name, None)
            members = list(room.members.values())
            for membership in members:
                self._remove(membership, "deleted")
            try:
                if room.durable is not None:
                    await self._journal.delete(room.durable)
                else:
                    room.log.close()
                # Last: as long as anything is kept of a room, it is its owner's, who can delete it again.
                if declared is not None:
                    await self._store.delete(name)
            except BaseException:
                if declared is not None:
                    self._declared[name] = declared
                raise
            await room.idle()
            return len(members)

    def _check_owner(self, owner: str | None, options: RoomOptions, user_id: str, operator: bool) -> None:
        if not options.lets_in(user_id, owner):
            raise NotFound("There is no such room, and nothing is kept of it.")
        if user_id != owner and not operator:
            raise Forbidden("Only the owner of a room, or an operator, can do that.")
