"""Keeps the garbage collector short, and gives memory back to the system when most of many clients have left.

A client is some 150 objects that the collector can do nothing about: whoever leaves is free by reference counting alone. Looking at those of thousands again and again would hold everybody up, for half a second
with ten thousand clients; so what there is is frozen whenever there are a good many more than ever before. (Rings that come about among what is frozen are never found. There is no more of it than there were
clients at once, however many come and go. In a process that has frozen nothing itself, as ours does when it has started, nothing is.)

Neither Python nor the C library gives memory back by itself that lies between other things. Python does not even when asked: one object that has come to lie among those of a crowd keeps a megabyte. The C library keeps 4 KiB for it,
if Python has been told to use its allocator (`PYTHONMALLOC=malloc`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import trio

from uait.heap import give_back

STEP = 250
"""So many more clients than ever before, and what there is is frozen."""

MANY = 1000
"""So many clients must have left for it to be worth the while."""

SHARE = 4
"""No more than one of so many is still there."""

SETTLE = 15.0
"""Seconds in which the last of them go, and deadlines that were meant for them pass. As much lies between two times."""


def reclaim() -> None:
    """Collect rings of objects among what is not frozen, and give back what is free. Everybody waits for it."""
    gc.collect()
    give_back()


class Upkeep:
    """Told of each coming and going; reclaims in a task of its own.

    Attributes:
        present: how many clients are there.
    """

    def __init__(self, reclaim: Callable[[], None] = reclaim, freeze: Callable[[], None] = gc.freeze) -> None:
        self._reclaim = reclaim
        self._freeze = freeze
        self._frozen = 0
        self._freezes: bool | None = None
        self._most = 0
        self.present = 0
        self._wakeup = trio.Event()

    def count(self, present: int) -> None:
        """So many clients are there now."""
        self.present = present
        self._most = max(self._most, present)
        if present >= self._frozen + STEP:
            self._frozen = present
            if self._freezes is None:  # asked once, for it goes through what is frozen
                self._freezes = gc.get_freeze_count() > 0
            if self._freezes:
                self._freeze()
        if self._worth_while():
            self._wakeup.set()

    def _worth_while(self) -> bool:
        return self._most - self.present >= MANY and self.present * SHARE <= self._most

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._worth_while():
                self._wakeup = trio.Event()
                await self._wakeup.wait()
            await trio.sleep(SETTLE)
            if not self._worth_while():
                continue
            most, self._most = self._most, self.present
            self._reclaim()
            await trio.sleep(SETTLE)
            # Once more: what others wait with was among what the clients left, and lies together by now.
            if self.present * SHARE <= most:
                self._reclaim()
