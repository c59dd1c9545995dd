"""When what is due: a queue of deadlines that are often put off and seldom reached. Pure."""

from __future__ import annotations

import heapq

_SPARE = 64
"""Entries that the queue may have besides two for each key, so that a short one is not made anew all the time."""


class Timers:
    """One deadline for each key.

    Putting a deadline off, which every heartbeat does, costs a dictionary entry; the queue notices when the earlier time comes.
    """

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._queued: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def set(self, key: str, at: float) -> None:
        """`key` is due at `at`, and no longer when it was."""
        self._at[key] = at
        if key not in self._queued or at < self._queued[key]:
            self._push(key, at)

    def discard(self, key: str) -> None:
        """`key` is never due. Nothing happens where it is unknown."""
        self._at.pop(key, None)

    def due(self, now: float) -> list[str]:
        """The keys whose time has come, earliest first; each is told once."""
        found: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            queued, key = heapq.heappop(self._heap)
            if self._queued.get(key) != queued:
                continue
            del self._queued[key]
            at = self._at.get(key)
            if at is None:
                continue
            if at > now:
                self._push(key, at)
            else:
                del self._at[key]
                found.append(key)
        return found

    def next(self) -> float | None:
        """When to ask again; it may turn out to be too early. None where nothing is due, ever."""
        return self._heap[0][0] if self._heap else None

    def put_off(self, seconds: float) -> None:
        """Everything is due that much later."""
        self._at = {key: at + seconds for key, at in self._at.items()}

    def _push(self, key: str, at: float) -> None:
        self._queued[key] = at
        heapq.heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + _SPARE:
            # Most of it is of keys that were taken back, whose time may be a day away.
            self._queued = dict(self._at)
            self._heap = [(time, each) for each, time in self._at.items()]
            heapq.heapify(self._heap)
