"""Deadlines of many connections that move with every request and almost never pass.

Setting the deadline of a trio scope costs about as much as a system call, each time. Here it costs a comparison: the heap is only told of a deadline that comes before the one it knows, and looks again when that one is due.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable
from itertools import count
from typing import NoReturn

import trio

_FEW = 256


class Timer:
    """One deadline, owned by whoever was given it by `Deadlines.timer`.

    Attributes:
        deadline: on trio's clock; `math.inf` where nothing is waited for.
    """

    __slots__ = ("_callback", "_deadlines", "_due", "deadline")

    def __init__(self, deadlines: Deadlines, callback: Callable[[], None]) -> None:
        self.deadline = math.inf
        self._deadlines = deadlines
        self._callback: Callable[[], None] | None = callback
        self._due = math.inf  # when the heap will look at this timer

    def set(self, deadline: float) -> None:
        """Call back at `deadline`, and not at the one before."""
        self.deadline = deadline
        if deadline < self._due:
            self._due = deadline
            self._deadlines.note(self, deadline)

    def stop(self) -> None:
        """Never call back until `set` again."""
        self.deadline = math.inf

    def close(self) -> None:
        """Never call back, and keep nothing alive for it."""
        self.deadline = math.inf
        if self._callback is not None:
            self._callback = None
            self._deadlines.forget(self._due)

    def look(self, due: float, now: float) -> None:
        """The heap's question at `due`: is it now?"""
        if due != self._due:
            return  # an earlier look has taken this one's place
        self._due = math.inf
        if self._callback is None:
            self._deadlines.forgotten()
            return
        if self.deadline <= now:
            self.deadline = math.inf
            self._callback()
        elif self.deadline != math.inf:
            self.set(self.deadline)

    @property
    def closed(self) -> bool:
        return self._callback is None


class Deadlines:
    """All deadlines of one server, made within trio. `run` keeps them.

    Attributes:
        now: trio's time.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.now = trio.lowlevel.current_clock().current_time  # `trio.current_time()` takes three more calls
        self._log = log
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._dead = 0
        self._sleep = trio.CancelScope()

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A new timer, which calls `callback` at its deadline. `callback` is synchronous."""
        return Timer(self, callback)

    async def run(self) -> NoReturn:
        """Call back whose deadline has passed, until cancelled."""
        while True:
            self._sleep = trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf)
            with self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                due, _, timer = heapq.heappop(self._heap)
                try:
                    timer.look(due, now)
                except Exception:
                    self._log.exception("a deadline could not be acted upon")

    # The timers' side

    def note(self, timer: Timer, due: float) -> None:
        """Look at `timer` at `due`."""
        heapq.heappush(self._heap, (due, next(self._order), timer))
        self._sleep.deadline = min(self._sleep.deadline, due)

    def forgotten(self) -> None:
        """A closed timer was due."""
        self._dead -= 1

    def forget(self, due: float) -> None:
        """A timer was closed: drop such timers now and then, before they are due."""
        if due == math.inf:
            return
        self._dead += 1
        if self._dead > _FEW and self._dead > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if not entry[2].closed]
            heapq.heapify(self._heap)
            self._dead = 0
