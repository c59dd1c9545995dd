"""Feeds in a SQLite database, in tables of their own beside a service's others."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import apsw

from uait.feeds.events import FeedFenced
from uait.feeds.store import Batch, StoredEvent, StoredFeed

T = TypeVar("T")

FEED_TABLES = """
CREATE TABLE feeds (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch TEXT NOT NULL,
    last INTEGER NOT NULL
) STRICT;
CREATE TABLE feed_events (
    feed INTEGER NOT NULL REFERENCES feeds (id) ON DELETE CASCADE,
    "offset" INTEGER NOT NULL,
    at REAL NOT NULL,
    key TEXT,
    token TEXT,
    data BLOB NOT NULL,
    UNIQUE (feed, "offset")
) STRICT;
"""
"""A migration (see `uait.storage.migrations.Migration`) for the database that is to hold feeds."""


class Writes(Protocol):
    """What is needed of a `Database`."""

    async def write(self, function: Callable[[apsw.Connection], T]) -> T: ...
    async def execute(self, sql: str, params: Sequence[Any] = ()) -> int: ...


class SQLiteFeedStore:
    """A `FeedStore`. The database has had `FEED_TABLES` among its migrations."""

    def __init__(self, database: Writes) -> None:
        self._database = database

    async def load(self, name: str, newest: int) -> StoredFeed:
        def load(connection: apsw.Connection) -> StoredFeed:
            connection.execute(
                "INSERT INTO feeds (name, epoch, last) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
                (name, secrets.token_hex(8)),
            )
            found: list[Any] = connection.execute(
                "SELECT id, epoch, last FROM feeds WHERE name = ?", (name,)
            ).fetchall()
            [(feed, epoch, last)] = found
            rows: list[Any] = connection.execute(
                'SELECT "offset", data, key, token, at FROM feed_events WHERE feed = ? ORDER BY "offset" DESC LIMIT ?',
                (feed, newest),
            ).fetchall()
            return StoredFeed(epoch, last, [StoredEvent(*row) for row in reversed(rows)])

        return await self._database.write(load)

    async def append(self, batches: Sequence[Batch]) -> None:
        def append(connection: apsw.Connection) -> None:
            for batch in batches:
                _append(connection, batch)

        await self._database.write(append)

    async def delete(self, name: str) -> None:
        await self._database.execute("DELETE FROM feeds WHERE name = ?", (name,))


def _append(connection: apsw.Connection, batch: Batch) -> None:
    found = connection.execute(
        "UPDATE feeds SET last = ? WHERE name = ? AND epoch = ? AND last = ? RETURNING id",
        (batch.events[-1].offset, batch.name, batch.epoch, batch.events[0].offset - 1),
    ).fetchall()
    if not found:
        raise FeedFenced(batch.name)
    [(feed,)] = found
    connection.executemany(
        'INSERT INTO feed_events (feed, "offset", data, key, token, at) VALUES (?, ?, ?, ?, ?, ?)',
        [(feed, event.offset, event.data, event.key, event.token, event.at) for event in batch.events],
    )
    connection.execute('DELETE FROM feed_events WHERE feed = ? AND "offset" < ?', (feed, batch.oldest))
