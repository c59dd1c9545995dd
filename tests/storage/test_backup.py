"""Online backup: one consistent state, whole or not at all."""

from __future__ import annotations

import threading

import apsw
import pytest
import trio

from uait.storage import DatabaseUnusable, backup, connection, open_database


@pytest.fixture
async def filled(database):
    for number in range(50):
        await database.execute("INSERT INTO item(text) VALUES (?)", (f"{number} " + "x" * 20_000,))
    return database


def contents(path):
    connection = apsw.Connection(str(path))
    try:
        assert connection.pragma("integrity_check") == "ok"
        return connection.execute("SELECT count(*) FROM item").fetchone()[0]
    finally:
        connection.close()


async def test_a_backup_opens_as_the_database_did(filled, tmp_path, schema):
    await filled.backup(tmp_path / "copy.sqlite3")
    async with open_database(tmp_path / "copy.sqlite3", schema) as copy:
        everything = "SELECT * FROM item"
        assert await copy.fetch_all(everything) == await filled.fetch_all(everything)


async def test_progress_ends_with_all_pages(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "PAGES", 10)
    seen = []
    await filled.backup(tmp_path / "copy.sqlite3", lambda done, pages: seen.append((done, pages)))
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert len({pages for _, pages in seen}) == 1


async def test_writes_go_on_and_the_copy_shows_the_state_at_its_beginning(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "PAGES", 10)
    steps = 0

    async with trio.open_nursery() as nursery:

        def write_more(done, pages):
            nonlocal steps
            steps += 1
            nursery.start_soon(filled.execute, "INSERT INTO item(text) VALUES (?)", (f"more {steps}",))

        await filled.backup(tmp_path / "copy.sqlite3", write_more)
    assert steps > 10
    assert contents(tmp_path / "copy.sqlite3") == 50
    assert await filled.fetch_one("SELECT count(*) FROM item") == (50 + steps,)


async def test_an_old_backup_is_replaced_only_by_a_whole_one(filled, tmp_path, monkeypatch):
    target = tmp_path / "copy.sqlite3"
    await filled.backup(target)
    await filled.execute("DELETE FROM item WHERE id > 10")
    monkeypatch.setattr(backup, "PAGES", 1)
    with trio.CancelScope() as scope:
        await filled.backup(target, lambda done, pages: scope.cancel(reason="test"))
    assert scope.cancelled_caught
    assert contents(target) == 50
    await filled.backup(target)
    assert contents(target) == 10
    assert sorted(file.name for file in tmp_path.iterdir() if "copy" in file.name) == ["copy.sqlite3"]


async def test_the_log_of_an_earlier_backup_is_not_taken_for_the_new_ones(filled, tmp_path):
    target = tmp_path / "copy.sqlite3"
    await filled.backup(target)
    changed = apsw.Connection(str(target))
    changed.execute("DELETE FROM item")
    log = target.with_name("copy.sqlite3-wal")
    stale = log.read_bytes()
    changed.close()
    log.write_bytes(stale)
    await filled.backup(target)
    assert contents(target) == 50


async def test_the_database_is_not_its_own_backup(filled):
    with pytest.raises(DatabaseUnusable, match="is the database itself"):
        await filled.backup(filled.path)


async def test_a_target_that_cannot_be_written(filled, tmp_path, threads):
    before = len(threads())
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusable, match="file"):
        await filled.backup(tmp_path / "file" / "copy.sqlite3")
    with pytest.raises(DatabaseUnusable, match="directory"):
        (tmp_path / "directory").mkdir()
        await filled.backup(tmp_path / "directory")
    with trio.fail_after(10):
        while len(threads()) > before:
            await trio.sleep(0.001)


async def test_a_disk_that_hangs_does_not_hold_up_who_is_cancelled(filled, tmp_path, gate, monkeypatch):
    monkeypatch.setattr(backup, "CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr(backup._Copy, "step", lambda copy: gate(copy._source))
    rescue = threading.Timer(5, gate.free.set)
    rescue.start()
    began = trio.current_time()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(filled.backup, tmp_path / "copy.sqlite3")
            await gate.held()
            scope.cancel(reason="test")
    assert scope.cancelled_caught
    assert trio.current_time() - began < 4
    rescue.cancel()
    gate.free.set()
    assert not (tmp_path / "copy.sqlite3").exists()
