"""Numbered migrations, forward only. The number of the last one applied stands in the file's `user_version`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import apsw

from uait.storage.errors import DatabaseTooNew, MigrationFailed, unusable

Migration: TypeAlias = str | Callable[[apsw.Connection], None]
"""SQL (several statements are fine) or a function that is given the connection. Neither begins nor ends a transaction. Migration n is the n-th of its list; one that was released is never changed, only followed by another."""


def migrate(connection: apsw.Connection, migrations: Sequence[Migration], path: Path) -> None:
    """Bring the file up to `len(migrations)`: each one in a transaction of its own, together with its number. In the connection's thread.

    Foreign keys are off meanwhile, so that a table can be rebuilt, and are checked before each commit; afterwards they are on.

    Two processes that start at once take turns: each looks at the number again once it has the write lock. Calling it again goes on where it stopped.

    Raises:
        DatabaseTooNew: the file is further than this list.
        MigrationFailed: one failed; nothing of it stays.
    """
    connection.pragma("foreign_keys", False)
    while (version := _version(connection)) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == version:
                _apply(connection, migrations[version], version + 1, path)
            connection.execute("COMMIT")
        except BaseException:
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
            raise
    if version > len(migrations):
        raise DatabaseTooNew(path, version, len(migrations))
    connection.pragma("foreign_keys", True)


def _version(connection: apsw.Connection) -> int:
    return int(connection.pragma("user_version"))


def _apply(connection: apsw.Connection, migration: Migration, number: int, path: Path) -> None:
    try:
        if callable(migration):
            migration(connection)
        else:
            connection.execute(migration).fetchall()
        orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        if orphans:
            raise apsw.ConstraintError(
                f"{len(orphans)} rows point to rows that do not exist, the first in table {orphans[0][0]}"
            )
        if connection.get_autocommit():
            raise apsw.MisuseError("it ended the transaction it runs in")
        connection.pragma("user_version", number)
    except Exception as error:
        if unusable(error, path) is not None:
            raise
        raise MigrationFailed(path, number, str(error) or repr(error)) from error
