"""The hub's numbers: how much since the start, and how fast of late."""

from __future__ import annotations

from collections.abc import Callable

import trio

SPAN = 10
"""Seconds over which "a second" is an average."""


class Meter:
    """Counts, and tells the rate over the last seconds. Costs a handful of numbers, however much is counted."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.total = 0
        self._clock = clock
        self._began = clock()
        self._second = int(clock())
        self._buckets = [0] * (SPAN + 1)

    def add(self, count: int) -> None:
        self._turn()
        self.total += count
        self._buckets[self._second % len(self._buckets)] += count

    def rate(self) -> float:
        """How many a second, over the last whole seconds, or since the start where that is less ago, and over one second at least."""
        self._turn()
        now = self._clock()
        return sum(self._buckets) / max(1.0, min(now - self._began, SPAN + now - self._second))

    def _turn(self) -> None:
        second = int(self._clock())
        for past in range(max(self._second, second - len(self._buckets)) + 1, second + 1):
            self._buckets[past % len(self._buckets)] = 0
        self._second = second


class Traffic:
    """What went through the hub.

    Attributes:
        messages_in: messages from clients. `published`: those said, by clients and over HTTP.
        deliveries: messages given to clients. `bytes_out`: their bytes.
        drops: messages left out for clients that were slow, where a room does that.
        closed: how many connections were ended by the hub, by close code.
    """

    def __init__(self) -> None:
        self.messages_in = Meter()
        self.bytes_in = 0
        self.published = 0
        self.deliveries = Meter()
        self.bytes_out = 0
        self.drops = 0
        self.closed: dict[int, int] = {}

    def received(self, size: int) -> None:
        self.messages_in.add(1)
        self.bytes_in += size

    def sent(self, clients: int, size: int, messages: int = 1) -> None:
        """So many clients were given messages of `size` bytes in all."""
        self.deliveries.add(clients * messages)
        self.bytes_out += clients * size

    def dropped(self, messages: int) -> None:
        self.drops += messages

    def ended(self, code: int) -> None:
        self.closed[code] = self.closed.get(code, 0) + 1
