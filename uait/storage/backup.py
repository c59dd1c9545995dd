"""A copy of a database that is in use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import trio

from uait.storage.connection import CLOSE_TIMEOUT, close_connection, make_private, run
from uait.storage.errors import DatabaseUnusable, unusable
from uait.storage.ids import new_id
from uait.storage.readers import open_reader

PAGES = 256
"""Pages copied between two looks at the caller: a MiB."""


async def copy_database(source: Path, target: Path, progress: Callable[[int, int], None] | None) -> None:
    """See `Database.backup`. It has a connection of its own that holds one read snapshot, so writers neither wait for it nor make it start over."""
    if await trio.to_thread.run_sync(_same, source, target):
        raise DatabaseUnusable(target, "is the database itself: choose another name for the backup")
    part = target.with_name(f".{target.name}.{new_id()}.part")
    try:
        connection = await open_reader(source)
        copy = _Copy(connection, part)
        try:
            done = pages = -1
            while done < pages or pages < 0:
                done, pages = await run(connection, copy.step)
                if progress is not None:
                    progress(done, pages)
            await run(connection, copy.finish)
            # Shielded: the target changes names as a whole, and nothing is left half-way.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_publish, part, target)
        finally:
            with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                await run(connection, copy.close)
            with trio.CancelScope(shield=True):
                await close_connection(connection)
                await trio.to_thread.run_sync(_remove, part)
    except (apsw.Error, OSError) as error:
        raise unusable(error, target) or DatabaseUnusable(target, f"the backup cannot be written ({error})") from error


class _Copy:
    """The two ends of a backup under way. Everything here happens in the source connection's thread."""

    def __init__(self, source: apsw.AsyncConnection, part: Path) -> None:
        self._source: Any = source
        self._part = part
        self._target: apsw.Connection | None = None
        self._backup: apsw.Backup | None = None

    def step(self) -> tuple[int, int]:
        """Copy some pages; returns how many are copied, and how many there are."""
        backup = self._backup or self._begin()
        backup.step(PAGES)
        return backup.page_count - backup.remaining, backup.page_count

    def _begin(self) -> apsw.Backup:
        make_private(self._part)
        self._target = apsw.Connection(str(self._part))
        self._source.execute("BEGIN")
        self._source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        self._backup = self._target.backup("main", self._source, "main")
        return self._backup

    def finish(self) -> None:
        """Commit the copy."""
        assert self._backup is not None
        assert self._target is not None
        self._backup.finish()
        self._target.close()

    def close(self) -> None:
        """Let go of both ends, whatever state they are in."""
        if self._backup is not None:
            self._backup.close(True)
        if self._target is not None:
            self._target.close(True)


def _publish(part: Path, target: Path) -> None:
    """Make the finished copy durable under its own name."""
    _sync(part)
    # SQLite would take the write-ahead log of an earlier copy for this one's.
    for rest in _companions(target):
        rest.unlink(missing_ok=True)
    os.replace(part, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(part: Path) -> None:
    for path in (part, *_companions(part)):
        path.unlink(missing_ok=True)


def _companions(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in ("-journal", "-wal", "-shm")]


def _same(source: Path, target: Path) -> bool:
    return target.exists() and target.samefile(source)
