"""Take it with you: all of a user's memories and contexts as JSON lines (and back: `importing.py`).

The first line tells what it is; then come memories, oldest first, each followed by what it was before its changes where that is asked for, and contexts. Every line is an object with a `kind`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import apsw
import attrs

from uait.services.memory.rows import COLUMNS, memory_of
from uait.storage import Database, utc_now
from uait.web import from_json, to_json

FORMAT = "uait-memory"
VERSION = 1
PAGE = 200

PIECE = 4 * 1024 * 1024
"""Bytes of lines that are sent together, about."""


@attrs.frozen
class ExportQuery:
    """`history`: with what each memory was before its changes."""

    history: bool = False


class Export:
    """The lines of an export, some at a time. Every memory that is there from the beginning to the end is in it once."""

    def __init__(self, database: Database, user_id: str, *, history: bool = False) -> None:
        self._database = database
        self._user_id = user_id
        self._history = history
        self._after = 0
        self._last = 0
        """The last memory that was told. Contexts may have later ones by then, which no import of these lines could find."""

        self._version: int | None = None
        """Of the memory at `_after`, the last version that was told, as long as there may be more."""

        self._step: Literal["header", "memories", "contexts", "end"] = "header"

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            match self._step:
                case "header":
                    self._step = "memories"
                    return await self._header()
                case "memories":
                    lines = await self._database.read(self._memories)
                    if lines:
                        return lines
                    self._step, self._last, self._after = "contexts", self._after, 0
                case "contexts":
                    lines = await self._database.read(self._contexts)
                    if lines:
                        return lines
                    self._step = "end"
                case "end":
                    raise StopAsyncIteration

    async def _header(self) -> bytes:
        row = await self._database.fetch_one("SELECT count(*) FROM memory WHERE user_id = ?", (self._user_id,))
        return _line(
            {
                "kind": "header",
                "format": FORMAT,
                "version": VERSION,
                "exported_at": utc_now(),
                "memories": row[0] if row else 0,
            }
        )

    def _memories(self, connection: apsw.Connection) -> bytes:
        rows: list[Any] = connection.execute(
            f"SELECT seq, {COLUMNS} FROM memory WHERE user_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (self._user_id, self._after, PAGE),
        ).fetchall()
        lines = self._changes(connection)
        for row in rows:
            if self._version is not None or len(lines) > PIECE:
                break
            lines += _line({"kind": "memory", **attrs.asdict(memory_of(row[1:]), recurse=False)})
            self._after = row[0]
            if self._history:
                self._version = 0
                lines += self._changes(connection)
        return bytes(lines)

    def _changes(self, connection: apsw.Connection) -> bytearray:
        """What the memory at `_after` was before its changes, as far as there is room."""
        lines = bytearray()
        while self._version is not None and len(lines) <= PIECE:
            listed: list[Any] = connection.execute(
                "SELECT m.id, h.version, h.event, h.at, h.before FROM history AS h JOIN memory AS m ON m.seq = h.memory "
                "WHERE h.memory = ? AND h.version > ? ORDER BY h.version LIMIT 20",
                (self._after, self._version),
            ).fetchall()
            for memory_id, version, event, at, before in listed:
                told = {
                    "id": memory_id,
                    "version": version,
                    "event": event,
                    "at": at,
                    "before": from_json(before.encode()),
                }
                lines += _line({"kind": "change", **told})
                self._version = version
            if not listed:
                self._version = None
        return lines

    def _contexts(self, connection: apsw.Connection) -> bytes:
        rows: list[Any] = connection.execute(
            "SELECT seq, conversation_id, summary, created_at, updated_at FROM context WHERE user_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (self._user_id, self._after, PAGE),
        ).fetchall()
        lines = []
        for seq, conversation_id, summary, created_at, updated_at in rows:
            ids: list[Any] = connection.execute(
                "SELECT m.id FROM context_memory AS c JOIN memory AS m ON m.seq = c.memory WHERE c.context = ? AND m.seq <= ? "
                "ORDER BY c.position",
                (seq, self._last),
            ).fetchall()
            self._after = seq
            lines.append(
                _line(
                    {
                        "kind": "context",
                        "conversation_id": conversation_id,
                        "summary": summary,
                        "memories": [each for (each,) in ids],
                        "created_at": created_at,
                        "updated_at": updated_at,
                    }
                )
            )
        return b"".join(lines)


def _line(value: dict[str, Any]) -> bytes:
    return to_json(value) + b"\n"
