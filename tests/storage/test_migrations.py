"""Migrations: forward only, each whole or not at all, one process at a time."""

from __future__ import annotations

import sys
from functools import partial
from subprocess import PIPE

import apsw
import pytest
import trio

from uait.storage import DatabaseTooNew, MigrationFailed, open_database


def fill(connection):
    connection.executemany("INSERT INTO note(text) VALUES (?)", [("a",), ("b",)])


STEPS = [
    "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); CREATE INDEX by_text ON note(text);",
    fill,
    "ALTER TABLE note ADD COLUMN length INTEGER; UPDATE note SET length = length(text); SELECT * FROM note; UPDATE note SET length = length + 1;",
    # A table is rebuilt although another one refers to it, which needs foreign keys off.
    "CREATE TABLE tag (note INTEGER NOT NULL REFERENCES note(id) ON DELETE CASCADE); INSERT INTO tag SELECT id FROM note;",
    "CREATE TABLE new (id INTEGER PRIMARY KEY, text TEXT NOT NULL, length INTEGER); INSERT INTO new SELECT * FROM note; DROP TABLE note; ALTER TABLE new RENAME TO note;",
]


async def version(database):
    return (await database.fetch_one("PRAGMA user_version"))[0]


@pytest.mark.parametrize("earlier", range(len(STEPS) + 1))
async def test_from_every_earlier_version(tmp_path, earlier):
    path = tmp_path / "test.sqlite3"
    async with open_database(path, STEPS[:earlier]) as database:
        assert await version(database) == earlier
    async with open_database(path, STEPS) as database:
        assert await version(database) == len(STEPS)
        assert await database.fetch_all("SELECT id, text, length FROM note") == [(1, "a", 2), (2, "b", 2)]
        assert await database.fetch_all("SELECT note FROM tag") == [(1,), (2,)]
        assert (
            await database.execute("DELETE FROM note WHERE id = 1") == 2
        )  # and the cascade: foreign keys are on again


async def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "test.sqlite3"
    async with open_database(path, STEPS):
        pass
    content = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match=r"schema version 5, this program knows 2.*newer uait") as caught:
        async with open_database(path, STEPS[:2]):
            pass
    assert (caught.value.found, caught.value.known) == (5, 2)
    assert path.read_bytes() == content


def crash(connection):
    connection.execute("INSERT INTO note(text) VALUES ('half')")
    raise ValueError("bad data")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (crash, "bad data"),
        ("INSERT INTO note(text) VALUES ('half'); INSERT INTO nowhere VALUES (1);", "no such table: nowhere"),
        (
            "INSERT INTO note(text) VALUES ('half'); CREATE TABLE x (n REFERENCES note(id)); INSERT INTO x VALUES (99);",
            "1 rows point to rows that do not exist",
        ),
    ],
)
async def test_a_failed_migration_leaves_nothing_and_the_ones_before_it_stay(tmp_path, bad, reason):
    path = tmp_path / "test.sqlite3"
    with pytest.raises(MigrationFailed, match=f"migration 3 failed and was undone: .*{reason}") as caught:
        async with open_database(path, [*STEPS[:2], bad]):
            pass
    assert caught.value.number == 3
    async with open_database(path, STEPS[:2]) as database:
        assert await version(database) == 2
        assert await database.fetch_all("SELECT text FROM note") == [("a",), ("b",)]


async def test_a_migration_that_commits_by_itself_is_named(tmp_path):
    with pytest.raises(MigrationFailed, match="ended the transaction"):
        async with open_database(tmp_path / "test.sqlite3", ["CREATE TABLE a (b); COMMIT"]):
            pass


SCRIPT = """
import sys, trio
from pathlib import Path
from uait.storage import open_database

def slow(number):
    def migration(connection):
        connection.execute(f"CREATE TABLE t{number} (x)")
        connection.execute(f"INSERT INTO t{number} SELECT value FROM json_each('[1,2,3]')")
    return migration

async def main():
    sys.stdout.write("up\\n"); sys.stdout.flush()
    sys.stdin.readline()
    async with open_database(Path(sys.argv[1]), [slow(n) for n in range(20)]) as database:
        rows = [await database.fetch_one(f"SELECT count(*) FROM t{n}") for n in range(20)]
        assert rows == [(3,)] * 20, rows

trio.run(main)
"""


async def test_two_processes_that_start_at_once_migrate_once(tmp_path):
    for attempt in range(3):
        path = tmp_path / f"{attempt}.sqlite3"
        command = [sys.executable, "-c", SCRIPT, str(path)]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                processes = [
                    await nursery.start(partial(trio.run_process, command, stdin=PIPE, stdout=PIPE)) for _ in range(3)
                ]
                for process in processes:
                    assert await process.stdout.receive_some(3) == b"up\n"
                for process in processes:
                    await process.stdin.send_all(b"go\n")
        connection = apsw.Connection(str(path))
        assert connection.pragma("user_version") == 20
        connection.close()
