"""Where registrations survive a restart of the registry."""

from __future__ import annotations

from collections.abc import Iterable

import apsw

from uait.services.discovery.model import Instance
from uait.storage import Database, Migration
from uait.web import structure
from uait.web.codec import from_json, to_json

MIGRATIONS: tuple[Migration, ...] = (
    "CREATE TABLE instances (id TEXT PRIMARY KEY, registered_at TEXT NOT NULL, instance BLOB NOT NULL) STRICT, WITHOUT ROWID",
)


class Store:
    """The registered instances, this host's own not among them: those are told anew at every start."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[Instance]:
        """All of them, in the order of registration."""
        rows = await self._database.fetch_all("SELECT instance FROM instances ORDER BY registered_at, id")
        return [structure(from_json(row[0]), Instance) for row in rows]

    async def save(self, instances: Iterable[Instance]) -> None:
        """Store them as they are, durably and all together."""
        rows = [(instance.id, instance.registered_at, to_json(instance)) for instance in instances]

        def write(connection: apsw.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO instances VALUES (?, ?, ?)", rows)

        await self._database.write(write)

    async def delete(self, ids: Iterable[str]) -> None:
        """Forget them, durably and all together."""
        rows = [(instance_id,) for instance_id in ids]

        def write(connection: apsw.Connection) -> None:
            connection.executemany("DELETE FROM instances WHERE id = ?", rows)

        await self._database.write(write)
