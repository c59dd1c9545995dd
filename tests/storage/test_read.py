"""Readers: bounded, in order, on one snapshot, and gone when the caller is."""

from __future__ import annotations

import threading

import apsw
import pytest
import trio
import trio.testing

from uait.storage import DatabaseBusy, open_database


async def fill(database, *texts):
    for text in texts:
        await database.execute("INSERT INTO item(text) VALUES (?)", (text,))


async def test_fetch(database):
    await fill(database, "a", "b")
    assert await database.fetch_all("SELECT text FROM item ORDER BY id") == [("a",), ("b",)]
    assert await database.fetch_one("SELECT text FROM item WHERE id = :id", {"id": 2}) == ("b",)
    assert await database.fetch_one("SELECT text FROM item WHERE id = ?", (3,)) is None


async def test_a_read_sees_one_state_whatever_is_written_meanwhile(database):
    first_done, written = threading.Event(), threading.Event()

    def twice(connection):
        count = "SELECT count(*) FROM item"
        before = connection.execute(count).fetchall()
        first_done.set()
        assert written.wait(30)
        return before, connection.execute(count).fetchall()

    seen = []

    async def read():
        seen.append(await database.read(twice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        while not first_done.is_set():
            await trio.sleep(0.001)
        await fill(database, "a")
        written.set()
    assert seen == [([(0,)], [(0,)])]
    assert await database.fetch_all("SELECT count(*) FROM item") == [(1,)]


async def test_the_event_loop_goes_on_while_a_query_runs(database, gate):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.read, gate)
        await gate.held()  # polls in the event loop, which could not run if the query held it
        gate.free.set()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_the_query_itself_stops_when_its_caller_goes(tmp_path, schema, endless, how):
    under_way = threading.Event()

    def run(connection):
        under_way.set()
        return connection.execute(endless).fetchall()

    async with open_database(tmp_path / "one.sqlite3", schema, readers=1) as database:
        with trio.fail_after(20):  # uninterrupted, the query would hold the only reader for minutes
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(database.read, run)
                    while not under_way.is_set():
                        await trio.sleep(0.001)
                    if how == "deadline":
                        scope.deadline = trio.current_time() + 0.05
                    else:
                        scope.cancel(reason="test")
            assert scope.cancelled_caught
            assert await database.fetch_all("SELECT 1") == [(1,)]
        assert database.statistics().interrupted == 1


async def test_a_deadline_is_never_more_than_a_cancellation(database, endless):
    """APSW has deadlines of its own; TooSlowError out of `move_on_after` would be a surprise."""
    for delay in (0.001, 0.003, 0.01, 0.03):
        with trio.move_on_after(delay) as scope:
            await database.fetch_all(endless)
        assert scope.cancelled_caught


async def test_readers_are_opened_as_needed_and_no_more_than_allowed(database, threads):
    assert threads() == ["uait test writer"]
    await database.fetch_all("SELECT 1")
    await database.fetch_all("SELECT 1")
    assert database.statistics().readers == 1
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(database.fetch_all, "SELECT 1")
    assert database.statistics().readers == 2
    assert len(threads()) == 3


async def test_reads_are_served_in_the_order_they_came(tmp_path, schema, gate):
    async with open_database(tmp_path / "one.sqlite3", schema, readers=1) as database:
        served = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.read, gate)
            await gate.held()
            for number in range(5):
                nursery.start_soon(database.read, lambda _, number=number: served.append(number))
                await trio.testing.wait_all_tasks_blocked()
            gate.free.set()
        assert served == [0, 1, 2, 3, 4]


async def test_more_waiting_reads_than_the_queue_holds_are_refused(tmp_path, schema, gate, monkeypatch):
    async with open_database(tmp_path / "one.sqlite3", schema, readers=1) as database:
        monkeypatch.setattr(database._readers, "_queue", 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.read, gate)
            await gate.held()
            nursery.start_soon(database.fetch_all, "SELECT 1")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(DatabaseBusy):
                await database.fetch_all("SELECT 2")
            gate.free.set()


async def test_a_reader_cannot_write(database):
    with pytest.raises(apsw.ReadOnlyError):
        await database.read(lambda connection: connection.execute("INSERT INTO item(text) VALUES ('a')"))
    assert await database.check() == "ok"


async def test_what_a_function_raises_comes_through_with_its_traceback(database):
    def broken(_):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        await database.read(broken)
    assert caught.traceback[-1].name == "broken"
    with pytest.raises(apsw.SQLError):
        await database.fetch_all("SELECT nonsense")


def log_can_be_emptied(connection):
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return busy == 0


async def without_transaction(database, function):
    """Run `function` in the writer's thread, outside of a group's transaction."""
    return await database._writer._connection.async_run(function, database._writer._connection)


async def test_a_returned_cursor_is_refused_and_holds_nothing(database):
    await fill(database, "a", "b")
    with pytest.raises(TypeError, match="cursor"):
        await database.read(lambda connection: connection.execute("SELECT * FROM item"))
    assert await without_transaction(database, log_can_be_emptied)


async def test_an_exception_that_somebody_keeps_holds_no_snapshot(database):
    """Its traceback has the frames, the frames have the cursor, and a half-read cursor keeps the log from being emptied."""

    def half_read(connection):
        cursor = connection.execute("SELECT * FROM item")
        cursor.fetchone()
        raise LookupError

    await fill(database, "a", "b")
    with pytest.raises(LookupError) as kept:
        await database.read(half_read)
    assert await without_transaction(database, log_can_be_emptied)
    assert kept.value is not None


async def test_a_large_answer_is_not_kept_by_the_thread(database):
    class Answer:
        pass

    import gc
    import weakref

    answer = await database.read(lambda _: Answer())
    gone = weakref.ref(answer)
    del answer
    gc.collect()
    assert gone() is None
