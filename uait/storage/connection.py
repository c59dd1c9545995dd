"""One SQLite connection: how it is opened and set up, how work is sent to its thread, how it is closed.

All SQLite calls of a connection happen in its thread. A whole function is sent over in one hop (`run`), because a hop costs far more than a query.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import trio

from uait.storage.worker import Worker

T = TypeVar("T")

BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for a lock which another process holds."""

LOCK_TIMEOUT = 30.0
"""Seconds that opening a file waits while another process migrates it."""

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for a thread that does not come back, before it is left behind."""

WRITER_CACHE_KIB = 1024
READER_CACHE_KIB = 512
"""Page cache of one connection, taken as it is used: small, because the whole program with all its databases is to stay small."""

WAL_KEPT = 16 * 1024 * 1024
"""A write-ahead log that a long reader made grow beyond this many bytes is cut back to it."""


def make_private(path: Path) -> None:
    """Make an empty file, and its directory, that only this user can read; what is there already stays as it is. SQLite gives the write-ahead log the file's mode. Blocks."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


async def open_connection(
    path: Path, *, name: str, flags: int, setup: Callable[[apsw.Connection], None]
) -> apsw.AsyncConnection:
    """Open a connection and run `setup` in its thread. The caller closes it with `close_connection`.

    While another process holds the file, `setup` is run again and again, for at most `LOCK_TIMEOUT`; so it can be run twice.

    Raises what APSW raises. On cancellation it is closed again before the cancellation goes on.
    """

    def prepare(connection: apsw.Connection) -> None:
        connection.set_busy_timeout(100)
        setup(connection)
        connection.set_busy_timeout(round(BUSY_TIMEOUT * 1000))

    controller: Any = partial(Worker, f"uait {name}")
    before = apsw.async_controller.set(controller)
    connection: apsw.AsyncConnection | None = None
    try:
        # Nobody would close a connection whose opener was cancelled before he had it.
        with trio.move_on_after(LOCK_TIMEOUT, shield=True):
            connection = await apsw.Connection.as_async(str(path), flags=flags)
    finally:
        apsw.async_controller.reset(before)
    if connection is None:
        raise apsw.CantOpenError(f"the file was not opened within {LOCK_TIMEOUT:g} s")
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
        deadline = trio.current_time() + LOCK_TIMEOUT
        while True:
            try:
                await run(connection, prepare, connection)
                break
            except (apsw.BusyError, apsw.LockedError):
                if trio.current_time() > deadline:
                    raise
            await trio.sleep(0.02)
    except BaseException:
        await close_connection(connection)
        raise
    return connection


def configure(connection: apsw.Connection, *, cache_kib: int) -> None:
    """What every connection is set to, reading or writing. In the connection's thread."""
    for option, value in (
        (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
        (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
        (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
        (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    ):
        connection.config(option, value)
    connection.pragma("cache_size", -cache_kib)


def configure_writer(connection: apsw.Connection) -> None:
    """Write-ahead log, and an fsync at every commit: what is acknowledged survives a power cut."""
    configure(connection, cache_kib=WRITER_CACHE_KIB)
    mode = connection.pragma("journal_mode", "wal")
    if mode != "wal":
        raise apsw.CantOpenError(f"the write-ahead log cannot be switched on (journal mode {mode})")
    connection.pragma("synchronous", "full")
    connection.pragma("journal_size_limit", WAL_KEPT)
    connection.pragma("secure_delete", True)  # what users delete is overwritten, not only unlinked


def configure_reader(connection: apsw.Connection) -> None:
    configure(connection, cache_kib=READER_CACHE_KIB)


async def run(connection: apsw.AsyncConnection, call: Callable[..., T], *args: Any) -> T:
    """Call `call(*args)` in the connection's thread; inside it, the connection is an ordinary one.

    On cancellation it returns at once, and the query under way in the thread stops at its next look; a call that had not begun does not begin.
    """
    return await connection.async_run(call, *args)  # type: ignore[no-any-return]


def end_transaction(connection: apsw.Connection, error: BaseException | None = None) -> None:
    """Leave the read transaction, so that the write-ahead log can be reset. In the connection's thread.

    Args:
        error: what the function raised. A half-read cursor in its frames would hold the transaction open for as long as somebody looks at the traceback; then the frames are cleared.

    Raises:
        TypeError: a cursor is still open although nothing was raised: the function returned it.
    """
    if not connection.get_autocommit():
        connection.execute("ROLLBACK")
    if connection.txn_state("main") == apsw.SQLITE_TXN_NONE:
        return
    if error is None:
        raise TypeError(
            "the function left a cursor open: fetch what it is to return (`.fetchall()`), cursors stay in their thread"
        )
    traceback.clear_frames(error.__traceback__)


async def close_connection(connection: apsw.AsyncConnection) -> bool:
    """Close it and end its thread, also when the caller is cancelled. True when that is done, False when the thread did not come back in `CLOSE_TIMEOUT`; it closes the connection when it does."""
    worker: Any = connection.async_controller
    worker.closing()
    with trio.move_on_after(CLOSE_TIMEOUT, shield=True) as scope:
        await connection.aclose(True)
    return not scope.cancelled_caught
