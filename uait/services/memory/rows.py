"""Memories as rows of the table `memory`: written, and read back. Every statement names the user; another one's memory is as one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import apsw
import attrs
import orjson

from uait.errors import NotFound
from uait.services.memory.indexing import IndexRow, digest, index, index_row, when
from uait.services.memory.model import Memory, NewMemory
from uait.storage import format_time, new_id

COLUMNS = (
    "id, user_id, type, content, metadata, tags, created_at, updated_at, access_count, last_access, "
    "agent_id, session_id, source, occurred_at, importance, valid_from, valid_until, expires_at"
)

ANSWER_CHARACTERS = 8 * 1024 * 1024
"""An answer ends early when its memories' contents come to more than this together."""

LONG = 16 * 1024
"""Characters of a memory from which on its words are better taken in a thread."""

NO_MEMORY = "There is no memory with this id."


@attrs.frozen
class Prepared:
    """A memory ready to be stored: made outside the writer, which is everybody's."""

    memory: Memory
    digest: bytes
    row: IndexRow


def prepare(user_id: str, new: NewMemory, now: str, **given: Any) -> Prepared:
    """Make a memory of what a user told.

    Args:
        given: fields that are not to be made up: `id` and times of an imported one.
    """
    moment = when(new.occurred_at, new.metadata)
    memory = Memory(
        id=given.pop("id", None) or new_id(),
        user_id=user_id,
        type=new.type,
        content=new.content,
        metadata=new.metadata,
        tags=new.tags,
        created_at=given.pop("created_at", None) or now,
        updated_at=given.pop("updated_at", None) or now,
        access_count=given.pop("access_count", 0),
        last_access=given.pop("last_access", None) or now,
        agent_id=new.agent_id,
        session_id=new.session_id if new.session_id is not None else new.run_id,
        source=new.source,
        occurred_at=_time(moment),
        importance=new.importance,
        valid_from=_time(new.valid_from),
        valid_until=_time(new.valid_until),
        expires_at=_time(new.expires_at),
    )
    return ready(memory)


def ready(memory: Memory) -> Prepared:
    """What the writer needs of a memory as it is to be."""
    return Prepared(memory, digest_of(memory), row_of(memory))


def digest_of(memory: Memory) -> bytes:
    """The same for memories of which nothing that was given differs."""
    return digest(
        memory.content, memory.type, memory.tags, memory.metadata, memory.agent_id, memory.session_id, memory.source, memory.occurred_at
    )  # fmt: skip


def row_of(memory: Memory) -> IndexRow:
    """What the index is told of a memory."""
    return index_row(
        memory.user_id,
        memory.content,
        memory.tags,
        memory.metadata,
        session_id=memory.session_id,
        occurred_at=memory.occurred_at,
        created_at=memory.created_at,
    )


def insert(connection: apsw.Connection, owner: int, prepared: Sequence[Prepared]) -> list[int]:
    """Store memories and index them; returns their `seq`."""
    rows: list[Any] = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'memory'), 0)"
    ).fetchall()
    first = int(rows[0][0]) + 1
    connection.executemany(
        f"INSERT INTO memory (seq, {COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(seq, *_values(each.memory), each.digest) for seq, each in enumerate(prepared, first)],
    )
    index(connection, owner, ((seq, each.row) for seq, each in enumerate(prepared, first)))
    return list(range(first, first + len(prepared)))


def _values(memory: Memory) -> tuple[Any, ...]:
    return (
        memory.id, memory.user_id, memory.type, memory.content, to_text(memory.metadata), to_text(memory.tags), memory.created_at,
        memory.updated_at, memory.access_count, memory.last_access, memory.agent_id, memory.session_id, memory.source, memory.occurred_at,
        memory.importance, memory.valid_from, memory.valid_until, memory.expires_at,
    )  # fmt: skip


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
        agent_id=row[10],
        session_id=row[11],
        source=row[12],
        occurred_at=row[13],
        importance=row[14],
        valid_from=row[15],
        valid_until=row[16],
        expires_at=row[17],
    )


def memory_by_seq(connection: apsw.Connection, user_id: str, seq: int) -> Memory | None:
    """One of the user's memories, or None where it has gone."""
    found: list[Any] = connection.execute(
        f"SELECT {COLUMNS} FROM memory WHERE seq = ? AND user_id = ?", (seq, user_id)
    ).fetchall()
    return memory_of(found[0]) if found else None


def memories_by_seq(connection: apsw.Connection, user_id: str, seqs: Iterable[Any]) -> list[Memory]:
    """The user's memories in this order: at least one, and as many as an answer has room for."""
    memories: list[Memory] = []
    room = ANSWER_CHARACTERS
    for seq in seqs:
        memory = memory_by_seq(connection, user_id, seq)
        if memory is None:
            continue
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


def fetch(connection: apsw.Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """All rows of a statement."""
    return connection.execute(sql, parameters).fetchall()


def one(connection: apsw.Connection, sql: str, parameters: Sequence[Any] = ()) -> Any:
    """The first row of a statement that has one."""
    return connection.execute(sql, parameters).fetchall()[0]


def to_text(value: Any) -> str:
    """A value as JSON, for a column."""
    return orjson.dumps(value).decode()


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
