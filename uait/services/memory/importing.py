"""Take it in: memories and contexts as JSON lines, in any order, as an export gives them (`portable.py`) or another program; a line needs no more than `content`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal

import apsw
import attrs
import trio
from attrs import validators

from uait.errors import APIError, BadRequest, PayloadTooLarge
from uait.services.memory.contexts import ContextStore
from uait.services.memory.emptiness import Emptiness
from uait.services.memory.history import KEPT, put_back
from uait.services.memory.indexing import index, owner_number, unindex
from uait.services.memory.model import MemoryChange, NewContext, NewMemory
from uait.services.memory.portable import FORMAT, VERSION
from uait.services.memory.rows import COLUMNS, LONG, Prepared, insert, prepare, seq_of, to_text
from uait.services.memory.watch import Changes
from uait.storage import Database, format_time, utc_now
from uait.web import from_json, identifier, structure

PART = 500
PART_BYTES = 16 * 1024 * 1024
"""What has come is stored when it comes to so many bytes, or to `PART` lines."""

LINE_BYTES = 8 * 1024 * 1024
ERRORS = 50
"""Most lines whose error is named; the others are counted."""


@attrs.frozen(kw_only=True)
class ImportedMemory(NewMemory):
    """A memory with what it had where it comes from: its id and its times."""

    id: str | None = attrs.field(default=None, validator=validators.optional(identifier()))
    created_at: datetime | None = None
    updated_at: datetime | None = None
    last_access: datetime | None = None
    access_count: int = attrs.field(default=0, validator=validators.ge(0))


@attrs.frozen(kw_only=True)
class Before(MemoryChange):
    """What a change touched, as it was before it."""

    updated_at: datetime | None = None


@attrs.frozen(kw_only=True)
class ImportedChange:
    """A change of the memory that came last before it. `before` holds what it touched, as it was."""

    id: str = attrs.field(validator=identifier())
    version: int = attrs.field(default=1, validator=validators.and_(validators.ge(1), validators.le(2**53)))
    event: Literal["change", "invalidate"]
    at: datetime
    before: Before


@attrs.frozen
class ImportQuery:
    """`conflict`: what becomes of a memory whose id is there already: `skip` leaves what is there, `replace` takes the new one, `error` counts the line as failed."""

    conflict: Literal["skip", "replace", "error"] = "skip"


@attrs.frozen(kw_only=True)
class FailedLine:
    """A line that could not be taken, and why."""

    line: int
    message: str


@attrs.frozen(kw_only=True)
class ImportReport:
    """What became of the lines of an import."""

    lines: int = 0
    added: int = 0
    replaced: int = 0
    skipped: int = 0
    changes: int = 0
    contexts: int = 0
    failed: int = 0
    errors: list[FailedLine] = attrs.field(factory=list)


class Import:
    """Takes lines into a user's memories, part by part; each part is durable before the next is read."""

    def __init__(
        self,
        database: Database,
        contexts: ContextStore,
        changes: Changes,
        emptiness: Emptiness,
        user_id: str,
        conflict: str,
    ) -> None:
        self._database = database
        self._contexts = contexts
        self._changes = changes
        self._emptiness = emptiness
        self._user_id = user_id
        self._conflict = conflict
        self._part: list[tuple[int, Prepared | Changed]] = []
        self._bytes = 0
        self._last: tuple[str, bool] | None = None
        """The memory that came last, and whether it was stored."""

        self._later: list[tuple[int, NewContext]] = []
        self.report = ImportReport()

    async def run(
        self, chunks: AsyncIterable[bytes], progress: Callable[[ImportReport], Awaitable[None]] | None = None
    ) -> ImportReport:
        """Take all lines.

        Args:
            progress: called after each part that is durable.

        Raises:
            PayloadTooLarge: a line is longer than any memory.
        """
        taken = 0
        async with aclosing(_lines(chunks)) as lines:
            async for number, line in lines:
                self._count(lines=1)
                if len(line) > LONG:
                    # Nobody else waits for its words, and this task for no longer than it is wanted.
                    await trio.to_thread.run_sync(self._take, number, line, abandon_on_cancel=True)
                else:
                    self._take(number, line)
                    taken += len(line)
                if taken > LONG:
                    taken = 0
                    await trio.lowlevel.checkpoint()
                if len(self._part) >= PART or self._bytes >= PART_BYTES:
                    await self._store()
                    if progress is not None:
                        await progress(self.report)
        await self._store()
        for number, context in self._later:
            try:
                await self._contexts.put(self._user_id, context)
                self._count(contexts=1)
            except APIError as error:
                self._fail(number, error.text)
        return self.report

    def _take(self, number: int, line: bytes) -> None:
        try:
            data = from_json(line)
            if not isinstance(data, dict):
                raise BadRequest("The line is no JSON object.")
            match data.get("kind", "memory"):
                case "header":
                    if data.get("format") != FORMAT or data.get("version") != VERSION:
                        raise BadRequest(f"Only format {FORMAT!r}, version {VERSION}, can be read.")
                case "context":
                    if len(self._later) >= 10_000:
                        raise BadRequest("There are more than 10000 contexts.")
                    self._later.append((number, structure(data, NewContext)))
                case "memory":
                    new = structure(data, ImportedMemory)
                    times = {
                        name: format_time(moment)
                        for name in ("created_at", "updated_at", "last_access")
                        if (moment := getattr(new, name)) is not None
                    }
                    given = {"id": new.id, "access_count": new.access_count, **times}
                    self._hold(number, line, prepare(self._user_id, new, times.get("created_at", utc_now()), **given))
                case "change":
                    self._hold(number, line, _changed(data))
                case _:
                    raise BadRequest("The line's 'kind' is not known; known are header, memory, change and context.")
        except APIError as error:
            self._fail(number, error.text)

    def _hold(self, number: int, line: bytes, item: Prepared | Changed) -> None:
        self._part.append((number, item))
        self._bytes += len(line)

    async def _store(self) -> None:
        part, self._part, self._bytes = self._part, [], 0
        if not part:
            return
        with self._emptiness.adding(self._user_id):
            outcomes = await self._database.write(
                lambda connection: _store(
                    connection, self._user_id, [item for _, item in part], self._conflict, self._last
                ),
                lambda outcomes: self._tell([item for _, item in part], outcomes),
            )
        for (number, item), outcome in zip(part, outcomes, strict=True):
            if isinstance(item, Changed):
                if outcome == "failed":
                    self._fail(number, f"A change of {item.id!r} must come after its memory, before another one.")
                elif outcome == "changes":
                    self._count(changes=1)
                continue
            self._last = (item.memory.id, outcome in ("added", "replaced"))
            if outcome == "failed":
                self._fail(number, f"There is a memory with the id {item.memory.id!r} already.")
            else:
                self._count(**{outcome: 1})

    def _tell(self, items: list[Prepared | Changed], outcomes: list[str]) -> None:
        done = [
            item.memory.id
            for item, outcome in zip(items, outcomes, strict=True)
            if not isinstance(item, Changed) and outcome in ("added", "replaced")
        ]
        self._changes.tell(self._user_id, "import", done)

    def _count(self, **more: int) -> None:
        self.report = attrs.evolve(self.report, **{name: getattr(self.report, name) + by for name, by in more.items()})

    def _fail(self, number: int, message: str) -> None:
        self._count(failed=1)
        if len(self.report.errors) < ERRORS:
            self.report.errors.append(FailedLine(line=number, message=message))


@attrs.frozen
class Changed:
    """A change of a memory as the history holds it."""

    id: str
    version: int
    event: str
    at: str
    before: str


def _changed(data: dict[str, Any]) -> Changed:
    change = structure(data, ImportedChange)
    before: dict[str, Any] = {}
    for name in KEPT:
        # What was left out was not touched; what is null was not there.
        if name in data["before"]:
            value = getattr(change.before, name)
            if value is None and name in ("type", "content", "metadata", "tags", "updated_at"):
                raise BadRequest(f"$.before.{name} must not be null.")
            before[name] = format_time(value) if isinstance(value, datetime) else value
    return Changed(change.id, change.version, change.event, format_time(change.at), to_text(before))


def _store(
    connection: apsw.Connection,
    user_id: str,
    part: list[Prepared | Changed],
    conflict: str,
    last: tuple[str, bool] | None,
) -> list[str]:
    """Store a part.

    Args:
        last: the memory that came last before it, and whether it was stored.
    """
    owner = owner_number(connection, user_id)
    outcomes: list[str] = []
    fresh: list[Prepared] = []
    changes: list[Changed] = []
    seen: set[str] = set()
    for each in part:
        if isinstance(each, Changed):
            if last is None or last[0] != each.id:
                outcomes.append("failed")
            elif last[1]:
                outcomes.append("changes")
                changes.append(each)
            else:
                outcomes.append("skipped")
            continue
        memory = each.memory
        if memory.id in seen and conflict == "replace":
            # Whether the earlier one is in this part or was in the one before makes no difference.
            insert(connection, owner, fresh)
            fresh.clear()
            changes = [change for change in changes if change.id != memory.id]
            seen.clear()
        rows: list[Any] = connection.execute(
            "SELECT seq FROM memory WHERE user_id = ? AND id = ?", (user_id, memory.id)
        ).fetchall()
        if memory.id in seen or (rows and conflict != "replace"):
            outcomes.append("failed" if conflict == "error" else "skipped")
        elif rows:
            _replace(connection, owner, int(rows[0][0]), each)
            outcomes.append("replaced")
        else:
            fresh.append(each)
            outcomes.append("added")
        seen.add(memory.id)
        last = (memory.id, outcomes[-1] in ("added", "replaced"))
    insert(connection, owner, fresh)
    for change in changes:
        put_back(
            connection, seq_of(connection, user_id, change.id), change.version, change.event, change.at, change.before
        )
    return outcomes


def _replace(connection: apsw.Connection, owner: int, seq: int, new: Prepared) -> None:
    memory = new.memory
    names = [name.strip() for name in COLUMNS.split(",")][2:]
    values = [to_text(value) if isinstance(value := getattr(memory, name), dict | list) else value for name in names]
    connection.execute(
        f"UPDATE memory SET {', '.join(f'{name} = ?' for name in names)}, digest = ? WHERE seq = ? AND user_id = ?",
        (*values, new.digest, seq, memory.user_id),
    )
    unindex(connection, [seq])
    index(connection, owner, [(seq, new.row)])
    connection.execute("DELETE FROM history WHERE memory = ?", (seq,))
    connection.execute("DELETE FROM memory_vector WHERE seq = ?", (seq,))


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[tuple[int, bytes], None]:
    rest = bytearray()
    number = 0
    async for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *whole, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in whole:
                number += 1
                if line.strip():
                    yield number, line
        if len(rest) > LINE_BYTES:
            raise PayloadTooLarge(f"Line {number + 1} is longer than {LINE_BYTES} bytes.")
    if rest.strip():
        yield number + 1, bytes(rest)
