"""What keeps one failing instance from becoming everybody's failure: retry budget, circuit breaker, bulkhead, backoff.

Plain state machines on trio's clock, without I/O.
"""

from __future__ import annotations

import enum
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from uait.errors import Unavailable


def full_jitter(attempt: int, *, base: float = 0.05, longest: float = 2.0) -> float:
    """Seconds to wait before retry number `attempt` (from 1): anything up to a limit that doubles each time.

    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """
    return random.uniform(0, min(longest, base * 2 ** (attempt - 1)))


class RetryBudget:
    """How many retries are allowed: a share of the calls made, and a few a second besides (Finagle's `RetryBudget`).

    A failing callee so gets at most `1 + ratio` times the load, whatever its callers do.

    Args:
        ratio: retries that each call pays for.
        reserve: retries a second for callers with few calls.
        most: how much can be saved up.
        saved: how much of it there is from the beginning; all where left out.
    """

    def __init__(
        self, *, ratio: float = 0.2, reserve: float = 1.0, most: float = 10.0, saved: float | None = None
    ) -> None:
        self.ratio = ratio
        self.reserve = reserve
        self.most = most
        self._balance = most if saved is None else saved
        self._seen = trio.current_time()

    @property
    def balance(self) -> float:
        """Retries that are allowed now."""
        now = trio.current_time()
        self._balance = min(self.most, self._balance + (now - self._seen) * self.reserve)
        self._seen = now
        return self._balance

    def deposit(self) -> None:
        """Count one call."""
        self._balance = min(self.most, self.balance + self.ratio)

    def withdraw(self) -> bool:
        """Take one retry; False where there is none left."""
        if self.balance < 1:
            return False
        self._balance -= 1
        return True


class BreakerState(enum.StrEnum):
    """Whether an instance is called."""

    CLOSED = "closed"
    OPEN = "open"
    """Not called until its time is over."""
    HALF_OPEN = "half_open"
    """One call is let through to see."""


class CircuitBreaker:
    """Stops calling an instance that keeps failing, and tries it again now and then.

    Each call begins with `acquire`; where that gives True, exactly one of `success`, `failure` and `abandon` must follow.

    Args:
        failures: how many in a row open it.
        pause: seconds that it stays open the first time; twice as long each time the trial fails.
        longest: seconds that it stays open at most.
    """

    def __init__(self, *, failures: int = 5, pause: float = 1.0, longest: float = 30.0) -> None:
        self.failures = failures
        self.pause = pause
        self.longest = longest
        self._in_a_row = 0
        self._opened = 0
        self._until: float | None = None
        self._trying = False

    @property
    def state(self) -> BreakerState:
        """Where it is now."""
        if self._until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if trio.current_time() < self._until else BreakerState.HALF_OPEN

    @property
    def retry_after(self) -> float:
        """Seconds until a call can be let through again; 0 where one can be now."""
        return 0.0 if self._until is None else max(0.0, self._until - trio.current_time())

    def acquire(self) -> bool:
        """Ask whether a call may be made; a trial call while half open is given to one caller."""
        state = self.state
        if state is BreakerState.CLOSED:
            return True
        if state is BreakerState.OPEN or self._trying:
            return False
        self._trying = True
        return True

    def success(self) -> None:
        """The call was answered: close."""
        self._in_a_row = self._opened = 0
        self._until = None
        self._trying = False

    def failure(self) -> None:
        """The call failed: open after so many in a row, or at once where it was a trial."""
        self._in_a_row += 1
        if self._trying or (self._until is None and self._in_a_row >= self.failures):
            self._until = trio.current_time() + min(self.longest, self.pause * 2**self._opened)
            self._opened += 1
            self._trying = False

    def abandon(self) -> None:
        """The call was cancelled, which says nothing about the instance."""
        self._trying = False


class Bulkhead:
    """At most `limit` calls at once that wait for an answer, and at most `queue` more that wait their turn.

    So a callee that hangs cannot take every connection and all the memory of its caller.
    """

    def __init__(self, *, limit: int = 256, queue: int = 256) -> None:
        self.queue = queue
        self._limiter = trio.CapacityLimiter(limit)

    @asynccontextmanager
    async def enter(self, name: str) -> AsyncIterator[None]:
        """Hold one of the places inside the block.

        Raises:
            Unavailable: the queue is full as well.
        """
        if not self._limiter.available_tokens and self._limiter.statistics().tasks_waiting >= self.queue:
            raise Unavailable(f"{name} has too many calls waiting already.")
        caller = object()
        await self._limiter.acquire_on_behalf_of(caller)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(caller)
