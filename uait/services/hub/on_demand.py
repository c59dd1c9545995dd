"""The hub's database, opened when there is something to keep. Most hubs have rooms in memory alone, and an open database is threads and megabytes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
import trio

from uait.errors import Unavailable
from uait.storage import Database, DatabaseClosed, DatabaseUnusable

T = TypeVar("T")


class DatabaseOnDemand:
    """As much of a `Database` as the hub needs. Whoever first needs it waits until it is open.

    Made by `open_on_demand`.
    """

    def __init__(
        self, open_it: Callable[[], AbstractAsyncContextManager[Database]], nursery: trio.Nursery, log: logging.Logger
    ) -> None:
        self._open_it = open_it
        self._nursery = nursery
        self._log = log
        self._database: Database | None = None
        self._opening = trio.Lock()
        self._closing = trio.Event()

    @property
    def is_open(self) -> bool:
        return self._database is not None

    async def write(self, function: Callable[[apsw.Connection], T]) -> T:
        return await (await self.open()).write(function)

    async def fetch_all(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        return await (await self.open()).fetch_all(sql, params)

    async def execute(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> int:
        return await (await self.open()).execute(sql, params)

    async def check(self) -> str:
        """For `ctx.add_health_check`: as that of `Database`; "ok" where there is nothing to keep."""
        return "ok" if self._database is None else await self._database.check()

    async def open(self) -> Database:
        """The database, open from now on.

        Raises:
            Unavailable: it cannot be opened, which is in the log and is tried again next time.
        """
        if self._database is None:
            async with self._opening:
                if self._database is None:
                    try:
                        await self.open_now()
                    except DatabaseUnusable as error:
                        self._log.error("what is to be kept cannot be: %s", error)
                        raise Unavailable("What is to be kept cannot be stored.", code="DATABASE_UNUSABLE") from error
                    if self._database is None:  # closed again, by a service that stops
                        raise DatabaseClosed
        return self._database

    async def open_now(self) -> None:
        """For `open_on_demand`. Raises `DatabaseUnusable`."""
        if self._closing.is_set():
            raise DatabaseClosed
        # In a task of its own: it outlives the request that needs it first.
        await self._nursery.start(self._keep_open)

    async def _keep_open(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._open_it() as database:
            self._database = database
            try:
                task_status.started()
                await self._closing.wait()
            finally:
                # Also where whoever needed it first was cancelled in the very moment: this task goes with them, and the next one is to open it again.
                self._database = None

    def close(self) -> None:
        """Close it soon, and do not open it again."""
        self._closing.set()


@asynccontextmanager
async def open_on_demand(
    file: Path, open_it: Callable[[], AbstractAsyncContextManager[Database]], log: logging.Logger
) -> AsyncIterator[DatabaseOnDemand]:
    """A database that is opened at once where its file exists, and else when it is needed. It is closed when the block is left.

    Raises:
        DatabaseUnusable: the file exists and cannot be used.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            database = DatabaseOnDemand(open_it, nursery, log)
            try:
                if await trio.Path(file).exists():
                    await database.open_now()
                yield database
            except BaseException as error:
                # Raised outside the nursery: what the block raises is not to come wrapped in a group.
                failure = error
            database.close()
        if failure is not None:
            raise failure
    finally:
        failure = None
