"""Who has nothing need not be asked for again, and is as soon as there is something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from uait.services.memory import emptiness
from uait.services.memory.emptiness import Emptiness
from uait.services.memory.schema import MIGRATIONS
from uait.storage import Database, open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "memory.db", MIGRATIONS) as database:
        yield database


@pytest.fixture
async def empty(database: Database) -> AsyncIterator[Emptiness]:
    async with Emptiness(database) as empty:
        yield empty


async def give(database: Database, user_id: str) -> None:
    await database.execute("INSERT INTO owner (user_id, memories) VALUES (?, 1)", (user_id,))


async def test_it_stands_until_something_is_to_be_stored(empty: Emptiness) -> None:
    standing = await empty.vouch("ann")
    assert standing is not None
    assert standing.holds
    assert await empty.vouch("ann") is standing
    with empty.adding("bob"):
        assert standing.holds
    with empty.adding("ann"):
        assert not standing.holds
        assert await empty.vouch("ann") is None
    again = await empty.vouch("ann")  # nothing was stored after all
    assert again is not None
    assert again.holds


async def test_who_has_something_is_not_vouched_for(empty: Emptiness, database: Database) -> None:
    await give(database, "ann")
    assert await empty.vouch("ann") is None
    assert await empty.vouch("bob") is not None


async def test_what_is_stored_during_the_look_counts(empty: Emptiness, database: Database, monkeypatch: Any) -> None:
    fetch_one = database.fetch_one

    async def slow(*args: Any) -> Any:
        row = await fetch_one(*args)
        with empty.adding("ann"):
            await give(database, "ann")
        return row

    monkeypatch.setattr(database, "fetch_one", slow)
    assert await empty.vouch("ann") is None


async def test_of_a_write_that_was_given_up_nobody_knows(empty: Emptiness) -> None:
    with trio.CancelScope() as scope, empty.adding("ann"):
        scope.cancel(reason="the client left")
        await trio.sleep_forever()
    assert await empty.vouch("ann") is None
    assert await empty.vouch("bob") is not None


async def test_what_is_remembered_is_bounded(empty: Emptiness, monkeypatch: Any) -> None:
    monkeypatch.setattr(emptiness, "USERS", 2)
    first = await empty.vouch("user 0")
    for number in range(1, 5):
        assert await empty.vouch(f"user {number}") is not None
    assert first is not None
    assert not first.holds
    for number in range(5):
        with pytest.raises(apsw.FullError), empty.adding(f"user {number}"):
            raise apsw.FullError
    assert await empty.vouch("ann") is None  # of so many nobody could tell them apart


async def test_after_its_end_nothing_stands(database: Database) -> None:
    async with Emptiness(database) as empty:
        standing = await empty.vouch("ann")
    assert standing is not None
    assert not standing.holds
