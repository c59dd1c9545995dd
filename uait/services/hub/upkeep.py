"""Gives memory back to the system when most of many clients have left: neither Python nor the C library does so by itself for what lies between other things."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import trio

MANY = 1000
"""So many clients must have left for it to be worth the while."""

SHARE = 4
"""No more than one of so many is still there: what the collector looks at is theirs, and everybody waits for it."""

SETTLE = 15.0
"""Seconds in which the last of them go, and deadlines that were meant for them pass. As much lies between two times."""


def reclaim() -> None:
    """Collect rings of objects, and have the C library give back what is free. Everybody waits for it."""
    gc.collect()
    if sys.platform != "linux":
        return  # only glibc has `malloc_trim`, and elsewhere there may be no library to ask for it
    # Only now, for it takes memory itself, and most never have so many clients.
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Upkeep:
    """Told of each coming and going; reclaims in a task of its own."""

    def __init__(self, reclaim: Callable[[], None] = reclaim) -> None:
        self._reclaim = reclaim
        self._most = 0
        self._present = 0
        self._wakeup = trio.Event()

    def count(self, present: int) -> None:
        """So many clients are there now."""
        self._present = present
        self._most = max(self._most, present)
        if self._worth_while():
            self._wakeup.set()

    def _worth_while(self) -> bool:
        return self._most - self._present >= MANY and self._present * SHARE <= self._most

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wakeup.wait()
            await trio.sleep(SETTLE)
            if self._worth_while():
                self._most = self._present
                self._reclaim()
            self._wakeup = trio.Event()
