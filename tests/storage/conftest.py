from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import attrs
import pytest
import trio

from uait.storage import Database, open_database

SCHEMA = """
CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE part (item INTEGER NOT NULL REFERENCES item(id) DEFERRABLE INITIALLY DEFERRED, text TEXT);
"""


@pytest.fixture(scope="session")
def schema() -> list[str]:
    return [SCHEMA]


@pytest.fixture
async def database(tmp_path: Path, schema: list[str], threads: Callable[[], list[str]]) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "test.sqlite3", schema) as opened:
        yield opened


@attrs.define
class Gate:
    """A function for `read` or `write` that holds its thread until it is let go."""

    entered: threading.Event = attrs.field(factory=threading.Event)
    free: threading.Event = attrs.field(factory=threading.Event)

    def __call__(self, _: apsw.Connection) -> None:
        self.entered.set()
        assert self.free.wait(30)

    async def held(self) -> None:
        with trio.fail_after(30):
            while not self.entered.is_set():
                await trio.sleep(0.001)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """The names of the storage threads that run now; none at the beginning of a test."""

    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("uait ")]

    for thread in threading.enumerate():
        if thread.name.startswith("uait "):
            thread.join(10)  # it ends a moment after it has answered its last call
    assert names() == []
    return names


@pytest.fixture
def endless() -> str:
    """A query that takes minutes unless it is interrupted."""
    return "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 500000000) SELECT count(*) FROM n"
