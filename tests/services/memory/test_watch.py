"""Watchers learn what has become durable, also where whoever asked for it has gone."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import apsw
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.memory.forget import Forgetter
from uait.services.memory.model import NewMemory
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.store import MemoryStore
from uait.services.memory.watch import Changes
from uait.services.memory.work import Work
from uait.storage import Database, open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "memory.db", MIGRATIONS) as database:
        yield database


async def leave_before_the_commit(database: Database, write: Callable[[], Awaitable[object]]) -> None:
    """Cancel `write` when its function has run, but the commit, which it shares with another one, has not."""
    held, free = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def gate(number: int) -> Callable[[apsw.Connection], None]:
        def wait(_: apsw.Connection) -> None:
            held[number].set()
            assert free[number].wait(30)

        return wait

    async def reached(number: int) -> None:
        while not held[number].is_set():
            await trio.sleep(0.001)

    async def leave() -> None:
        with scope:
            await write()

    scope = trio.CancelScope()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, gate(0))
            await reached(0)
            nursery.start_soon(leave)
            await wait_all_tasks_blocked()
            nursery.start_soon(database.write, gate(1))
            await wait_all_tasks_blocked()
            free[0].set()
            await reached(1)
            scope.cancel(reason="its client has gone")
            await wait_all_tasks_blocked()
            free[1].set()
    assert scope.cancelled_caught


async def test_what_is_stored_and_deleted_behind_those_who_have_left(database: Database) -> None:
    changes = Changes()
    store, forgetter = MemoryStore(database, changes), Forgetter(database, changes, Work())
    kept = changes.feed("ann")
    await leave_before_the_commit(database, lambda: store.add("ann", NewMemory(content="tea at five")))
    ((memory_id,),) = await database.fetch_all("SELECT id FROM memory")
    await leave_before_the_commit(database, lambda: forgetter.one("ann", str(memory_id)))
    assert await database.fetch_all("SELECT id FROM memory") == []
    told = [event.data for event in kept.last(5)]
    assert [(event["event"], event["ids"]) for event in told] == [("add", [memory_id]), ("delete", [memory_id])]
    with trio.fail_after(5):  # what is to be deleted from the log, too
        await forgetter._to_erase.wait()
