"""Group commit: shared fsyncs, separate fates."""

from __future__ import annotations

import threading
from functools import partial

import apsw
import pytest
import trio
import trio.testing

from uait.storage import DatabaseBusy, DatabaseFull, writer


def insert(text):
    return lambda connection: connection.execute("INSERT INTO item(text) VALUES (?) RETURNING id", (text,)).fetchone()[
        0
    ]


async def texts(database):
    return [row[0] for row in await database.fetch_all("SELECT text FROM item ORDER BY id")]


async def together(database, gate, functions):
    """Run the functions in one group, in this order; returns what each gave or raised."""
    results = [None] * len(functions)

    async def one(index, function):
        try:
            results[index] = await database.write(function)
        except Exception as error:
            results[index] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate)
        await gate.held()
        for index, function in enumerate(functions):
            nursery.start_soon(one, index, function)
            await trio.testing.wait_all_tasks_blocked()
        assert database.statistics().waiting_writes == len(functions)
        gate.free.set()
    return results


async def test_write_returns_what_the_function_returned_and_is_seen_by_the_next_read(database):
    first = await database.write(insert("a"))
    assert await database.write(insert("b")) == first + 1
    assert await texts(database) == ["a", "b"]
    assert await database.execute("UPDATE item SET text = text || '!'") == 2


async def test_waiting_writes_share_one_commit(database, gate):
    before = database.statistics().commits
    assert await together(database, gate, [insert(str(n)) for n in range(50)]) == list(range(1, 51))
    assert database.statistics().commits == before + 2  # the one at the gate, and everybody else
    assert len(await texts(database)) == 50


async def test_one_failure_undoes_nobody_elses_write(database, gate):
    def half(connection):
        connection.execute("INSERT INTO item(text) VALUES ('half')")
        raise ValueError("second half")

    first, error, duplicate, last = await together(database, gate, [insert("a"), half, insert("a"), insert("b")])
    assert isinstance(error, ValueError)
    assert isinstance(duplicate, apsw.ConstraintError)
    assert (first, last) == (1, 2)
    assert await texts(database) == ["a", "b"]
    assert database.statistics().failed == 2


async def test_a_deferred_constraint_that_fails_at_the_commit_hits_only_its_own_write(database, gate):
    def orphan(connection):
        connection.execute("INSERT INTO part(item, text) VALUES (99, 'orphan')")

    first, error, last = await together(database, gate, [insert("a"), orphan, insert("b")])
    assert isinstance(error, apsw.ConstraintError)
    assert (first, last) == (1, 2)
    assert await texts(database) == ["a", "b"]
    assert await database.fetch_all("SELECT * FROM part") == []


@pytest.mark.parametrize(
    "statement", ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN", "END", "ROLLBACK TO one", "RELEASE one"]
)
async def test_a_function_that_ends_the_transaction_harms_nobody_else(database, gate, statement):
    def rogue(connection):
        connection.execute("INSERT INTO item(text) VALUES ('rogue')")
        connection.execute(statement)

    first, _, last = await together(database, gate, [insert("a"), rogue, insert("b")])
    assert isinstance(first, int)
    assert isinstance(last, int)
    assert [text for text in await texts(database) if text != "rogue"] == ["a", "b"]


async def test_a_full_disk_fails_the_write_that_did_not_fit_and_stores_the_others_once(database, gate):
    def limit(connection):
        pages = connection.pragma("page_count")
        connection.pragma("max_page_count", pages + 2)

    await database.write(limit)
    big = insert("x" * 1_000_000)
    first, error, last = await together(database, gate, [insert("a"), big, insert("b")])
    assert isinstance(error, DatabaseFull)
    assert error.http_status == 507
    assert str(database.path) not in str(error)
    assert any(str(database.path) in note for note in error.__notes__)
    assert isinstance(first, int)
    assert isinstance(last, int)
    assert await texts(database) == ["a", "b"]


async def test_health_is_degraded_while_the_disk_is_full(database):
    assert await database.check() == "ok"
    await database.write(lambda connection: connection.pragma("max_page_count", connection.pragma("page_count")))
    with pytest.raises(DatabaseFull):
        await database.write(insert("x" * 100_000))
    assert (await database.check()).startswith("degraded: The disk is full")
    await database.write(insert("small"))
    assert await database.check() == "ok"


async def test_a_cancelled_write_that_has_not_begun_never_happens(database, gate):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate)
        await gate.held()
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await database.write(insert("never"))
        assert scope.cancelled_caught
        assert database.statistics().waiting_writes == 0
        gate.free.set()
    await database.write(insert("after"))
    assert await texts(database) == ["after"]


async def cancel_when_blocked(scope):
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel(reason="test")


async def test_a_cancelled_write_under_way_is_interrupted_and_its_group_is_stored(database, gate, endless):
    started = threading.Event()

    def slow(connection):
        connection.execute("INSERT INTO item(text) VALUES ('slow')")
        started.set()
        connection.execute(f"INSERT INTO item(text) {endless}")

    scope = trio.CancelScope()

    async def write_slowly():
        with scope:
            await database.write(slow)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, gate)
            await gate.held()
            for task in (
                partial(database.write, insert("before")),
                write_slowly,
                partial(database.write, insert("after")),
            ):
                nursery.start_soon(task)
                await trio.testing.wait_all_tasks_blocked()
            gate.free.set()
            while not started.is_set():
                await trio.sleep(0.001)
            scope.cancel(reason="test")
    assert scope.cancelled_caught
    assert await texts(database) == ["before", "after"]


async def test_more_waiting_writes_than_the_queue_holds_are_refused(database, gate, monkeypatch):
    monkeypatch.setattr(database._writer, "_queue", 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate)
        await gate.held()
        nursery.start_soon(database.write, insert("a"))
        nursery.start_soon(database.write, insert("b"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(DatabaseBusy) as caught:
            await database.write(insert("c"))
        assert caught.value.headers["Retry-After"]
        gate.free.set()
    assert sorted(await texts(database)) == ["a", "b"]


async def test_groups_are_bounded(database, gate, monkeypatch):
    monkeypatch.setattr(writer, "GROUP", 10)
    before = database.statistics().commits
    await together(database, gate, [insert(str(n)) for n in range(25)])
    assert database.statistics().commits == before + 1 + 3


async def test_a_returned_cursor_is_refused(database):
    with pytest.raises(TypeError, match="cursor"):
        await database.write(lambda connection: connection.execute("INSERT INTO item(text) VALUES ('a') RETURNING id"))
    assert await texts(database) == []


async def test_foreign_keys_are_enforced_and_commits_are_synced(database):
    def settings(connection):
        return [connection.pragma(name) for name in ("foreign_keys", "journal_mode", "synchronous")]

    assert await database.write(settings) == [1, "wal", 2]


async def test_a_lock_held_by_another_process_is_a_clear_error(database, monkeypatch):
    await database.write(lambda connection: connection.set_busy_timeout(20))
    other = apsw.Connection(str(database.path))
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(DatabaseBusy):
            await database.write(insert("a"))
    finally:
        other.execute("ROLLBACK")
        other.close()
    await database.write(insert("b"))
    assert await texts(database) == ["b"]


async def test_the_log_can_be_emptied_between_writes(database, tmp_path):
    await database.execute("CREATE TABLE secret (text TEXT)")
    await database.execute("INSERT INTO secret VALUES ('xyzzyplugh')")
    await database.execute("DELETE FROM secret")
    log = database.path.with_name(database.path.name + "-wal")
    assert b"xyzzyplugh" in log.read_bytes()
    assert await database.empty_log()
    assert log.read_bytes() == b""
    assert b"xyzzyplugh" not in database.path.read_bytes()
    await database.execute("INSERT INTO secret VALUES ('and on it goes')")
    assert await database.fetch_one("SELECT count(*) FROM secret") == (1,)


async def test_writes_do_not_stand_still_while_a_long_read_keeps_the_log(database):
    free = threading.Event()
    reading = threading.Event()

    def read(connection):
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        reading.set()
        assert free.wait(30)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.read, read)
        assert await trio.to_thread.run_sync(reading.wait, 30)
        await database.write(insert("a"))
        try:
            with trio.fail_after(4):
                assert not await database.empty_log()
                await database.write(insert("b"))
        finally:
            free.set()
    assert await database.empty_log()
    assert await texts(database) == ["a", "b"]


async def test_the_log_is_emptied_although_somebody_writes_all_the_time(database, gate):
    """In its turn: what comes after it waits for it."""
    done = []

    async def one(name, request, *args):
        await request(*args)
        done.append(name)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "first", database.write, gate)
            await gate.held()
            nursery.start_soon(one, "before", database.write, insert("before"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one, "log", database.empty_log)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one, "after", database.write, insert("after"))
            await trio.testing.wait_all_tasks_blocked()
            gate.free.set()
    assert done == ["first", "before", "log", "after"]


async def test_what_is_stored_is_told_in_order_also_where_its_caller_has_gone(database, gate):
    told = []
    leaving = threading.Event()

    def last_words(connection):
        number = insert("gone")(connection)
        leaving.set()
        assert gate.free.wait(30)
        return number

    gate.free.clear()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, last_words, told.append)
            while not leaving.is_set():
                await trio.sleep(0.001)
            scope.cancel(reason="test")
    assert told == []
    gate.free.set()
    await database.write(insert("after"), told.append)
    assert told == [1, 2]


async def test_what_is_not_stored_is_not_told(database):
    told = []
    await database.write(insert("a"))
    with pytest.raises(apsw.ConstraintError):
        await database.write(insert("a"), told.append)
    assert told == []


async def test_a_failure_to_tell_is_its_caller_s_and_the_others_are_answered(database, gate):
    async def one(text, stored):
        try:
            results[text] = await database.write(insert(text), stored)
        except ZeroDivisionError:
            results[text] = "failed"

    results = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, gate)
        await gate.held()
        nursery.start_soon(one, "a", lambda number: 1 / 0)
        nursery.start_soon(one, "b", lambda number: None)
        await trio.testing.wait_all_tasks_blocked()
        gate.free.set()
    assert results["a"] == "failed"
    assert results["b"] in (1, 2)
    assert sorted(await texts(database)) == ["a", "b"]
