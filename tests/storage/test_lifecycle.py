"""Opening and closing: private, clean, bounded, with errors that say what to do."""

from __future__ import annotations

import os
import stat
import threading

import apsw
import pytest
import trio
import trio.lowlevel
import trio.testing

from uait.storage import DatabaseBroken, DatabaseClosed, DatabaseUnusable, connection, open_database, writer


async def test_what_was_written_is_there_after_reopening(tmp_path, schema):
    path = tmp_path / "deep" / "er" / "test.sqlite3"
    async with open_database(path, schema) as database:
        await database.execute("INSERT INTO item(text) VALUES ('a')")
    async with open_database(path, schema) as database:
        assert await database.fetch_all("SELECT text FROM item") == [("a",)]


async def test_only_the_owner_may_read_the_files(tmp_path, schema):
    path = tmp_path / "data" / "test.sqlite3"
    async with open_database(path, schema) as database:
        await database.execute("INSERT INTO item(text) VALUES ('a')")
        files = sorted(path.parent.iterdir())
        assert len(files) == 3
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_closing_empties_the_log_and_ends_the_threads(tmp_path, schema, threads):
    async with open_database(tmp_path / "test.sqlite3", schema) as database:
        await database.execute("INSERT INTO item(text) VALUES ('a')")
        await database.fetch_all("SELECT 1")
        assert len(threads()) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["test.sqlite3"]
    await settled(lambda: threads() == [])


async def settled(condition):
    """The thread ends a moment after it has answered its last call."""
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.001)


async def test_closing_when_cancelled_is_as_clean(tmp_path, schema, threads, endless):
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with open_database(tmp_path / "test.sqlite3", schema) as database, trio.open_nursery() as nursery:
                nursery.start_soon(database.fetch_all, endless)
                nursery.start_soon(database.execute, "INSERT INTO item(text) VALUES ('a')")
                await trio.sleep(0.05)
                scope.cancel(reason="test")
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert [file.name for file in tmp_path.iterdir()] == ["test.sqlite3"]
        await settled(lambda: threads() == [])


@pytest.mark.parametrize("steps", range(0, 12, 2))
async def test_opening_when_cancelled_leaves_no_thread(tmp_path, schema, threads, steps):
    async def opening():
        async with open_database(tmp_path / "test.sqlite3", schema):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(opening)
        for _ in range(steps):
            await trio.sleep(0.0005)
        nursery.cancel_scope.cancel(reason="test")
    await settled(lambda: threads() == [])


async def test_a_connection_whose_opening_is_cancelled_ends_its_thread(tmp_path, threads):
    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        await connection.open_connection(
            tmp_path / "test.sqlite3",
            name="test",
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
            setup=connection.configure_writer,
        )
    assert scope.cancelled_caught
    await settled(lambda: threads() == [])


async def test_closing_a_connection_waits_although_the_caller_is_cancelled(tmp_path):
    path = tmp_path / "test.sqlite3"
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    opened = await connection.open_connection(path, name="test", flags=flags, setup=connection.configure_writer)
    await connection.run(opened, lambda: opened.execute("CREATE TABLE t (x)").fetchall())
    assert len(list(tmp_path.iterdir())) == 3
    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        assert await connection.close_connection(opened)
    assert len(list(tmp_path.iterdir())) == 1


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path, schema):
    with pytest.raises(LookupError, match="mine"):
        async with open_database(tmp_path / "test.sqlite3", schema):
            raise LookupError("mine")


async def test_a_block_that_is_cancelled_can_still_write_down_how_it_ends(tmp_path, schema):
    path = tmp_path / "test.sqlite3"
    with trio.CancelScope() as scope:
        async with open_database(path, schema) as database:
            try:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel(reason="test")
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(10, shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                    await database.execute("INSERT INTO item(text) VALUES ('the end')")
    assert scope.cancelled_caught
    async with open_database(path, schema) as database:
        assert await database.fetch_all("SELECT text FROM item") == [("the end",)]


async def test_what_the_block_raises_comes_out_also_where_it_is_cancelled(tmp_path, schema):
    with trio.CancelScope() as scope, pytest.raises(LookupError, match="mine"):
        async with open_database(tmp_path / "test.sqlite3", schema):
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="test")
            raise LookupError("mine")
    assert not scope.cancelled_caught


async def test_closed_is_closed(tmp_path, schema):
    async with open_database(tmp_path / "test.sqlite3", schema) as database:
        await database.fetch_all("SELECT 1")
    for request in (database.fetch_all, database.execute):
        with pytest.raises(DatabaseClosed):
            await request("SELECT 1")


async def test_whoever_still_waits_when_it_closes_is_told(tmp_path, schema, gate, endless):
    caught = []

    async def ask(request, sql):
        try:
            await request(sql)
        except DatabaseClosed as error:
            caught.append(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, open_database(tmp_path / "test.sqlite3", schema) as database:
            nursery.start_soon(database.write, gate)
            await gate.held()
            nursery.start_soon(ask, database.execute, "INSERT INTO item(text) VALUES ('never')")
            nursery.start_soon(ask, database.fetch_all, endless)
            await trio.sleep(0.05)
            threading.Timer(0.1, gate.free.set).start()
    assert len(caught) == 2


async def test_a_write_that_has_begun_is_finished_although_the_block_is_cancelled(tmp_path, schema, gate):
    answers = []

    async def write(database):
        answers.append(await database.write(lambda connection: [gate(connection), "done"][1]))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with open_database(tmp_path / "test.sqlite3", schema) as database:
                    nursery.start_soon(write, database)
                    await gate.held()
                    threading.Timer(0.1, gate.free.set).start()
                    scope.cancel(reason="test")
                    await trio.sleep_forever()
    assert answers == ["done"]


async def test_a_thread_that_does_not_come_back_is_left_behind_and_named(
    tmp_path, schema, gate, monkeypatch, caplog, threads
):
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.05)
    path = tmp_path / "test.sqlite3"
    with trio.fail_after(20), trio.CancelScope() as scope:
        async with open_database(path, schema) as database, trio.open_nursery() as nursery:
            nursery.start_soon(database.read, gate)
            await gate.held()
            scope.cancel(reason="test")
    assert str(path) in caplog.text
    await settled(lambda: threads() == ["uait test reader"])
    gate.free.set()
    await settled(lambda: threads() == [])


async def test_a_disk_that_hangs_under_a_write_does_not_hold_up_the_closing(
    tmp_path, schema, gate, monkeypatch, caplog, threads
):
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT", 0.05)
    path = tmp_path / "test.sqlite3"
    told = []

    async def write(database):
        with pytest.raises(DatabaseClosed) as caught:
            await database.write(gate)
        told.append(caught.value)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, open_database(path, schema) as database:
            nursery.start_soon(write, database)
            await gate.held()
    assert len(told) == 1
    assert str(path) in caplog.text
    gate.free.set()
    await settled(lambda: threads() == [])


def test_a_thread_that_comes_back_after_the_run_is_over_ends_quietly(tmp_path, schema, gate, monkeypatch, threads):
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.05)

    async def main():
        with trio.fail_after(20), trio.CancelScope() as scope:
            async with (
                open_database(tmp_path / "test.sqlite3", schema) as database,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(database.read, gate)
                await gate.held()
                scope.cancel(reason="test")

    trio.run(main)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "uait test reader"]
    gate.free.set()
    thread.join(10)
    assert "uait test reader" not in threads()


async def test_not_a_database(tmp_path, schema):
    path = tmp_path / "test.sqlite3"
    path.write_text("dear diary\n" * 1000)
    with pytest.raises(DatabaseUnusable, match="is not an SQLite database") as caught:
        async with open_database(path, schema):
            pass
    assert caught.value.path == path
    assert isinstance(caught.value.__cause__, apsw.NotADBError)
    assert path.read_text().startswith("dear diary")


@pytest.mark.parametrize("name", ["directory", "file/test.sqlite3"])
async def test_where_no_file_can_be(tmp_path, schema, name):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusable, match="cannot be"):
        async with open_database(tmp_path / name, schema):
            pass


async def test_a_damaged_file(tmp_path, schema, threads):
    path = tmp_path / "test.sqlite3"
    async with open_database(path, schema) as database:
        for number in range(200):
            await database.execute("INSERT INTO item(text) VALUES (?)", (f"{number} " + "x" * 500,))
    with path.open("r+b") as file:
        for page in range(3, 20):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    async with open_database(path, schema) as database:
        with pytest.raises(DatabaseBroken) as caught:
            await database.fetch_all("SELECT count(*), max(text) FROM item NOT INDEXED")
    assert str(path) not in str(caught.value)
    await settled(lambda: threads() == [])


async def test_statistics(database):
    await database.execute("INSERT INTO item(text) VALUES ('a')")
    await database.fetch_all("SELECT 1")
    statistics = database.statistics()
    assert (statistics.reads, statistics.writes, statistics.commits, statistics.readers) == (1, 1, 1, 1)
    assert (statistics.waiting_reads, statistics.waiting_writes, statistics.failed, statistics.interrupted) == (
        0,
        0,
        0,
        0,
    )
    assert statistics.bytes >= 4096
    assert statistics.wal_bytes > 0
