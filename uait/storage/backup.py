"""A copy of a database that is in use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw
import trio

from uait.storage.connection import close_connection, run
from uait.storage.errors import DatabaseUnusable, unusable
from uait.storage.ids import new_id
from uait.storage.readers import open_reader

PAGES = 256
"""Pages copied between two looks at the caller: a MiB."""


async def copy_database(source: Path, target: Path, progress: Callable[[int, int], None] | None) -> None:
    """See `Database.backup`. It has a connection of its own that holds one read snapshot, so writers neither wait for it nor make it start over."""
    part = target.with_name(f".{target.name}.{new_id()}.part")
    try:
        connection = await open_reader(source)
        try:
            copy = await run(connection, _Copy, connection, part)
            try:
                while True:
                    done, pages = await run(connection, copy.step)
                    if progress is not None:
                        progress(done, pages)
                    if done == pages:
                        break
            finally:
                with trio.CancelScope(shield=True):
                    await run(connection, copy.close)
            await trio.to_thread.run_sync(_publish, part, target)
        finally:
            await close_connection(connection)
            part.unlink(missing_ok=True)
    except (apsw.Error, OSError) as error:
        raise unusable(error, target) or DatabaseUnusable(target, f"the backup cannot be written ({error})") from error


class _Copy:
    """The two ends of a backup under way. In the source connection's thread."""

    def __init__(self, source: apsw.Connection, part: Path) -> None:
        self._source = source
        self._target = apsw.Connection(str(part))
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_schema").fetchall()
        self._backup = self._target.backup("main", source, "main")

    def step(self) -> tuple[int, int]:
        self._backup.step(PAGES)
        pages = self._backup.page_count
        return pages - self._backup.remaining, pages

    def close(self) -> None:
        self._backup.close(True)
        self._target.close(True)
        self._source.execute("ROLLBACK")


def _publish(part: Path, target: Path) -> None:
    """Make the finished copy durable under its own name."""
    _sync(part)
    os.replace(part, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
