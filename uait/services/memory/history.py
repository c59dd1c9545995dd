"""What memories were before they were changed. An entry holds the fields that a change touched, as they were."""

from __future__ import annotations

from typing import Any

import apsw
import attrs
import orjson

from uait.services.memory.model import Memory
from uait.services.memory.rows import one, seq_of, to_text

KEPT = (
    "type",
    "content",
    "metadata",
    "tags",
    "importance",
    "occurred_at",
    "valid_from",
    "valid_until",
    "expires_at",
    "updated_at",
)
"""The fields of a memory that can change."""

MOST = 1000
"""Entries of one memory that are kept."""


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """One version of a memory.

    Attributes:
        event: `add`, `change` or `invalidate`.
        memory: what it was like from then on.
    """

    version: int
    event: str
    at: str
    memory: Memory


@attrs.frozen(kw_only=True)
class MemoryHistory:
    """All versions of a memory, the first one first."""

    id: str
    versions: list[HistoryEntry]


def record(connection: apsw.Connection, seq: int, event: str, before: Memory, after: Memory) -> None:
    """Note what a memory was before `event` made it what it is."""
    changed = {
        name: getattr(before, name)
        for name in KEPT
        if getattr(before, name) != getattr(after, name) or name == "updated_at"
    }
    put_back(connection, seq, 1, event, after.updated_at, to_text(changed))


def put_back(connection: apsw.Connection, seq: int, version: int, event: str, at: str, before: str) -> None:
    """Note a change after those that are there.

    Args:
        version: which it is, where there are fewer.
    """
    (last,) = one(connection, "SELECT coalesce(max(version), 0) FROM history WHERE memory = ?", (seq,))
    version = max(last + 1, version)
    connection.execute(
        "INSERT INTO history (memory, version, event, at, before) VALUES (?, ?, ?, ?, ?)",
        (seq, version, event, at, before),
    )
    connection.execute("DELETE FROM history WHERE memory = ? AND version <= ?", (seq, version - MOST))


def history_of(connection: apsw.Connection, memory: Memory) -> MemoryHistory:
    """All that is kept of what a memory was."""
    entries = _entries(connection, memory)
    found: list[HistoryEntry] = []
    current = memory
    for version, event, at, before in reversed(entries):
        found.append(HistoryEntry(version=version + 1, event=event, at=at, memory=current))
        current = attrs.evolve(current, **before)
    first = entries[0][0] if entries else 1
    found.append(HistoryEntry(version=first, event="add", at=memory.created_at, memory=current))
    return MemoryHistory(id=memory.id, versions=found[::-1])


def as_it_was(connection: apsw.Connection, memory: Memory, moment: str) -> Memory:
    """A memory as it was at a moment after its creation."""
    if memory.updated_at <= moment:
        return memory
    for _, _, at, before in reversed(_entries(connection, memory)):
        if at <= moment:
            break
        memory = attrs.evolve(memory, **before)
    return memory


def _entries(connection: apsw.Connection, memory: Memory) -> list[tuple[int, str, str, dict[str, Any]]]:
    rows: list[Any] = connection.execute(
        "SELECT version, event, at, before FROM history WHERE memory = ? ORDER BY version",
        (seq_of(connection, memory.user_id, memory.id),),
    ).fetchall()
    return [(version, event, at, orjson.loads(before)) for version, event, at, before in rows]
