"""Where memories are kept, one at a time and many at once. Every statement names the user; another one's memory is as one that does not exist."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import apsw
import attrs
import trio

from uait.errors import NotFound
from uait.services.memory.duplicates import SHOWN, find_alike, find_known, find_same, find_similar, sameness
from uait.services.memory.emptiness import Emptiness
from uait.services.memory.history import MemoryHistory, as_it_was, history_of, record
from uait.services.memory.indexing import index, owner_number, unindex
from uait.services.memory.model import Memory, MemoryChange, MemoryStatistics, NewMemory, SimilarMemory, StoredMemory
from uait.services.memory.rows import (
    COLUMNS,
    LONG,
    NO_MEMORY,
    Prepared,
    insert,
    memory_by_seq,
    memory_of,
    prepare,
    ready,
    seq_of,
    to_text,
)
from uait.services.memory.watch import Changes
from uait.storage import Database, DatabaseBroken, DatabaseBusy, DatabaseFull, format_time, utc_now

PART = 1000
"""Memories of a batch that are stored together: each part whole or not at all, and between two of them others have their turn."""


@attrs.frozen(kw_only=True)
class Added:
    """What became of one memory of a batch. `similar` are ids of memories that are nearly the same."""

    id: str
    deduped: bool = False
    similar: list[str] = attrs.field(factory=list)


class MemoryStore:
    """Memories in SQLite, with a full-text index over content, tags and speakers."""

    def __init__(self, database: Database, changes: Changes | None = None, emptiness: Emptiness | None = None) -> None:
        self._database = database
        self._changes = changes or Changes()
        self._emptiness = emptiness or Emptiness(database)

    async def add(self, user_id: str, new: NewMemory) -> StoredMemory:
        """Store a memory, or find that the very same is there."""
        if len(new.content) > LONG:
            (prepared,) = await _prepare_all(user_id, [new])
        else:
            prepared = prepare(user_id, new, utc_now())

        def write(connection: apsw.Connection) -> StoredMemory:
            owner = owner_number(connection, user_id)
            same = find_same(connection, user_id, prepared)
            if same is not None:
                return _stored(same, deduped=True)
            similar = find_similar(connection, user_id, owner, prepared)
            insert(connection, owner, [prepared])
            return _stored(prepared.memory, similar=similar)

        def tell(stored: StoredMemory) -> None:
            if not stored.deduped:
                self._changes.tell(user_id, "add", [stored.id])

        with self._emptiness.adding(user_id):
            return await self._database.write(write, tell)

    async def add_many(self, user_id: str, new: Sequence[NewMemory]) -> AsyncGenerator[list[Added], None]:
        """Store many, part by part; gives what became of each part once that is durable."""
        for start in range(0, len(new), PART):
            part = await _prepare_all(user_id, new[start : start + PART])
            yield await self.add_part(user_id, part)

    async def add_part(self, user_id: str, part: Sequence[Prepared]) -> list[Added]:
        """Store some in one transaction."""

        def write(connection: apsw.Connection) -> list[Added]:
            owner = owner_number(connection, user_id)
            known = find_known(connection, user_id, part)
            alike = find_alike(connection, owner, part)
            added: list[Added] = []
            fresh: list[Prepared] = []
            for each in part:
                same = known.get(sameness(each))
                if same is not None:
                    added.append(Added(id=same, deduped=True))
                    continue
                known[sameness(each)] = each.memory.id
                fresh.append(each)
                similar: list[str] = []
                if each.row.fingerprint:
                    earlier = alike.setdefault(each.row.fingerprint, [])
                    similar = earlier[:SHOWN]
                    earlier.append(each.memory.id)
                added.append(Added(id=each.memory.id, similar=similar))
            insert(connection, owner, fresh)
            return added

        def tell(added: list[Added]) -> None:
            self._changes.tell(user_id, "add", [each.id for each in added if not each.deduped])

        with self._emptiness.adding(user_id):
            return await self._database.write(write, tell)

    async def get(self, user_id: str, memory_id: str, as_of: str | None = None) -> Memory:
        """A memory; that it was asked for is counted.

        Args:
            as_of: the moment as of which it is shown.

        Raises:
            NotFound: the user has no such memory, or had none then.
        """
        try:
            row = await self._database.write(
                lambda connection: connection.execute(
                    "UPDATE memory SET access_count = access_count + 1, last_access = ? WHERE user_id = ? AND id = ? "
                    f"AND (expires_at IS NULL OR expires_at > ?) RETURNING {COLUMNS}",
                    (now := utc_now(), user_id, memory_id, now),
                ).fetchall()
            )
        except (DatabaseFull, DatabaseBusy, DatabaseBroken):
            # To read is more important than to count.
            row = await self._database.fetch_all(
                f"SELECT {COLUMNS} FROM memory WHERE user_id = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)",
                (user_id, memory_id, utc_now()),
            )
        if not row:
            raise NotFound(NO_MEMORY)
        memory = memory_of(row[0])
        if as_of is None:
            return memory
        if memory.created_at > as_of:
            raise NotFound(NO_MEMORY)
        return await self._database.read(lambda connection: as_it_was(connection, memory, as_of))

    async def change(self, user_id: str, memory_id: str, change: MemoryChange) -> Memory:
        """Change what `change` names, and keep what it was.

        Raises:
            NotFound: the user has no such memory.
        """
        changes = {key: value for key, value in attrs.asdict(change, recurse=False).items() if value is not None}
        for key in ("occurred_at", "valid_from", "valid_until", "expires_at"):
            if key in changes:
                changes[key] = format_time(changes[key])
        return await self._change(user_id, memory_id, changes, "change")

    async def invalidate(self, user_id: str, memory_id: str) -> Memory:
        """End a memory's validity now: it stays, and is only found by asking for the time before.

        Raises:
            NotFound: the user has no such memory.
        """
        return await self._change(user_id, memory_id, {"valid_until": utc_now()}, "invalidate")

    async def _change(self, user_id: str, memory_id: str, changes: dict[str, Any], event: str) -> Memory:
        def update(connection: apsw.Connection) -> Memory:
            seq = seq_of(connection, user_id, memory_id)
            before = memory_by_seq(connection, user_id, seq)
            if before is None:
                raise NotFound(NO_MEMORY)
            if not changes:
                return before
            after = attrs.evolve(before, **changes, updated_at=utc_now())
            record(connection, seq, event, before, after)
            prepared = ready(after)
            connection.execute(
                "UPDATE memory SET type = ?, content = ?, metadata = ?, tags = ?, updated_at = ?, importance = ?, occurred_at = ?, "
                "valid_from = ?, valid_until = ?, expires_at = ?, digest = ? WHERE seq = ? AND user_id = ?",
                (
                    after.type, after.content, to_text(after.metadata), to_text(after.tags), after.updated_at, after.importance,
                    after.occurred_at, after.valid_from, after.valid_until, after.expires_at, prepared.digest, seq, user_id,
                ),
            )  # fmt: skip
            unindex(connection, [seq])
            index(connection, owner_number(connection, user_id), [(seq, prepared.row)])
            if after.content != before.content:
                connection.execute("DELETE FROM memory_vector WHERE seq = ?", (seq,))
            return after

        def tell(_: Memory) -> None:
            if changes:
                self._changes.tell(user_id, event, [memory_id])

        return await self._database.write(update, tell)

    async def history(self, user_id: str, memory_id: str) -> MemoryHistory:
        """All versions of a memory.

        Raises:
            NotFound: the user has no such memory.
        """

        def read(connection: apsw.Connection) -> MemoryHistory:
            memory = memory_by_seq(connection, user_id, seq_of(connection, user_id, memory_id))
            if memory is None:
                raise NotFound(NO_MEMORY)
            return history_of(connection, memory)

        return await self._database.read(read)

    async def statistics(self, user_id: str) -> MemoryStatistics:
        """What the user has stored."""

        def read(connection: apsw.Connection) -> MemoryStatistics:
            rows: list[Any] = connection.execute(
                "SELECT type, count(*), sum(length(content)), min(created_at), max(created_at) FROM memory "
                "WHERE user_id = ? GROUP BY type ORDER BY 2 DESC, 1",
                (user_id,),
            ).fetchall()
            return MemoryStatistics(
                total=sum(row[1] for row in rows),
                characters=sum(row[2] for row in rows),
                types={row[0]: row[1] for row in rows},
                first=min((row[3] for row in rows), default=None),
                last=max((row[4] for row in rows), default=None),
            )

        return await self._database.read(read)

    async def count(self) -> int:
        """How many memories there are, of all users."""
        row = await self._database.fetch_one("SELECT coalesce(sum(memories), 0) FROM owner")
        return int(row[0]) if row else 0


async def _prepare_all(user_id: str, new: Sequence[NewMemory]) -> list[Prepared]:
    """In a thread: so many words take long enough to keep everybody else waiting. On cancellation it returns at once, and the thread ends after the memory that it is at."""

    def prepare_each() -> list[Prepared]:
        prepared = []
        for each in new:
            trio.from_thread.check_cancelled()
            prepared.append(prepare(user_id, each, now))
        return prepared

    now = utc_now()
    return await trio.to_thread.run_sync(prepare_each, abandon_on_cancel=True)


def _stored(memory: Memory, *, deduped: bool = False, similar: Sequence[SimilarMemory] = ()) -> StoredMemory:
    return StoredMemory(**attrs.asdict(memory, recurse=False), deduped=deduped, similar=list(similar))
