"""The hub's database is there when it is needed, and not before."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from uait.errors import Unavailable
from uait.services.hub.on_demand import open_on_demand
from uait.services.hub.service import hub
from uait.storage import DatabaseClosed, DatabaseUnusable, open_database

SCHEMA = ["CREATE TABLE t (a)"]
LOG = logging.getLogger("uait.hub")


class Opened:
    """Counts how often the database is opened, and how often it is closed."""

    def __init__(self, path):
        self.path = path
        self.begun = self.ended = 0

    @asynccontextmanager
    async def __call__(self):
        self.begun += 1
        async with open_database(self.path, SCHEMA) as database:
            yield database
        self.ended += 1


@pytest.fixture
def opened(tmp_path):
    return Opened(tmp_path / "hub.sqlite3")


async def insert(database):
    await database.execute("INSERT INTO t VALUES (1)")


async def test_it_is_opened_once_by_whoever_needs_it_first_and_closed_at_the_end(opened):
    async with open_on_demand(opened.path, opened, LOG) as database:
        assert not database.is_open
        assert await database.check() == "ok"
        assert not opened.path.exists()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(insert, database)
        assert database.is_open
        assert await database.fetch_all("SELECT count(*) FROM t") == [(5,)]
        assert await database.check() == "ok"
    assert (opened.begun, opened.ended) == (1, 1)
    with pytest.raises(DatabaseClosed):
        await insert(database)


async def test_it_is_opened_at_once_where_there_is_something(opened):
    async with open_on_demand(opened.path, opened, LOG) as database:
        await insert(database)
    async with open_on_demand(opened.path, opened, LOG) as database:
        assert database.is_open
        assert await database.fetch_all("SELECT a FROM t") == [(1,)]


async def test_a_file_that_cannot_be_used_is_told_at_once(opened):
    opened.path.write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseUnusable):
        async with open_on_demand(opened.path, opened, LOG):
            raise AssertionError("unreachable")


async def test_where_it_cannot_be_made_whoever_needs_it_is_told_and_may_try_again(opened, caplog):
    async with open_on_demand(opened.path, opened, LOG) as database:
        opened.path.write_bytes(b"not a database" * 100)
        with pytest.raises(Unavailable):
            await insert(database)
        assert "what is to be kept" in caplog.text
        opened.path.unlink()
        await insert(database)


async def test_whoever_needs_it_first_may_go_at_the_last_moment(opened):
    there, go_on = trio.Event(), trio.Event()

    @asynccontextmanager
    async def takes_its_time():
        async with opened() as database:
            there.set()
            with trio.CancelScope(shield=True):  # as a thread does that is done just when nobody waits any more
                await go_on.wait()
            yield database

    async with open_on_demand(opened.path, takes_its_time, LOG) as database, trio.open_nursery() as nursery:
        first = trio.CancelScope()

        @nursery.start_soon
        async def need_it():
            with first:
                await insert(database)

        await there.wait()
        first.cancel(reason="the test's")
        go_on.set()
        await insert(database)
    assert (opened.begun, opened.ended) == (2, 1)


async def test_whoever_needs_it_first_may_go(opened):
    async with open_on_demand(opened.path, opened, LOG) as database:
        with trio.CancelScope() as scope:
            scope.cancel(reason="the test's")
            await insert(database)
        assert not database.is_open
        async with trio.open_nursery() as nursery:
            nursery.start_soon(insert, database)
        await insert(database)
        assert await database.fetch_all("SELECT count(*) FROM t") == [(2,)]


async def test_what_the_block_raises_comes_as_it_is(opened):
    with pytest.raises(KeyError):
        async with open_on_demand(opened.path, opened, LOG) as database:
            await insert(database)
            raise KeyError
    assert opened.begun == 1


async def test_what_is_declared_makes_the_file_and_outlives_the_service(run_service_live, tmp_path):
    mine, others = {"X-User-ID": "ada"}, {"X-User-ID": "bob"}
    with trio.fail_after(60):
        async with run_service_live(hub) as url, httpx.AsyncClient() as client:
            said = await client.post(f"{url}/rooms/tea/messages", json={"content": "hello"})
            assert said.status_code == 200
            assert (await client.get(f"{url}/health")).json()["checks"] == {"database": "ok"}
            assert not list(tmp_path.rglob("hub.sqlite3"))
            declared = await client.put(f"{url}/rooms/secret", json={"private": True}, headers=mine)
            assert declared.status_code == 200
            assert len(list(tmp_path.rglob("hub.sqlite3"))) == 1
        async with run_service_live(hub) as url, httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/rooms/secret", headers=mine)).status_code == 200
            assert (await client.get(f"{url}/rooms/secret", headers=others)).status_code == 404
