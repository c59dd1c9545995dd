"""Where memories are kept. Every statement names the user; another one's memory is as one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import attrs
import orjson

from uait.errors import NotFound
from uait.services.memory.model import (
    Memory,
    MemoryChange,
    MemoryList,
    MemoryQuery,
    MemoryStatistics,
    NewMemory,
)
from uait.services.memory.search import owner, selections, spaced
from uait.storage import Database, DatabaseBroken, DatabaseBusy, DatabaseFull, new_id, utc_now

MIGRATIONS = (
    """
    -- The content comes last, so that the rest of a row can be read without its pages.
    CREATE TABLE memory (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        type TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        access_count INTEGER NOT NULL DEFAULT 0,
        last_access TEXT NOT NULL,
        tags TEXT NOT NULL,
        metadata TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT;
    CREATE INDEX memory_by_creation ON memory (user_id, created_at, id);

    CREATE VIRTUAL TABLE memory_text USING fts5(
        owner, content, tags, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
    );
    -- What is deleted leaves no word behind in the index.
    INSERT INTO memory_text(memory_text, rank) VALUES ('secure-delete', 1);

    CREATE TABLE context (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        conversation_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        summary TEXT NOT NULL,
        UNIQUE (user_id, conversation_id)
    ) STRICT;
    CREATE TABLE context_memory (
        context INTEGER NOT NULL REFERENCES context (seq) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
        PRIMARY KEY (context, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX context_memory_by_memory ON context_memory (memory);
    """,
)

COLUMNS = "id, user_id, type, content, metadata, tags, created_at, updated_at, access_count, last_access"

ANSWER_CHARACTERS = 8 * 1024 * 1024
"""An answer ends early when its memories' contents come to more than this together."""

NO_MEMORY = "There is no memory with this id."


class MemoryStore:
    """Memories in SQLite, with a full-text index over content and tags."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, user_id: str, new: NewMemory) -> Memory:
        """Store a memory."""
        now = utc_now()
        memory = Memory(
            id=new_id(),
            user_id=user_id,
            type=new.type,
            content=new.content,
            metadata=new.metadata,
            tags=new.tags,
            created_at=now,
            updated_at=now,
            access_count=0,
            last_access=now,
        )

        def insert(connection: apsw.Connection) -> None:
            connection.execute(
                f"INSERT INTO memory ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    memory.id,
                    user_id,
                    memory.type,
                    memory.content,
                    _json(memory.metadata),
                    _json(memory.tags),
                    now,
                    now,
                    0,
                    now,
                ),
            )
            _index(connection, connection.last_insert_rowid(), memory)

        await self._database.write(insert)
        return memory

    async def get(self, user_id: str, memory_id: str) -> Memory:
        """A memory; that it was asked for is counted.

        Raises:
            NotFound: the user has no such memory.
        """
        try:
            row = await self._database.write(
                lambda connection: connection.execute(
                    "UPDATE memory SET access_count = access_count + 1, last_access = ? WHERE user_id = ? AND id = ? "
                    f"RETURNING {COLUMNS}",
                    (utc_now(), user_id, memory_id),
                ).fetchall()
            )
        except (DatabaseFull, DatabaseBusy, DatabaseBroken):
            # To read is more important than to count.
            row = await self._database.fetch_all(
                f"SELECT {COLUMNS} FROM memory WHERE user_id = ? AND id = ?", (user_id, memory_id)
            )
        if not row:
            raise NotFound(NO_MEMORY)
        return memory_of(row[0])

    async def change(self, user_id: str, memory_id: str, change: MemoryChange) -> Memory:
        """Change what `change` names.

        Raises:
            NotFound: the user has no such memory.
        """
        changes = {key: value for key, value in attrs.asdict(change, recurse=False).items() if value is not None}

        def update(connection: apsw.Connection) -> Memory:
            seq = seq_of(connection, user_id, memory_id)
            before = memory_by_seq(connection, user_id, seq)
            if not changes:
                return before
            after = attrs.evolve(before, **changes, updated_at=utc_now())
            connection.execute(
                "UPDATE memory SET type = ?, content = ?, metadata = ?, tags = ?, updated_at = ? WHERE seq = ? AND user_id = ?",
                (after.type, after.content, _json(after.metadata), _json(after.tags), after.updated_at, seq, user_id),
            )
            _unindex(connection, seq, before)
            _index(connection, seq, after)
            return after

        return await self._database.write(update)

    async def delete(self, user_id: str, memory_id: str) -> None:
        """Delete a memory, its words in the index, and its places in contexts.

        Raises:
            NotFound: the user has no such memory.
        """

        def delete(connection: apsw.Connection) -> None:
            seq = seq_of(connection, user_id, memory_id)
            _unindex(connection, seq, memory_by_seq(connection, user_id, seq))
            connection.execute("DELETE FROM memory WHERE seq = ? AND user_id = ?", (seq, user_id))

        await self._database.write(delete)

    async def search(self, user_id: str, query: MemoryQuery) -> MemoryList:
        """A page of the user's memories that fit: with words, the best first; without, the newest first.

        Raises:
            NotFound: the cursor is none that this list gave.
        """
        ways = selections(user_id, query)

        def read(connection: apsw.Connection) -> MemoryList:
            total, found = 0, []
            # Who has none is spared the index of words; chat asks for everybody, before every answer.
            (some,) = _one(connection, "SELECT EXISTS (SELECT 1 FROM memory WHERE user_id = ?)", (user_id,))
            for way in ways if some else ():
                (total,) = _one(connection, *way.count())
                if total:
                    found = connection.execute(*way.page(query)).fetchall()
                    break
            memories = memories_by_seq(connection, user_id, [seq for (seq,) in found[: query.limit]])
            return MemoryList(
                memories=memories,
                count=len(memories),
                total=total,
                query=query.query,
                next_cursor=way.next_cursor(query, memories) if len(found) > len(memories) else None,
            )

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
        row = await self._database.fetch_one("SELECT count(*) FROM memory")
        return int(row[0]) if row else 0


def memory_of(row: Sequence[Any]) -> Memory:
    """The memory that a row of `COLUMNS` holds."""
    return Memory(
        id=row[0],
        user_id=row[1],
        type=row[2],
        content=row[3],
        metadata=orjson.loads(row[4]),
        tags=orjson.loads(row[5]),
        created_at=row[6],
        updated_at=row[7],
        access_count=row[8],
        last_access=row[9],
    )


def memory_by_seq(connection: apsw.Connection, user_id: str, seq: int) -> Memory:
    """One of the user's memories that is known to be there."""
    return memory_of(_one(connection, f"SELECT {COLUMNS} FROM memory WHERE seq = ? AND user_id = ?", (seq, user_id)))


def memories_by_seq(connection: apsw.Connection, user_id: str, seqs: Iterable[Any]) -> list[Memory]:
    """The user's memories in this order: at least one, and as many as an answer has room for."""
    memories: list[Memory] = []
    room = ANSWER_CHARACTERS
    for seq in seqs:
        memory = memory_by_seq(connection, user_id, seq)
        room -= len(memory.content)
        if memories and room < 0:
            break
        memories.append(memory)
    return memories


def seq_of(connection: apsw.Connection, user_id: str, memory_id: str) -> int:
    """Where a memory stands.

    Raises:
        NotFound: the user has no such memory.
    """
    rows: list[Any] = connection.execute(
        "SELECT seq FROM memory WHERE user_id = ? AND id = ?", (user_id, memory_id)
    ).fetchall()
    if not rows:
        raise NotFound(NO_MEMORY)
    return int(rows[0][0])


def _one(connection: apsw.Connection, sql: str, parameters: Sequence[Any]) -> Any:
    return connection.execute(sql, parameters).fetchall()[0]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _index(connection: apsw.Connection, seq: int, memory: Memory) -> None:
    connection.execute("INSERT INTO memory_text(rowid, owner, content, tags) VALUES (?, ?, ?, ?)", _words(seq, memory))


def _unindex(connection: apsw.Connection, seq: int, memory: Memory) -> None:
    """Take a memory's words out of the index, which must be told what it was given."""
    connection.execute(
        "INSERT INTO memory_text(memory_text, rowid, owner, content, tags) VALUES ('delete', ?, ?, ?, ?)",
        _words(seq, memory),
    )


def _words(seq: int, memory: Memory) -> tuple[int, str, str, str]:
    return seq, owner(memory.user_id), spaced(memory.content), spaced(" ".join(memory.tags))
