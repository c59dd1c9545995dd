"""One SQLite connection in APSW's trio mode: how it is set up, how work is sent to its thread, how it is closed.

Every connection has one worker thread; all SQLite calls happen there. A whole function is sent over in one hop (`run`), because a hop costs far more than
a query.
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw
import apsw.aio
import trio

T = TypeVar("T")
V = TypeVar("V")

BUSY_TIMEOUT = 5.0
"""Seconds that SQLite waits for a lock which another process holds."""

CLOSE_TIMEOUT = 5.0
"""Seconds that closing waits for a thread that does not come back, before it is left behind."""

PROGRESS_STEPS = 10_000
"""SQLite looks every so many steps (well under a millisecond of plain work) whether the caller has gone. Each look needs the GIL, so fewer steps would slow long queries down."""

WRITER_CACHE_KIB = 2048
READER_CACHE_KIB = 1024
"""Page cache of one connection, taken as it is used: small, because the whole program with all its databases is to stay small."""

WAL_KEPT = 16 * 1024 * 1024
"""A write-ahead log that a long reader made grow beyond this many bytes is cut back to it."""


class Outcome(Generic[T]):
    """What one function gave, carried from the thread to the task.

    APSW's thread holds on to the last thing it returned until its next call, so results travel in here and are taken out: a large answer would otherwise stay in memory as long as
    nothing else is asked.
    """

    __slots__ = ("_error", "_value")

    def __init__(self) -> None:
        self._value: list[T] = []
        self._error: BaseException | None = None

    def succeed(self, value: T) -> None:
        self._value = [value]

    def fail(self, error: BaseException) -> None:
        self._error = error

    @property
    def failed(self) -> bool:
        return self._error is not None

    def take(self) -> T:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._value.pop()


@contextmanager
def _set(variable: ContextVar[V], value: V) -> Generator[Token[V]]:
    token = variable.set(value)
    try:
        yield token
    finally:
        variable.reset(token)


async def open_connection(
    path: Path, *, name: str, flags: int, setup: Callable[[apsw.Connection], None]
) -> apsw.AsyncConnection:
    """Open a connection and run `setup` in its thread. The caller closes it with `close_connection`.

    Raises what APSW raises. On cancellation it is closed again before the cancellation goes on.
    """
    controller: Any = functools.partial(apsw.aio.Trio, thread_name=f"uait {name}")
    # Shielded: `as_async` cancelled half-way would leave its thread running for ever.
    with (
        trio.CancelScope(shield=True),
        _set(apsw.async_controller, controller),
        _set(apsw.aio.check_progress_steps, PROGRESS_STEPS),
    ):
        connection = await apsw.Connection.as_async(str(path), flags=flags)
    try:
        await run(connection, setup, connection)
    except BaseException:
        await close_connection(connection)
        raise
    return connection


def configure(connection: apsw.Connection, *, cache_kib: int) -> None:
    """What every connection is set to, reading or writing. In the connection's thread."""
    connection.set_busy_timeout(round(BUSY_TIMEOUT * 1000))
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


def configure_reader(connection: apsw.Connection) -> None:
    configure(connection, cache_kib=READER_CACHE_KIB)


async def run(connection: apsw.AsyncConnection, call: Callable[..., T], *args: Any) -> T:
    """Call `call(*args)` in the connection's thread.

    On cancellation it returns at once, and the query under way in the thread stops at its next progress check; a call that had not begun does not begin.
    """
    # Deadlines reach the thread as cancellation alone. With a deadline of its own, APSW could raise TooSlowError out of a block that only means to move on.
    with _set(apsw.aio.deadline, math.inf):
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
    """Close it and end its thread, also when the caller is cancelled. True when that is done, False when the thread did not come back in `CLOSE_TIMEOUT`."""
    with trio.move_on_after(CLOSE_TIMEOUT, shield=True) as scope, _set(apsw.aio.deadline, math.inf):
        await connection.aclose(True)
    return not scope.cancelled_caught
