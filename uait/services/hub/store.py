"""Where the rooms that somebody has declared are kept, so that a private room does not come back as a public one."""

from __future__ import annotations

from typing import Any

import attrs

from uait.feeds.sqlite import FEED_TABLES
from uait.services.hub.model import RoomOptions
from uait.services.hub.on_demand import DatabaseOnDemand
from uait.storage import Migration
from uait.web import from_json, structure, to_json

MIGRATIONS: tuple[Migration, ...] = (
    FEED_TABLES,
    """
CREATE TABLE rooms (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    created_at TEXT NOT NULL,
    options TEXT NOT NULL
) STRICT, WITHOUT ROWID;
""",
)


@attrs.frozen
class Declaration:
    """A room that somebody has declared."""

    name: str
    owner: str
    created_at: str
    options: RoomOptions


class RoomStore:
    """The declared rooms in the hub's database."""

    def __init__(self, database: DatabaseOnDemand) -> None:
        self._database = database

    async def load(self) -> list[Declaration]:
        """All of them."""
        if not self._database.is_open:
            return []
        rows: list[tuple[Any, ...]] = await self._database.fetch_all(
            "SELECT name, owner, created_at, options FROM rooms ORDER BY name"
        )
        return [
            Declaration(name, owner, created_at, structure(from_json(options.encode()), RoomOptions))
            for name, owner, created_at, options in rows
        ]

    async def save(self, declared: Declaration) -> None:
        """Keep a declaration, instead of an earlier one of the same room."""
        await self._database.execute(
            "INSERT INTO rooms (name, owner, created_at, options) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, options = excluded.options",
            (declared.name, declared.owner, declared.created_at, to_json(declared.options).decode()),
        )

    async def delete(self, name: str) -> None:
        """Forget a declaration; nothing happens where there is none."""
        await self._database.execute("DELETE FROM rooms WHERE name = ?", (name,))
