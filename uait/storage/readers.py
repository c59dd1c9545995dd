"""A few read-only connections, opened as they are needed, given out in the order of asking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw
import trio

from uait.storage.connection import (
    close_connection,
    configure_reader,
    end_transaction,
    open_connection,
    run,
)
from uait.storage.errors import DatabaseBusy, DatabaseClosed, translated

T = TypeVar("T")


class Readers:
    """At most `count` connections; who finds all taken waits in line, and at most `queue` may wait."""

    def __init__(self, path: Path, *, count: int, queue: int) -> None:
        self._path = path
        self._queue = queue
        self._slots = trio.Semaphore(count, max_value=count)
        self._idle: deque[apsw.AsyncConnection] = deque()
        self._open: list[apsw.AsyncConnection] = []
        self._closed = False
        self.begun = 0
        self.interrupted = 0

    @property
    def waiting(self) -> int:
        return self._slots.statistics().tasks_waiting

    @property
    def opened(self) -> int:
        return len(self._open)

    async def read(self, function: Callable[[apsw.Connection], T], *, snapshot: bool = True) -> T:
        """See `Database.read`. Without `snapshot` there is no transaction around it, which a single statement does not need."""
        if self.waiting >= self._queue:
            raise DatabaseBusy("Too many reads wait for the database; try again.")
        async with self._slots:
            connection = await self._take()
            self.begun += 1
            try:
                return await run(connection, _read, connection, function, snapshot)
            except apsw.ReadOnlyError:
                raise  # the function tried to write: a bug of its own, and no sign of a broken file
            except apsw.Error as error:
                raise translated(error, self._path) from error
            except trio.Cancelled:
                self.interrupted += 1
                raise
            finally:
                # Where the caller has gone, the thread may still be on its way out of the query: the next one finds the longest idle connection.
                self._idle.append(connection)

    async def _take(self) -> apsw.AsyncConnection:
        self._refuse_when_closed()
        if self._idle:
            return self._idle.popleft()
        try:
            connection = await open_reader(self._path)
        except apsw.Error as error:
            raise translated(error, self._path) from error
        try:
            self._refuse_when_closed()
        except DatabaseClosed:
            await close_connection(connection)
            raise
        self._open.append(connection)
        return connection

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise DatabaseClosed

    async def aclose(self) -> bool:
        """Interrupt what runs and close every connection. True when all threads came back."""
        self._closed = True
        for connection in self._open:
            connection.interrupt()
        done = True
        async with trio.open_nursery() as nursery:

            async def close(connection: apsw.AsyncConnection) -> None:
                nonlocal done
                done &= await close_connection(connection)

            for connection in self._open:
                nursery.start_soon(close, connection)
        self._open.clear()
        self._idle.clear()
        return done


async def open_reader(path: Path) -> apsw.AsyncConnection:
    """A read-only connection to a file that its writer has open. The caller closes it."""
    return await open_connection(
        path, name=f"{path.stem} reader", flags=apsw.SQLITE_OPEN_READONLY, setup=configure_reader
    )


def _read(connection: apsw.Connection, function: Callable[[apsw.Connection], T], snapshot: bool) -> T:
    if snapshot:
        connection.execute("BEGIN")
    try:
        value = function(connection)
        end_transaction(connection)
    except BaseException as error:
        end_transaction(connection, error)
        raise
    return value
