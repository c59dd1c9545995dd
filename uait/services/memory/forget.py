"""To forget: one memory, those that a filter names, all of a user; and what has expired.

What is deleted is gone from the rows, the index, the vectors, the history and the contexts in one transaction, overwritten in the file (SQLite's secure_delete, and FTS5's), and then the write-ahead log, which still has it, is
emptied. Only backups that somebody made keep it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Literal

import apsw
import attrs
import orjson
import trio
from attrs import validators

from uait.errors import Conflict
from uait.services.memory.filters import compile_filter
from uait.services.memory.indexing import unindex
from uait.services.memory.rows import one, seq_of
from uait.services.memory.watch import Changes
from uait.services.memory.work import Work
from uait.storage import Database, DatabaseBroken, DatabaseBusy, DatabaseFull, utc_now

PART = 500
SAMPLE = 10
SWEEP = 60.0
"""Seconds between two looks for what has expired."""

ERASE = 1.0
"""Seconds that single deletions wait for each other before the log is emptied."""

_log = logging.getLogger("uait.memory")


@attrs.frozen(kw_only=True)
class ForgetRequest:
    """Which memories to delete.

    Attributes:
        filters: as in a search; at least one condition.
        confirm: what the dry run gave. Without it this is a dry run: nothing is deleted.
    """

    filters: dict[str, Any]
    confirm: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(64)))


@attrs.frozen
class Everything:
    """`all`: yes, all of it."""

    all: Literal["true"]


@attrs.frozen(kw_only=True)
class ForgetSample:
    """One of the memories that a filter names."""

    id: str
    content: str


@attrs.frozen(kw_only=True)
class ForgetReport:
    """What was deleted, or would be.

    Attributes:
        dry_run: nothing was deleted; send the same again with `confirm`.
        memories: how many. `history`, `vectors` and `contexts` are what went with them.
        sample: some of them, in a dry run.
        ended: how much work under way for the user was ended first.
        erased: the database's log is emptied, too: nothing of it is left in the files. False: a long read was under way; it follows by itself.
    """

    dry_run: bool = False
    memories: int = 0
    history: int = 0
    vectors: int = 0
    contexts: int = 0
    ended: int = 0
    erased: bool = False
    sample: list[ForgetSample] = attrs.field(factory=list)
    confirm: str | None = None


class Forgetter:
    """Deletes memories, and sees to it that they are gone.

    Args:
        work: what is under way for users, which forgetting all of one ends.
    """

    def __init__(self, database: Database, changes: Changes, work: Work) -> None:
        self._database = database
        self._changes = changes
        self._work = work
        self._to_erase = trio.Event()

    async def one(self, user_id: str, memory_id: str) -> None:
        """Delete a memory.

        Raises:
            NotFound: the user has no such memory.
        """
        await self._database.write(
            lambda connection: _delete(connection, user_id, [seq_of(connection, user_id, memory_id)]),
            lambda _: self._gone(user_id, "delete", [memory_id]),
        )

    async def by_filter(self, user_id: str, request: ForgetRequest) -> ForgetReport:
        """Tell what a filter names, or delete it where the caller confirms that.

        Raises:
            BadRequest: the filter is none, or says nothing.
            Conflict: it names other memories now than in the dry run.
        """
        condition, parameters = compile_filter(request.filters)
        if request.confirm is None:
            return await self._database.read(lambda connection: _dry_run(connection, user_id, condition, parameters))
        rows: list[Any] = await self._database.read(
            lambda connection: _named(connection, user_id, condition, parameters)
        )
        if _seal(rows) != request.confirm:
            raise Conflict(
                "The filter names other memories than in the dry run; look again, and send its new 'confirm'."
            )
        return await self._rows(user_id, rows, condition, parameters)

    async def at_once(self, user_id: str, filters: dict[str, Any]) -> ForgetReport:
        """Delete what a filter names, for a dialect that has no dry run.

        Raises:
            BadRequest: the filter is none.
        """
        condition, parameters = compile_filter(filters)
        rows: list[Any] = await self._database.read(
            lambda connection: _named(connection, user_id, condition, parameters)
        )
        return await self._rows(user_id, rows, condition, parameters)

    async def _rows(self, user_id: str, rows: Sequence[Any], condition: str, parameters: Sequence[Any]) -> ForgetReport:
        report = ForgetReport()
        for start in range(0, len(rows), PART):
            part = rows[start : start + PART]
            deleted, _ = await self._part(user_id, "delete", part, condition, parameters)
            report = _sum(report, deleted)
        return attrs.evolve(report, erased=await self._erase())

    async def _part(
        self, user_id: str, event: str, rows: Sequence[Any], condition: str, parameters: Sequence[Any]
    ) -> tuple[ForgetReport, list[str]]:
        return await self._database.write(
            partial(_delete_named, user_id=user_id, rows=rows, condition=condition, parameters=parameters),
            lambda result: self._gone(user_id, event, result[1]),
        )

    async def everything(self, user_id: str) -> ForgetReport:
        """Delete all that there is of a user, after ending what is under way for them: nothing is written behind it."""
        with self._work.forgetting(user_id) as ended:
            await self._work.ended(user_id)
            report = ForgetReport()
            while True:
                deleted = await self._database.write(
                    lambda connection: _delete_some(connection, user_id), lambda _: self._to_erase.set()
                )
                if not deleted.memories:
                    break
                report = _sum(report, deleted)
            contexts = await self._database.write(
                lambda connection: _delete_rest(connection, user_id),
                lambda _: self._changes.forget(user_id, report.memories),
            )
            report = attrs.evolve(report, contexts=contexts, ended=ended)
            return attrs.evolve(report, erased=await self._erase())

    async def run(self) -> None:
        """Delete what expires, and empty the log after deletions, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            pause = ERASE
            while True:
                await self._to_erase.wait()
                await trio.sleep(pause)
                self._to_erase = trio.Event()
                try:
                    # Where a long read is under way, it is set again.
                    done = await self._erase()
                except (DatabaseBusy, DatabaseFull, DatabaseBroken) as error:
                    _log.warning("the database's log cannot be emptied: %s", error.text)
                    self._to_erase.set()
                    done = False
                pause = ERASE if done else min(2 * pause, SWEEP)

    async def sweep(self) -> int:
        """Delete what has expired; returns how much that was."""
        count = 0
        while True:
            now = utc_now()
            rows = await self._database.fetch_all(
                "SELECT seq, user_id FROM memory WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT ?", (now, PART)
            )
            by_user: dict[str, list[Any]] = {}
            for row in rows:
                by_user.setdefault(str(row[1]), []).append(row)
            for user_id, part in by_user.items():
                _, ids = await self._part(user_id, "expire", part, "m.expires_at <= ?", [now])
                count += len(ids)
            if len(rows) < PART:
                return count

    async def _sweep(self) -> None:
        while True:
            try:
                await self.sweep()
            except (DatabaseBusy, DatabaseFull, DatabaseBroken) as error:
                _log.warning("expired memories cannot be deleted: %s", error.text)
            await trio.sleep(SWEEP)

    def _gone(self, user_id: str, event: str, ids: Sequence[str]) -> None:
        self._changes.tell(user_id, event, ids)
        if ids:
            self._to_erase.set()

    async def _erase(self) -> bool:
        done = await self._database.empty_log()
        if not done:
            self._to_erase.set()
        return done


def _named(connection: apsw.Connection, user_id: str, condition: str, parameters: Sequence[Any]) -> list[Any]:
    return connection.execute(
        f"SELECT m.seq, m.id FROM memory AS m WHERE m.user_id = ? AND {condition} ORDER BY m.seq",
        (user_id, *parameters),
    ).fetchall()


def _dry_run(connection: apsw.Connection, user_id: str, condition: str, parameters: Sequence[Any]) -> ForgetReport:
    rows = _named(connection, user_id, condition, parameters)
    sample = [
        ForgetSample(
            id=memory_id, content=one(connection, "SELECT substr(content, 1, 200) FROM memory WHERE seq = ?", (seq,))[0]
        )
        for seq, memory_id in rows[:SAMPLE]
    ]
    return ForgetReport(dry_run=True, memories=len(rows), sample=sample, confirm=_seal(rows))


def _seal(rows: Sequence[Any]) -> str:
    return blake2b(orjson.dumps([memory_id for _, memory_id in rows]), digest_size=12).hexdigest()


def _delete_named(
    connection: apsw.Connection, *, user_id: str, rows: Sequence[Any], condition: str, parameters: Sequence[Any]
) -> tuple[ForgetReport, list[str]]:
    """Delete those that are there still, and meet the condition still: they may have been changed since they were looked for. Gives their ids, too."""
    found: list[Any] = connection.execute(
        f"SELECT m.seq, m.id FROM memory AS m WHERE m.user_id = ? AND m.seq IN (SELECT value FROM json_each(?)) AND {condition}",
        (user_id, orjson.dumps([row[0] for row in rows]).decode(), *parameters),
    ).fetchall()
    return _delete(connection, user_id, [seq for seq, _ in found]), [memory_id for _, memory_id in found]


def _delete(connection: apsw.Connection, user_id: str, seqs: Sequence[int]) -> ForgetReport:
    given = orjson.dumps(list(seqs)).decode()
    (history,) = one(
        connection, "SELECT count(*) FROM history WHERE memory IN (SELECT value FROM json_each(?))", (given,)
    )
    (vectors,) = one(
        connection, "SELECT count(*) FROM memory_vector WHERE seq IN (SELECT value FROM json_each(?))", (given,)
    )
    unindex(connection, seqs)
    # Vectors, history and the places in contexts go with them.
    connection.execute(
        "DELETE FROM memory WHERE user_id = ? AND seq IN (SELECT value FROM json_each(?))", (user_id, given)
    )
    return ForgetReport(memories=len(seqs), history=history, vectors=vectors)


def _delete_some(connection: apsw.Connection, user_id: str) -> ForgetReport:
    rows: list[Any] = connection.execute("SELECT seq FROM memory WHERE user_id = ? LIMIT ?", (user_id, PART)).fetchall()
    return _delete(connection, user_id, [seq for (seq,) in rows])


def _delete_rest(connection: apsw.Connection, user_id: str) -> int:
    """The user's contexts and number. The index may keep a word of the user to find its own pages by; where it does, it is written anew."""
    before = connection.total_changes()
    connection.execute("DELETE FROM context WHERE user_id = ?", (user_id,))
    contexts = connection.total_changes() - before
    rows: list[Any] = connection.execute("SELECT number FROM owner WHERE user_id = ?", (user_id,)).fetchall()
    for (number,) in rows:
        connection.execute("DELETE FROM owner WHERE number = ? AND memories = 0", (number,))
        begins, ends = f"0{number}_".encode(), f"0{number}`".encode()
        (left,) = one(
            connection, "SELECT EXISTS (SELECT 1 FROM memory_text_idx WHERE term >= ? AND term < ?)", (begins, ends)
        )
        if left:
            connection.execute("INSERT INTO memory_text (memory_text) VALUES ('optimize')")
    return contexts


def _sum(one: ForgetReport, other: ForgetReport) -> ForgetReport:
    return ForgetReport(
        memories=one.memories + other.memories,
        history=one.history + other.history,
        vectors=one.vectors + other.vectors,
    )
