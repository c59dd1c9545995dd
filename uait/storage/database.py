"""One SQLite file: who opens it, reads, writes, copies and closes it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
import attrs
import trio

from uait.storage.backup import copy_database
from uait.storage.connection import BUSY_TIMEOUT, configure_writer, make_private, open_connection
from uait.storage.errors import DatabaseUnusable, unusable
from uait.storage.migrations import Migration, migrate
from uait.storage.readers import Readers
from uait.storage.writer import Writer

T = TypeVar("T")

QUEUE = 4096
"""Most reads, and most writes, that may wait for one database."""

LOG_PATIENCE = 0.25
"""Seconds that emptying the log waits for readers, and all writes with it."""

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class DatabaseStatistics:
    """What a database has done since it was opened, and how it stands.

    Attributes:
        bytes: size of the file; `wal_bytes` that of its write-ahead log.
        reads: reads that were begun; `interrupted` those whose caller went away before the answer.
        writes: durable writes; `failed` those that were rolled back; `commits` how many transactions, so fsyncs, they took together.
    """

    bytes: int
    wal_bytes: int
    reads: int
    interrupted: int
    writes: int
    failed: int
    commits: int
    waiting_reads: int
    waiting_writes: int
    readers: int


class Database:
    """An open database file. Made by `open_database`, which also closes it.

    The functions given to `read` and `write` are plain functions. They run in a connection's thread, so they must not touch what belongs to the event loop, and must return data,
    not cursors.
    """

    def __init__(self, path: Path, readers: Readers, writer: Writer) -> None:
        self.path = path
        self._readers = readers
        self._writer = writer

    async def read(self, function: Callable[[apsw.Connection], T]) -> T:
        """Call `function(connection)` in a reader's thread, inside one read transaction: it sees one state of the database, whatever is written meanwhile.

        Raises:
            DatabaseBusy: too many reads wait.
            DatabaseClosed, DatabaseBroken: see `uait.storage.errors`. What the function raises comes through.

        On cancellation it returns at once and the query itself stops.
        """
        return await self._readers.read(function)

    async def write(self, function: Callable[[apsw.Connection], T], stored: Callable[[T], None] | None = None) -> T:
        """Call `function(connection)` in the writer's thread and return what it returned, after the commit is durable.

        Writes that wait at the same time share one commit. An exception undoes this function's changes and nobody else's. When another one of the group takes the whole transaction with it (a
        full disk), the function runs again: it must have no effect outside the database.

        Args:
            stored: called in the event loop with what `function` returned as soon as that is durable, in the order of the commits, also where the caller has been cancelled meanwhile: for what
                others have to learn. What it raises comes through to the caller.

        Raises:
            DatabaseBusy: too many writes wait, or another process holds the lock.
            DatabaseFull, DatabaseBroken, DatabaseClosed: see `uait.storage.errors`. What the function raises comes through.

        On cancellation it returns at once. A write that has not begun never happens; one that has is stored wholly or not at all.
        """
        return await self._writer.write(function, stored)

    async def fetch_all(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query."""
        return await self._readers.read(lambda connection: connection.execute(sql, params).fetchall(), snapshot=False)

    async def fetch_one(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> tuple[Any, ...] | None:
        """The first row of one query, or None."""

        def first(connection: apsw.Connection) -> tuple[Any, ...] | None:
            cursor = connection.execute(sql, params)
            row: tuple[Any, ...] | None = cursor.fetchone()
            cursor.close()
            return row

        return await self._readers.read(first, snapshot=False)

    async def execute(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Run statements that change something, durably; returns how many rows they changed."""

        def change(connection: apsw.Connection) -> int:
            before = connection.total_changes()
            connection.execute(sql, params).fetchall()
            return connection.total_changes() - before

        return await self.write(change)

    async def empty_log(self) -> bool:
        """Write the write-ahead log into the file and cut it to nothing, so that what was deleted is in neither (it is overwritten when it is deleted). Writes that wait have their turn first.

        Returns:
            False when somebody has been reading an older state all the while, a quarter of a second; then some of the log is still there.
        """

        def empty(connection: apsw.Connection) -> bool:
            # No write goes on while it waits for readers, and a backup reads for as long as it takes.
            connection.set_busy_timeout(round(LOG_PATIENCE * 1000))
            try:
                rows: list[Any] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.set_busy_timeout(round(BUSY_TIMEOUT * 1000))
            return not rows[0][0]

        return await self._writer.alone(empty)

    async def backup(self, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the database as it is now to `target`, while others go on reading and writing. `target` appears complete or not at all, and replaces what was there.

        Args:
            progress: called in the event loop with (pages copied, pages in all) after every part.

        Raises:
            DatabaseUnusable: the target cannot be written.

        On cancellation the copy stops and what it had written is removed.
        """
        await copy_database(self.path, target, progress)

    async def check(self) -> str:
        """For `ctx.add_health_check`: "ok", or "degraded: ..." while the last write failed for want of room or because of the disk.

        Raises:
            DatabaseBroken, DatabaseBusy, DatabaseClosed: it cannot even be read.
        """
        await self.fetch_one("SELECT count(*) FROM sqlite_schema")
        return f"degraded: {self._writer.trouble}" if self._writer.trouble else "ok"

    def statistics(self) -> DatabaseStatistics:
        """Counts and sizes as they are at this moment."""
        return DatabaseStatistics(
            bytes=_size(self.path),
            wal_bytes=_size(self.path.with_name(self.path.name + "-wal")),
            reads=self._readers.begun,
            interrupted=self._readers.interrupted,
            writes=self._writer.done,
            failed=self._writer.failed,
            commits=self._writer.commits,
            waiting_reads=self._readers.waiting,
            waiting_writes=self._writer.waiting,
            readers=self._readers.opened,
        )


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


@asynccontextmanager
async def open_database(path: Path, migrations: Sequence[Migration], *, readers: int = 2) -> AsyncIterator[Database]:
    """Open the file at `path`, making it and its directory where needed, and migrate it.

    Args:
        migrations: see `uait.storage.migrations.Migration`.
        readers: how many reads may run at the same time. Each is a thread and up to a MiB of cache, taken when first needed.

    Raises:
        DatabaseUnusable: the file cannot be used; `DatabaseTooNew` and `MigrationFailed` are two kinds of it.

    Leaving the block closes it, also when cancelled: the writes that have begun are finished, those that wait get DatabaseClosed, and the write-ahead log is emptied into the file. A disk that
    hangs delays that by a few seconds at most.
    """
    connection = await _open_writer(path, migrations)
    pool = Readers(path, count=readers, queue=QUEUE)
    writer = Writer(path, connection, queue=QUEUE)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.serve)
            try:
                yield Database(path, pool, writer)
            except BaseException as error:
                # Kept and raised outside the nursery: what the block raises is not this nursery's, and is not to come wrapped in a group.
                failure = error
            writer.close()
        if failure is not None:
            raise failure
    finally:
        failure = None
        with trio.CancelScope(shield=True):
            done = await pool.aclose() & await writer.aclose()
        if not done:
            _log.warning("%s: a query did not stop; its thread was left behind", path)


async def _open_writer(path: Path, migrations: Sequence[Migration]) -> apsw.AsyncConnection:
    def setup(connection: apsw.Connection) -> None:
        configure_writer(connection)
        migrate(connection, migrations, path)

    try:
        await trio.to_thread.run_sync(make_private, path)
        return await open_connection(path, name=f"{path.stem} writer", flags=apsw.SQLITE_OPEN_READWRITE, setup=setup)
    except OSError as error:
        raise DatabaseUnusable(path, f"cannot be made: {error.strerror}") from error
    except apsw.Error as error:
        ours = unusable(error, path)
        if ours is None:
            raise
        raise ours from error
