"""The one connection that writes, and the group commit.

An fsync costs far more than a row. So whatever waits is written in one transaction, each write inside a savepoint of its own, and everybody is answered after the one durable commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw
import trio

from uait.storage.connection import Outcome, close_connection, run
from uait.storage.errors import DatabaseBusy, DatabaseClosed, translated

T = TypeVar("T")

GROUP = 256
"""Most writes in one transaction: nobody waits longer than these take."""


class _Abandoned(BaseException):
    """Raised inside a write whose caller has gone."""


class _Write(Generic[T]):
    """One write on its way: waiting, then begun, then answered."""

    __slots__ = ("abandoned", "answered", "function", "outcome")

    def __init__(self, function: Callable[[apsw.Connection], T]) -> None:
        self.function = function
        self.outcome: Outcome[T] = Outcome()
        self.answered = trio.Event()
        self.abandoned = False


class Writer:
    """Owns the writing connection. `serve` runs in a task of its own as long as the database is open."""

    def __init__(self, path: Path, connection: apsw.AsyncConnection, *, queue: int) -> None:
        self._path = path
        self._connection = connection
        self._queue = queue
        self._waiting: deque[_Write[Any]] = deque()
        self._wakeup = trio.Event()
        self._closed = False
        self.done = 0
        self.commits = 0
        self.failed = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def write(self, function: Callable[[apsw.Connection], T]) -> T:
        """See `Database.write`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise DatabaseClosed
        if len(self._waiting) >= self._queue:
            raise DatabaseBusy("Too many writes wait for the database; try again.")
        write = _Write(function)
        self._waiting.append(write)
        self._wakeup.set()
        try:
            await write.answered.wait()
        except trio.Cancelled:
            write.abandoned = True
            if write in self._waiting:
                self._waiting.remove(write)
            raise
        try:
            return write.outcome.take()
        except apsw.Error as error:
            raise translated(error, self._path) from error

    async def serve(self) -> None:
        """Commit group after group until `close`; what still waits then is answered with DatabaseClosed."""
        group = _Group(self._connection)
        while not self._closed:
            if not self._waiting:
                self._wakeup = trio.Event()
                await self._wakeup.wait()
                continue
            writes = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            # Shielded: a transaction that has begun comes to its end, and its callers learn which.
            with trio.CancelScope(shield=True):
                await run(self._connection, group.commit, writes)
            self.commits += 1
            for write in writes:
                if write.outcome.failed:
                    self.failed += 1
                else:
                    self.done += 1
                write.answered.set()
        while self._waiting:
            write = self._waiting.popleft()
            write.outcome.fail(DatabaseClosed())
            write.answered.set()

    def close(self) -> None:
        """Take no more; `serve` ends after the group under way."""
        self._closed = True
        self._wakeup.set()

    async def aclose(self) -> bool:
        """Close the connection, which empties the write-ahead log into the file. True when its thread came back."""
        return await close_connection(self._connection)


class _Group:
    """Runs writes as one transaction. Everything here happens in the connection's thread."""

    def __init__(self, connection: apsw.AsyncConnection) -> None:
        self._connection: Any = connection
        self._current: _Write[Any] | None = None
        self._committing = False
        self._prepared = False

    def commit(self, writes: list[_Write[Any]]) -> None:
        """Run every write, commit once, and leave an outcome in each. Never raises."""
        if not self._prepared:
            self._connection.set_progress_handler(self._look, 10_000, id=self)
            # A function that commits by itself would make half a group durable behind the others' backs: then the commit becomes a rollback.
            self._connection.set_commit_hook(lambda: not self._committing, id=self)
            self._prepared = True
        try:
            while not self._attempt(writes):
                pass
        except Exception as error:
            self._rollback()
            for write in writes:
                if not write.outcome.failed:
                    write.outcome.fail(error)

    def _attempt(self, writes: list[_Write[Any]]) -> bool:
        """One transaction of the writes that have not failed. False when one of them took the whole transaction with it: then it has failed, and the others start again."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for write in writes:
            if write.outcome.failed:
                continue
            try:
                execute("SAVEPOINT one")
                self._current = write
                if write.abandoned:
                    raise _Abandoned
                value = write.function(self._connection)
                self._current = None
                execute("RELEASE one")
                write.outcome.succeed(value)
            except BaseException as error:
                self._current = None
                write.outcome.fail(error)
                # A full disk, a failing one and an interrupted statement end the whole transaction (https://sqlite.org/lang_transaction.html, 3.1).
                if self._connection.get_autocommit():
                    return False
                execute("ROLLBACK TO one")
                execute("RELEASE one")
        self._committing = True
        try:
            execute("COMMIT")
        finally:
            self._committing = False
        return True

    def _rollback(self) -> None:
        if not self._connection.get_autocommit():
            self._connection.execute("ROLLBACK")

    def _look(self) -> bool:
        if self._current is not None and self._current.abandoned:
            raise _Abandoned
        return False
