"""Whether index and rows agree: for `uait doctor`, and for tests that kill the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

FILE = "memory.sqlite3"


def check_data(directory: Path) -> list[str]:
    """What is wrong with the memory service's file in a data directory, in sentences. Nobody else has it open. Recovers it first, as a start does."""
    path = directory / FILE
    if not path.exists():
        return []
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(2000)
            return check_connection(connection)
        finally:
            connection.close(True)
    except apsw.Error as error:
        return [f"{FILE} cannot be checked: {error}"]


def check_connection(connection: apsw.Connection) -> list[str]:
    """What is wrong with the memories in an open file."""
    problems: list[str] = []
    if not _rows(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'memory_words'"):
        return []  # an earlier version's; the next start brings it up to date
    for (verdict,) in _rows(connection, "PRAGMA quick_check"):
        if verdict != "ok":
            problems.append(f"{FILE} is damaged: {verdict}")
    [(unindexed,)] = _rows(connection, "SELECT count(*) FROM memory WHERE seq NOT IN (SELECT seq FROM memory_words)")
    if unindexed:
        problems.append(f"{unindexed} memories are not in the index")
    [(left,)] = _rows(connection, "SELECT count(*) FROM memory_words WHERE seq NOT IN (SELECT seq FROM memory)")
    if left:
        problems.append(f"the index has {left} memories that are not there")
    counted = _rows(
        connection,
        "SELECT count(*) FROM owner AS o WHERE (memories, words) != "
        "(SELECT count(*), coalesce(sum(length), 0) FROM memory_words WHERE owner = o.number)",
    )
    if counted[0][0]:
        problems.append(f"the memories of {counted[0][0]} users are counted wrongly")
    try:
        # It reads every word of every memory, and compares it with what the index has.
        connection.execute("INSERT INTO memory_text (memory_text, rank) VALUES ('integrity-check', 1)")
    except apsw.CorruptError:
        problems.append("the index of words disagrees with the memories")
    return problems


def _rows(connection: apsw.Connection, sql: str) -> list[Any]:
    return connection.execute(sql).fetchall()
