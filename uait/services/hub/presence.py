"""Who is in a room, and how its members hear of it: each coming and going, one difference or one list per tick, or numbers only.

Membership itself is the lifetime of a connection's scope (`Rooms.present`); what is told here follows from it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import trio

from uait.services.hub.audience import Audience, Line


class PresenceMode(enum.StrEnum):
    """What a member hears.

    EVENTS: each coming and going, at once (what `join` gives). DIFFS: a list to begin with, then who came and went, once per tick. FULL: the whole list, once per tick where it changed.
    COUNTS: how many there are, likewise.
    """

    NONE = "none"
    EVENTS = "events"
    DIFFS = "diffs"
    FULL = "full"
    COUNTS = "counts"


class Present(Protocol):
    """A member, as far as presence goes."""

    @property
    def line(self) -> Line: ...
    @property
    def client_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...


LISTS = (PresenceMode.DIFFS, PresenceMode.FULL)


class RoomPresence:
    """One room's presence.

    Args:
        members: by client id; somebody else's, and always as it is now.
        most: in rooms with more members nobody is told each coming and going, and those who asked for lists get numbers: the rest would cost the square of their number.
        tell: encodes news, for (user id, data).
        mark: called when there is something for `flush` to tell.
        behind: called with each member for whom too much waits.
    """

    def __init__(
        self,
        members: Mapping[str, Present],
        *,
        most: int,
        tell: Callable[[str, dict[str, Any]], bytes],
        mark: Callable[[RoomPresence], None],
        behind: Callable[[Any], None],
    ) -> None:
        self._members = members
        self._most = most
        self._tell = tell
        self._mark = mark
        self._behind = behind
        self._watchers: dict[PresenceMode, Audience[Any]] = {}
        # What those who get lists know: the members at the last tick, and whose state may differ from that now.
        self._announced: dict[str, str] = {}
        self._changed: dict[str, None] = {}
        self._crowded = False
        self._counted = -1

    def watch(self, member: Present, mode: PresenceMode) -> list[dict[str, str]] | None:
        """Have `member`, who is in the room already, hear of the others.

        Returns:
            for DIFFS and FULL the list that what comes later builds upon: the members at the last tick. None in a crowd, and for the other modes.
        """
        first = mode in LISTS and not any(map(self._audience, LISTS))
        if mode is not PresenceMode.NONE:
            self._watchers.setdefault(mode, Audience()).add(member)
        if mode is PresenceMode.COUNTS:
            self._counted = -1  # it knows the number of this moment, which need not be that of the last tick
        if mode not in LISTS:
            return None
        if first:
            self._crowded = len(self._members) > self._most
            self._take_in()
        return None if self._crowded else self._listed(self._announced)

    def unwatch(self, member: Present, mode: PresenceMode) -> None:
        """Have `member` hear nothing more."""
        audience = self._watchers.get(mode)
        if audience is not None:
            audience.discard(member)
            if not audience:
                del self._watchers[mode]
        if not any(map(self._audience, LISTS)):
            self._announced.clear()
            self._changed.clear()

    def came(self, member: Present) -> None:
        """`member` is in the room, and does not watch it yet."""
        self._change("join", member)

    def went(self, member: Present) -> None:
        """`member` is not in the room any more, nor watches it."""
        self._change("leave", member)

    def _change(self, event: str, member: Present) -> None:
        if not self._watchers:
            return
        events = self._audience(PresenceMode.EVENTS)
        if events and len(self._members) - (event == "join") <= self._most:
            data = {"event": event, "client_id": member.client_id, "members": len(self._members)}
            self._send(events, self._tell(member.user_id, data))
        if len(self._watchers) > bool(events):
            self._changed[member.client_id] = None
            self._mark(self)

    def flush(self) -> None:
        """Tell what has changed since the last tick."""
        members = len(self._members)
        count = {"event": "count", "members": members}
        if self._counted != members and (counters := self._audience(PresenceMode.COUNTS)):
            self._send(counters, self._tell("", count))
        self._counted = members
        diffs, full = map(self._audience, LISTS)
        if diffs or full:
            was_crowded, self._crowded = self._crowded, members > self._most
            joins, leaves = self._take_in()
            if self._crowded:
                news = later = self._tell("", count)
            else:
                state = self._tell("", {"event": "state", "list": self._listed(self._announced), "members": members})
                diff = {"event": "diff", "joins": joins, "leaves": leaves, "members": members}
                news = state if was_crowded else self._tell("", diff) if joins or leaves else b""
                later = state if was_crowded or joins or leaves else b""
            for audience, payload in ((diffs, news), (full, later)):
                if audience and payload:
                    self._send(audience, payload)

    def _take_in(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Bring what is announced up to date. Returns who came and who went."""
        if self._crowded:
            self._announced.clear()
            self._changed.clear()
            return [], []
        if not self._announced:
            self._changed = dict.fromkeys(self._members)
        joins, leaves = {}, {}
        for client_id in self._changed:
            member = self._members.get(client_id)
            if member is None:
                if (user_id := self._announced.pop(client_id, None)) is not None:
                    leaves[client_id] = user_id
            elif client_id not in self._announced:
                self._announced[client_id] = joins[client_id] = member.user_id
        self._changed.clear()
        return self._listed(joins), self._listed(leaves)

    def _audience(self, mode: PresenceMode) -> Audience[Any] | None:
        return self._watchers.get(mode)

    def _listed(self, members: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"client_id": client_id, "user_id": user_id} for client_id, user_id in members.items()]

    def _send(self, audience: Audience[Any], payload: bytes) -> None:
        for member in audience.send((payload,)):
            self._behind(member)


class Ticker:
    """Flushes what was marked, once per tick, and sleeps while nothing is.

    Args:
        tick: seconds.
    """

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._marked: dict[RoomPresence, None] = {}
        self._wakeup = trio.Event()

    def mark(self, presence: RoomPresence) -> None:
        self._marked[presence] = None
        self._wakeup.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wakeup.wait()
            await trio.sleep(self._tick)
            self._wakeup = trio.Event()
            marked, self._marked = self._marked, {}
            for presence in marked:
                presence.flush()
