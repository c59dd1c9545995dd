"""The one connection that writes, and the group commit.

An fsync costs far more than a row. So whatever waits is written in one transaction, and everybody is answered after the one durable commit. Where one of them fails, the transaction is begun
again with a savepoint around each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw
import trio

from uait.storage.connection import CLOSE_TIMEOUT, close_connection, run
from uait.storage.errors import DatabaseBroken, DatabaseBusy, DatabaseClosed, DatabaseFull, translated
from uait.storage.worker import PROGRESS_STEPS

T = TypeVar("T")

GROUP = 256
"""Most writes in one transaction: nobody waits longer than these take."""


class _Abandoned(BaseException):
    """Raised inside a write whose caller has gone."""


class _Write(Generic[T]):
    """One write on its way: waiting, then begun, then answered."""

    __slots__ = ("abandoned", "alone", "answered", "error", "function", "stored", "value")

    def __init__(
        self,
        function: Callable[[apsw.Connection], T],
        *,
        alone: bool = False,
        stored: Callable[[T], None] | None = None,
    ) -> None:
        self.function = function
        self.alone = alone  # outside of any transaction
        self.stored = stored
        self.answered = trio.Event()
        self.abandoned = False
        self.value: T | None = None
        self.error: BaseException | None = None


class Writer:
    """Owns the writing connection. `serve` runs in a task of its own as long as the database is open."""

    def __init__(self, path: Path, connection: apsw.AsyncConnection, *, queue: int) -> None:
        self._path = path
        self._connection = connection
        self._queue = queue
        self._waiting: deque[_Write[Any]] = deque()
        self._wakeup = trio.Event()
        self._closed = False
        self._group = _Group(connection)
        self._under_way = trio.CancelScope()
        self.done = 0
        self.failed = 0
        self.trouble: str | None = None
        """Why the last write could not be stored, where the reason is the disk or the file."""

    @property
    def commits(self) -> int:
        """How many transactions became durable."""
        return self._group.commits

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def write(self, function: Callable[[apsw.Connection], T], stored: Callable[[T], None] | None) -> T:
        """See `Database.write`."""
        return await self._line_up(_Write(function, stored=stored))

    async def alone(self, function: Callable[[apsw.Connection], T]) -> T:
        """Call `function` in the connection's thread outside of any transaction, after those writes that were there before."""
        return await self._line_up(_Write(function, alone=True))

    async def _line_up(self, write: _Write[T]) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise DatabaseClosed
        if len(self._waiting) >= self._queue:
            raise DatabaseBusy("Too many writes wait for the database; try again.")
        self._waiting.append(write)
        self._wakeup.set()
        try:
            await write.answered.wait()
        except trio.Cancelled:
            write.abandoned = True
            if write in self._waiting:
                self._waiting.remove(write)
            raise
        return self._answer(write)

    def _answer(self, write: _Write[T]) -> T:
        error, write.error = write.error, None
        if error is None:
            self.trouble = None
            return write.value  # type: ignore[return-value]
        ours = translated(error, self._path)
        if isinstance(ours, DatabaseFull | DatabaseBroken):
            self.trouble = ours.text
        try:
            raise ours
        finally:
            del error, ours  # their tracebacks have this frame: break the circle

    async def serve(self) -> None:
        """Commit group after group until `close`; what still waits then is answered with DatabaseClosed.

        Shielded: whoever is cancelled together with it may have something to write down before he goes, and a transaction that has begun comes to its end, and its callers learn which.
        """
        try:
            with trio.CancelScope(shield=True):
                while not self._closed:
                    if not self._waiting:
                        self._wakeup = trio.Event()
                        await self._wakeup.wait()
                    elif self._waiting[0].alone:
                        # In its turn: where many write, there is no moment at which nobody does.
                        await self._run_alone(self._waiting.popleft())
                    else:
                        await self._commit()
        finally:
            self._closed = True
            for write in self._waiting:
                write.error = DatabaseClosed()
                write.answered.set()

    async def _commit(self) -> None:
        writes: list[_Write[Any]] = []
        while self._waiting and len(writes) < GROUP and not self._waiting[0].alone:
            writes.append(self._waiting.popleft())
        self._under_way = trio.CancelScope()
        with self._under_way:  # only `close` sets it a limit
            await run(self._connection, self._group.commit, writes)
        for write in writes:
            if self._under_way.cancelled_caught:
                write.error = DatabaseClosed(
                    "The service is stopping, and its disk is too slow: look later whether this was stored."
                )
            if write.error is not None:
                self.failed += 1
            else:
                self.done += 1
                self._tell(write)
            write.answered.set()

    def _tell(self, write: _Write[Any]) -> None:
        if write.stored is not None:
            try:
                write.stored(write.value)
            except Exception as error:  # the caller's fault, and nobody else's
                write.error = error

    async def _run_alone(self, write: _Write[Any]) -> None:
        self._under_way = trio.CancelScope()
        with self._under_way:
            await run(self._connection, self._group.alone, write)
        if self._under_way.cancelled_caught:
            write.error = DatabaseClosed()
        write.answered.set()

    def close(self) -> None:
        """Take no more; `serve` ends after the group under way, or when that takes longer than a disk that works would."""
        self._closed = True
        self._under_way.deadline = trio.current_time() + CLOSE_TIMEOUT
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
        self._rolled_back = False
        self._prepared = False
        self.commits = 0

    def commit(self, writes: list[_Write[Any]]) -> None:
        """Run every write, commit once, and leave an outcome in each. Never raises."""
        if not self._prepared:
            self._connection.set_progress_handler(self._look, PROGRESS_STEPS, id=self)
            # A function that commits by itself would make half a group durable behind the others' backs: then the commit becomes a rollback.
            self._connection.set_commit_hook(lambda: not self._committing, id=self)
            self._connection.set_rollback_hook(self._note_rollback, id=self)
            self._prepared = True
        try:
            # Savepoints are a third of the work, and most groups have no failure in them.
            if not self._attempt_together(writes):
                while not self._attempt(writes):
                    pass
        except Exception as error:
            if not self._connection.get_autocommit():
                self._connection.execute("ROLLBACK")
            if isinstance(error, apsw.ConstraintError) and len(writes) > 1:
                # A deferred foreign key is only checked at the commit, so nobody knows whose it is: each has a transaction of its own then.
                for write in writes:
                    self.commit([write])
                return
            for write in writes:
                if write.error is None:
                    write.error = error

    def alone(self, write: _Write[Any]) -> None:
        """Call one function outside of any transaction, and leave its outcome in it. Never raises."""
        try:
            self._call(write)
        except BaseException as error:
            write.error = error

    def _attempt_together(self, writes: list[_Write[Any]]) -> bool:
        """One transaction of all writes. False when one of them failed, or rolled back by itself: then nothing has happened, and it is to be found out which."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._rolled_back = False
        try:
            for write in writes:
                self._call(write)
                if self._rolled_back:
                    break
        except BaseException as error:
            if len(writes) == 1:
                # Nobody else's: there is nothing to find out.
                writes[0].error = error
                if not self._connection.get_autocommit():
                    self._connection.execute("ROLLBACK")
                return True
            self._rolled_back = True
        if self._rolled_back:
            if not self._connection.get_autocommit():
                self._connection.execute("ROLLBACK")
            return False
        self._commit()
        return True

    def _call(self, write: _Write[Any]) -> None:
        self._current = write
        try:
            if write.abandoned:
                raise _Abandoned
            value = write.function(self._connection)
        finally:
            self._current = None
        if isinstance(value, apsw.Cursor):
            raise TypeError("the function returned a cursor: fetch what it is to return, cursors stay in their thread")
        write.value = value

    def _commit(self) -> None:
        self._committing = True
        try:
            self._connection.execute("COMMIT")
        finally:
            self._committing = False
        self.commits += 1

    def _note_rollback(self) -> None:
        self._rolled_back = True

    def _attempt(self, writes: list[_Write[Any]]) -> bool:
        """One transaction of the writes that have not failed. False when one of them took the whole transaction with it: then it has failed, and the others start again."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for write in writes:
            if write.error is not None:
                continue
            try:
                execute("SAVEPOINT one")
                self._call(write)
                execute("RELEASE one")
            except BaseException as error:
                write.error = error
                if not self._undo():
                    return False
        self._commit()
        return True

    def _undo(self) -> bool:
        """Undo the write that just failed. False when the transaction could not be kept for the others."""
        # A full disk, a failing one and an interrupted statement end the whole transaction (https://sqlite.org/lang_transaction.html, 3.1).
        if self._connection.get_autocommit():
            return False
        try:
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
        except apsw.SQLError:  # the function released the savepoint itself
            self._connection.execute("ROLLBACK")
            return False
        return True

    def _look(self) -> bool:
        if self._current is not None and self._current.abandoned:
            raise _Abandoned
        return False
