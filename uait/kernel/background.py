"""Where a service's background work runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Background:
    """A nursery for a service's background work, in a task of its own: it can be ended before the block around it, while a crash in it ends that block."""

    nursery: trio.Nursery

    def __init__(self, name: str) -> None:
        self._name = name
        self._ended = trio.Event()

    async def hold(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as self.nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._ended.set()

    def cancel(self) -> None:
        self.nursery.cancel_scope.cancel(reason=f"{self._name} is closing")

    async def stop(self) -> None:
        """Cancel what runs in it, and wait until that has ended."""
        self.cancel()
        await self._ended.wait()


@asynccontextmanager
async def open_background(name: str) -> AsyncIterator[Background]:
    """The background of the service `name`; what still runs in it when the block is left, in whatever way, is cancelled."""
    async with trio.open_nursery() as around:
        background = Background(name)
        await around.start(background.hold, name=f"background of {name}")
        try:
            yield background
        finally:
            background.cancel()
