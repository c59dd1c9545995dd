"""What became of a question: who was asked, why, how long it took, what it cost. Kept for a while, in memory."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio

from uait.errors import APIError
from uait.llm.messages import Usage
from uait.storage.ids import utc_now

SAID = 200
"""Characters of an error that a trace repeats."""


@attrs.define
class Attempt:
    """One question to one model. Times are in seconds, from the question's beginning.

    Attributes:
        why: "first choice", "retry", "fallback", "hedge" or "continuation".
        first_token: when the answer began; None where it did not.
        ended: when it was over; None while it is going on.
        outcome: "running", "answered", "failed", "lost" (another one was quicker), or "left" (nobody waited any more).
        error, message: why it failed.
        left_out: what of the conversation it was not told, see `uait.llm.provider.left_out`.
        usage: what it used, where it is known or can be guessed.
        cost: of that; None where there is no price.
    """

    model: str
    why: str
    began: float
    accepted: float | None = None
    first_token: float | None = None
    ended: float | None = None
    outcome: str = "running"
    error: str | None = None
    message: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    left_out: list[str] = attrs.field(factory=list)

    def fail(self, error: APIError) -> None:
        self.outcome, self.error, self.message = "failed", error.error_code, error.text[:SAID]

    def __str__(self) -> str:
        took = f" after {self.ended - self.began:.2f} s" if self.ended is not None else ""
        return f"{self.model} ({self.error or self.outcome}{took})"


@attrs.frozen
class Skipped:
    """A model that was not asked though its turn had come, and why."""

    model: str
    why: str


@attrs.define
class Trace:
    """What became of one question.

    Attributes:
        asked: the model as the client named it.
        route: the route that this is; None where it is a model.
        at: when, in UTC.
        skipped: who was passed over, and why.
        pauses: seconds waited between attempts.
        upstream: seconds in which a provider had the question; `seconds` the whole time.
        outcome: "running", "answered", "failed" or "left".
        cost: of all attempts together, as far as there are prices.
    """

    id: str
    user_id: str
    asked: str
    route: str | None
    strategy: str
    at: str = attrs.field(factory=utc_now)
    attempts: list[Attempt] = attrs.field(factory=list)
    skipped: list[Skipped] = attrs.field(factory=list)
    pauses: list[float] = attrs.field(factory=list)
    upstream: float = 0.0
    seconds: float | None = None
    outcome: str = "running"
    cost: float | None = None

    def tried(self) -> str:
        """One sentence with every attempt."""
        return f"Tried: {', '.join(str(attempt) for attempt in self.attempts)}."

    def summary(self) -> list[dict[str, str | float | None]]:
        """The attempts for an error's details."""
        return [
            {"model": each.model, "why": each.why, "error": each.error, "outcome": each.outcome, "seconds": each.ended}
            for each in self.attempts
        ]


class Stopwatch:
    """The time in which at least one attempt was under way."""

    __slots__ = ("_since", "_sum", "_under_way")

    def __init__(self) -> None:
        self._sum = self._since = 0.0
        self._under_way = 0

    def start(self) -> None:
        if not self._under_way:
            self._since = trio.current_time()
        self._under_way += 1

    def stop(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._sum += trio.current_time() - self._since

    @property
    def seconds(self) -> float:
        """So far."""
        return self._sum + (trio.current_time() - self._since if self._under_way else 0.0)


class Traces:
    """The newest `size` traces."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def keep(self, trace: Trace) -> None:
        """Keep a trace, which may still be written on, in place of the oldest."""
        if self._size:
            self._traces[trace.id] = trace
            if len(self._traces) > self._size:
                self._traces.popitem(last=False)

    def find(self, user_id: str, trace_id: str) -> Trace | None:
        """A user's trace of this id. Somebody else's is as one that does not exist."""
        found = self._traces.get(trace_id)
        return found if found is not None and found.user_id == user_id else None

    def newest(self, user_id: str, limit: int) -> list[Trace]:
        """A user's newest traces, the newest first."""
        found: list[Trace] = []
        for trace in reversed(self._traces.values()):
            if len(found) >= limit:
                break
            if trace.user_id == user_id:
                found.append(trace)
        return found
