"""One room: who is in it, what was said there of late, and how it reaches everybody without waiting for anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs
import trio

from uait.errors import Unavailable
from uait.feeds import DurableFeed, Feed, FeedBusy, FeedClosed, FeedEvent, FeedReader, Position, SlowReader
from uait.services.hub.audience import BUFFER, Audience, Line
from uait.services.hub.client import Client
from uait.services.hub.codes import CloseCode
from uait.services.hub.cork import MANY, Cork
from uait.services.hub.model import HubSettings, RoomOptions
from uait.services.hub.presence import PresenceMode, RoomPresence
from uait.services.hub.protocol import TRANSIENT, Message, MessageType, with_offset
from uait.services.hub.traffic import Traffic
from uait.storage.ids import utc_now


@attrs.frozen
class Published:
    """What became of something said: its place in the log where it is kept, how many members had it, whether it had been said before under this id."""

    offset: int | None
    recipients: int
    duplicate: bool = False


Done: TypeAlias = Callable[[Published | Exception], None]


@attrs.define(eq=False)
class Membership:
    """A client in a room. It is live, and gets what the others get; or it is behind, and reads the log at its own pace until it has caught up.

    Attributes:
        start: what came after this offset it got here, or is getting.
        subscribed: it came by `subscribe`, so that it knows the newer messages.
        reader: what it has still to get, while it is behind.
        work: what is done for it alone lasts no longer than these.
        typing: lasts as long as it is believed to be typing.
        dropped: messages left out because it was slow.
    """

    client: Client
    room: Room
    start: int
    subscribed: bool = False
    presence: PresenceMode = PresenceMode.NONE
    reader: FeedReader | None = None
    work: tuple[trio.CancelScope, ...] = ()
    typing: trio.CancelScope | None = None
    dropped: int = 0

    @property
    def line(self) -> Line:
        return self.client.line

    @property
    def client_id(self) -> str:
        return self.client.client_id

    @property
    def user_id(self) -> str:
        return self.client.user_id


@attrs.frozen
class Entrance:
    """What somebody who enters is told, and is given then.

    Attributes:
        position: what comes is what comes after it.
        recovered: False where something since the position asked for is gone; then nothing is replayed.
        presence: the list that the news of who comes and goes builds upon, where it asked for one.
        reader, missed: what is replayed: with a new membership, or to one that was there already.
    """

    membership: Membership
    position: Position
    recovered: bool
    presence: list[dict[str, str]] | None
    reader: FeedReader | None = None
    missed: list[FeedEvent] = attrs.field(factory=list)

    @property
    def replayed(self) -> int:
        """How many messages it is given that were said before."""
        return len(self.missed) if self.reader is None else len(self.reader)


class Room:
    """A room.

    Args:
        owner: who declared it; None where it was only entered.
        cork: holds what is said to many.
        mark: see `RoomPresence`.

    Attributes:
        log: what is kept of it.
        messages: how many it has had since it was opened.
        viewers: how many read it without being members.
    """

    log: Feed

    def __init__(
        self,
        name: str,
        options: RoomOptions,
        settings: HubSettings,
        traffic: Traffic,
        *,
        owner: str | None = None,
        created_at: str | None = None,
        cork: Cork,
        mark: Callable[[RoomPresence], None],
    ) -> None:
        self.name = name
        self.options = options
        self.owner = owner
        self.created_at = created_at or utc_now()
        self.members: dict[str, Membership] = {}
        self.messages = 0
        self.viewers = 0
        self._settings = settings
        self._traffic = traffic
        self._cork = cork
        self._durable: DurableFeed | None = None
        self._live: Audience[Membership] = Audience()
        self._buffer = min(BUFFER, settings.queue_bytes)
        self._tasks = 0
        self._task_ended = trio.lowlevel.ParkingLot()
        self._presence = RoomPresence(
            self.members,
            most=settings.presence_members,
            tell=self._presence_news,
            mark=mark,
            behind=lambda member: member.client.check(),
        )

    def keep_in(self, log: Feed | DurableFeed) -> None:
        """Have what is said kept there. `deliver` is what it calls."""
        self.log, self._durable = (log.log, log) if isinstance(log, DurableFeed) else (log, None)

    @property
    def durable(self) -> DurableFeed | None:
        return self._durable

    @property
    def used(self) -> bool:
        """Whether anybody is there."""
        return bool(self.members or self.viewers)

    # Coming and going

    def enter(
        self,
        client: Client,
        *,
        subscribed: bool = False,
        presence: PresenceMode = PresenceMode.EVENTS,
        since: Position | None = None,
    ) -> Entrance:
        """Make `client`, who is not in it, a member. It gets nothing before `go_on`."""
        self._cork.flush()
        reader = self._read(client, since)
        membership = Membership(client, self, reader.start, subscribed, presence)
        self.members[client.client_id] = membership
        self._presence.came(membership)
        listed = self._presence.watch(membership, presence)
        position = Position(reader.start, self.log.epoch)
        return Entrance(membership, position, reader.recovered, listed, reader=reader)

    def again(self, membership: Membership, presence: PresenceMode | None, since: Position | None) -> Entrance:
        """Have somebody who is in it subscribe. What this connection was given already is not given again."""
        kept = [] if since is None else self.log.since(since.offset, since.epoch)
        missed = [event for event in kept or () if event.offset <= membership.start]
        if missed:
            membership.start = missed[0].offset - 1
        membership.subscribed = True
        if presence is not None:
            self._presence.unwatch(membership, membership.presence)
            membership.presence = presence
        listed = self._presence.watch(membership, membership.presence)
        reached = self.log.offset if membership.reader is None else membership.reader.offset
        return Entrance(membership, Position(reached, self.log.epoch), kept is not None, listed, missed=missed)

    def go_on(self, entrance: Entrance) -> None:
        """Give a member what there is to replay, and, where it is new, what comes."""
        membership, reader = entrance.membership, entrance.reader
        if entrance.missed:
            self._cork.flush()
            if membership.reader is None:
                # What comes waits for what is replayed, so that the last one that it got tells where to go on.
                self._fall_behind(membership, self._read(membership.client, None), entrance.missed)
            else:
                membership.client.start_soon(self._replay, membership, entrance.missed)
        elif reader is None:
            pass
        elif len(reader):
            self._fall_behind(membership, reader)
        else:
            reader.close()
            self._make_live(membership)

    def leave(self, membership: Membership) -> None:
        """Take a membership out. Its tasks end soon after; `idle` waits for that."""
        self._cork.flush()
        if membership.typing is not None:
            self.stop_typing(membership)
        del self.members[membership.client_id]
        self._live.discard(membership)
        if membership.reader is not None:
            membership.reader.close()
            membership.reader = None
        for scope in membership.work:
            scope.cancel(reason="it has left the room")
        self._presence.unwatch(membership, membership.presence)
        self._presence.went(membership)

    # What is said

    def publish(self, message: Message, done: Done, *, key: str | None = None, token: str | None = None) -> None:
        """Give `message`, encoded once, to all members, after it is stored where the room is durable. Never waits.

        Args:
            done: called, maybe at once, with what became of it.
            key: what it is about, for members who are slow in a room that coalesces.
            token: under which it is said once.
        """
        encoded = message.encode()
        if message.type in TRANSIENT:
            self._count()
            self._fan_out(encoded)
            done(Published(None, len(self.members)))
            return
        try:
            if self._durable is not None:
                duplicate = token is not None and self._durable.knows(token)
                self._durable.submit(
                    encoded, key=key, token=token, done=lambda outcome: done(self._published(outcome, duplicate))
                )
            else:
                duplicate = token is not None and self.log.offset_of(token) is not None
                done(self._published(self.log.append(encoded, key=key, token=token), duplicate))
        except (FeedBusy, FeedClosed) as error:
            done(_unavailable(error))

    def _published(self, outcome: int | Exception, duplicate: bool) -> Published | Exception:
        if isinstance(outcome, Exception):
            return _unavailable(outcome)
        return Published(outcome, len(self.members), duplicate)

    def deliver(self, event: FeedEvent) -> None:
        """Called by the log with each event, once it is kept."""
        self._count()
        self._fan_out(with_offset(event.data, event.offset))

    def _count(self) -> None:
        self.messages += 1
        self._traffic.published += 1

    def _fan_out(self, encoded: bytes) -> None:
        if len(self._live) < MANY:
            self.give((encoded,))
        else:
            self._cork.hold(self, encoded)

    def give(self, messages: Sequence[bytes]) -> None:
        """Send everybody who is not behind encoded messages, the last that were said."""
        self._traffic.sent(len(self._live), sum(map(len, messages)), len(messages))
        for membership in self._live.send(messages, self._buffer):
            self._fall_behind(membership, self._read(membership.client, None))

    # Behind, and back

    def _read(self, client: Client, since: Position | None) -> FeedReader:
        return self.log.read(
            None if since is None else since.offset,
            None if since is None else since.epoch,
            policy=self.options.slow,
            queue=self._settings.queue,
            max_bytes=self._settings.queue_bytes,
            on_slow=lambda: client.cut(CloseCode.SLOW),
        )

    def _fall_behind(self, membership: Membership, reader: FeedReader, before: Sequence[FeedEvent] = ()) -> None:
        self._live.discard(membership)
        membership.reader = reader
        membership.client.start_soon(self._catch_up, membership, reader, before)

    async def _catch_up(self, membership: Membership, reader: FeedReader, before: Sequence[FeedEvent]) -> None:
        try:
            with self._work_for(membership):
                for event in before:
                    await self._give(membership, event)
                while not self._is_live_again(membership, reader):
                    event = reader.take_nowait() or await reader.__anext__()
                    membership.dropped += event.missed
                    self._traffic.dropped(event.missed)
                    await self._give(membership, event)
        except (StopAsyncIteration, SlowReader):
            pass  # it has left, or is being cut off

    def _is_live_again(self, membership: Membership, reader: FeedReader) -> bool:
        if len(reader) or membership.reader is not reader or membership.line.queued > self._buffer // 2:
            return False
        # Nothing is said between the look at the reader and this.
        membership.reader = None
        reader.close()
        self._make_live(membership)
        return True

    def _make_live(self, membership: Membership) -> None:
        """Give it what comes. It has what was said, and what is on its way to the others is that, too."""
        self._cork.flush()
        self._live.add(membership)

    async def _replay(self, membership: Membership, missed: list[FeedEvent]) -> None:
        with self._work_for(membership):
            for event in missed:
                await self._give(membership, event)

    async def _give(self, membership: Membership, event: FeedEvent) -> None:
        encoded = with_offset(event.data, event.offset, event.missed)
        self._traffic.sent(1, len(encoded))
        await membership.line.send(encoded)

    @contextmanager
    def _work_for(self, membership: Membership) -> Iterator[None]:
        with self.task(), trio.CancelScope() as scope:
            if self.members.get(membership.client_id) is not membership:
                scope.cancel(reason="it had left the room before this began")
            membership.work = (*membership.work, scope)
            try:
                yield
            finally:
                membership.work = tuple(other for other in membership.work if other is not scope)

    @contextmanager
    def task(self) -> Iterator[None]:
        """Around what is done for a member, for `idle` to wait for."""
        self._tasks += 1
        try:
            yield
        finally:
            self._tasks -= 1
            self._task_ended.unpark_all()

    async def idle(self) -> None:
        """Wait until nothing is done for a member any more."""
        while self._tasks:
            await self._task_ended.park()

    # Typing

    def typing(self, membership: Membership, *, active: bool) -> None:
        """A member says that it is typing, or is not any more. Believed for `typing_timeout`."""
        scope = membership.typing
        if not active:
            membership.typing = None
            if scope is not None:
                scope.cancel(reason="it has stopped typing")
        elif scope is not None and not scope.cancel_called:
            scope.deadline = trio.current_time() + self._settings.typing_timeout
        else:
            membership.typing = trio.CancelScope(deadline=trio.current_time() + self._settings.typing_timeout)
            membership.client.start_soon(self._expire_typing, membership, membership.typing)

    async def _expire_typing(self, membership: Membership, scope: trio.CancelScope) -> None:
        with self.task(), scope:
            await trio.sleep_forever()
        if membership.typing is scope:
            self.stop_typing(membership)

    def stop_typing(self, membership: Membership) -> None:
        """Have it no longer believed, and told to those who know what that means."""
        self.typing(membership, active=False)
        data = {"typing": False, "client_id": membership.client_id}
        encoded = Message(type=MessageType.TYPING, user_id=membership.user_id, room=self.name, data=data).encode()
        for other in self.members.values():
            if other.subscribed and other.reader is None and other is not membership:
                other.client.push(encoded)

    def _presence_news(self, user_id: str, data: dict[str, Any]) -> bytes:
        return Message(type=MessageType.PRESENCE, user_id=user_id, room=self.name, data=data).encode()


def _unavailable(error: Exception) -> Exception:
    if isinstance(error, FeedClosed):
        return Unavailable("The room is being closed.", code="ROOM_CLOSED")
    if isinstance(error, FeedBusy):
        return Unavailable("The room has more to store than it can just now; try again.", code="ROOM_BUSY")
    return error  # the database's own, and bugs
