"""How fast one client may send."""

from __future__ import annotations

from collections.abc import Callable

import trio

SECONDS = 2.0
"""So many seconds' worth of messages may come at once."""


class Bucket:
    """A token bucket.

    Args:
        rate: tokens a second; 0: any number.
    """

    __slots__ = ("_clock", "_last", "_rate", "_tokens")

    def __init__(self, rate: float, clock: Callable[[], float] = trio.current_time) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = rate * SECONDS
        self._last = clock()

    def take(self) -> bool:
        """Take a token. Where there is none, False, and the debt grows."""
        if not self._rate:
            return True
        now = self._clock()
        self._tokens = min(self._rate * SECONDS, self._tokens + (now - self._last) * self._rate) - 1
        self._last = now
        return self._tokens >= 0

    @property
    def overdrawn(self) -> bool:
        """Whether as much is owed as the bucket ever holds: somebody does not heed the refusals."""
        return self._tokens < 0 and self._tokens <= -self._rate * SECONDS
