"""Whom one question is sent to next: each candidate in its turn, and again after a pause, as far as bounds and budgets allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import attrs
import trio

from uait.calls.resilience import full_jitter
from uait.errors import APIError, Unavailable
from uait.llm.messages import Usage
from uait.llm.routing.health import Call, Key
from uait.llm.routing.order import Candidate
from uait.llm.routing.policy import RouteSettings, RoutingSettings
from uait.llm.routing.retries import Verdict, asked_to_wait, judge
from uait.llm.routing.trace import Skipped, Trace

RETRY_BASE = 0.25
"""Seconds that the first pause has at most; each further one twice as many."""

FLOOR = 0.05
"""Seconds below which no attempt is begun: nothing would come of it but load."""

LONGEST_COOL = 300.0
"""Seconds that a key is left alone at most, whatever its provider asks for."""

Used: TypeAlias = Callable[[str, str, Usage, int, float | None], None]
"""Is told of every use of tokens: the user, `provider/model`, how much, how many requests that completes, what it costs."""


@attrs.frozen
class Plan:
    """Where a question may go.

    Attributes:
        asked: the model as the client named it.
        route: the name of the route that it stands for, or None.
        candidates: in the order of the route.
    """

    asked: str
    route: str | None
    policy: RouteSettings
    candidates: tuple[Candidate, ...]


@attrs.frozen(kw_only=True)
class Environment:
    """What all questions share.

    Attributes:
        total: seconds for a question whose route says nothing else.
        may_hedge: takes one from the hedge budget; False where it is used up.
        stale: is told the name of a provider whose list of models is not true any more.
        used: see `Used`.
    """

    settings: RoutingSettings
    total: float
    may_hedge: Callable[[], bool]
    stale: Callable[[str], None]
    used: Used


class Itinerary:
    """One question's way.

    Args:
        order: the candidates as they are to be tried.

    Attributes:
        deadline: on trio's clock, when everything is over.
    """

    def __init__(
        self, asked: str, order: list[Candidate], environment: Environment, trace: Trace, deadline: float
    ) -> None:
        self.order = order
        self.deadline = deadline
        self._asked = asked
        self._environment = environment
        self._settings = environment.settings
        self._trace = trace
        self._times: dict[Candidate, int] = {}
        self._tried: set[Candidate] = set()
        self._out: set[Candidate] = set()
        self._errors: dict[Candidate, APIError] = {}
        self._rounds = 0

    async def next(self) -> tuple[Candidate, Call]:
        """The next one, after a pause where everybody has had their turn.

        Raises:
            APIError: nobody is left to ask; the error of the preferred one of those that were asked.
        """
        while True:
            found = self.admit()
            if found is not None:
                return found
            self._rounds += 1
            pause = self._pause()
            if pause is None:
                raise self._spent()
            self._trace.pauses.append(pause)
            await trio.sleep(pause)
            self._tried.clear()

    def admit(self) -> tuple[Candidate, Call] | None:
        """The first one whose turn it is, where somebody can be asked now."""
        if not self._allowed:
            return None
        for candidate in self.order:
            if candidate in self._tried or candidate in self._out:
                continue
            again = candidate in self._times
            reason = candidate.provider.closed_to
            if reason is None and again and not candidate.provider.budget.withdraw():
                self._out.add(candidate)
                reason = "too many questions to it are being asked again already"
            call = Call.admit(candidate.provider, candidate.model) if reason is None else None
            if call is not None:
                if not again:
                    candidate.provider.budget.deposit()
                return self._note(candidate, call)
            self._skip(candidate, reason or "another question is trying it after failures")
        return None

    def admit_again(self, candidate: Candidate) -> tuple[Candidate, Call] | None:
        """One that is being asked already, once more beside it."""
        call = Call.admit(candidate.provider, candidate.model) if self._allowed else None
        return None if call is None else self._note(candidate, call)

    def asked_before(self, candidate: Candidate) -> bool:
        """Whether this is not the first time."""
        return self._times[candidate] > 1

    @property
    def has_another(self) -> bool:
        """Whether somebody else could be asked at once."""
        return self._allowed and any(
            each not in self._tried and each not in self._out and each.provider.closed_to is None for each in self.order
        )

    def failed(self, candidate: Candidate, key: Key, error: APIError) -> Verdict:
        """Note a failure with everybody whom it concerns."""
        verdict = judge(error)
        self._errors[candidate] = error
        wait = asked_to_wait(error)
        if wait is not None or verdict.cools is not None:
            candidate.provider.cool(key, min(LONGEST_COOL, verdict.cools or 0.0 if wait is None else wait), error)
        if verdict.stale:
            self._environment.stale(candidate.provider.name)
        if verdict.longer:
            self._leave_out_shorter(candidate)
        if not verdict.again:
            self._out.add(candidate)
        elif verdict.cools is not None and candidate.provider.key() is not None:
            self._tried.discard(candidate)  # at once, under another of its keys
        return verdict

    def _leave_out_shorter(self, candidate: Candidate) -> None:
        """The question was too long for `candidate`, and is for whoever is known to read no more."""
        length = candidate.context_length
        for other in self.order:
            if length and other.context_length and other.context_length <= length and other not in self._out:
                self._out.add(other)
                if other is not candidate and other not in self._times:
                    self._skip(
                        other, f"it reads {other.context_length} tokens, and the question is too long for {length}"
                    )

    @property
    def _allowed(self) -> bool:
        attempts = len(self._trace.attempts)
        in_time = not attempts or trio.current_time() + FLOOR <= self.deadline
        return in_time and attempts < self._settings.attempts

    def _note(self, candidate: Candidate, call: Call) -> tuple[Candidate, Call]:
        self._times[candidate] = self._times.get(candidate, 0) + 1
        self._tried.add(candidate)
        return candidate, call

    def _skip(self, candidate: Candidate, why: str) -> None:
        skipped = Skipped(candidate.address, why)
        if skipped not in self._trace.skipped:
            self._trace.skipped.append(skipped)

    def _pause(self) -> float | None:
        """Seconds until it makes sense to ask again; None where it makes none."""
        settings = self._settings
        left = [candidate for candidate in self.order if candidate not in self._out]
        if not left or self._rounds >= settings.attempts or len(self._trace.attempts) >= settings.attempts:
            return None
        wait = min(candidate.provider.ready_in for candidate in left)
        if wait > settings.longest_pause:
            return None
        pause = wait + full_jitter(self._rounds, base=RETRY_BASE, longest=settings.longest_pause)
        return pause if trio.current_time() + pause + FLOOR <= self.deadline else None

    def _spent(self) -> APIError:
        for candidate in self.order:
            if candidate in self._errors:
                return self._errors[candidate]
        first = self.order[0].provider
        wait = min(each.provider.ready_in for each in self.order)
        if (refusal := first.refusal) is not None:
            error = copy_error(refusal)
            error.headers["Retry-After"] = str(max(1, math.ceil(wait)))
            return error
        reasons = "; ".join(f"{skipped.model}: {skipped.why}" for skipped in self._trace.skipped)
        return Unavailable(
            f"No model for {self._asked[:200]!r} can be asked now. {reasons}.",
            code="PROVIDER_UNAVAILABLE",
            retry_after=wait,
        )


def copy_error(error: APIError) -> APIError:
    """The same error once more, to be changed. Not by its constructor, whose arguments are not those of every class."""
    copied = error.__class__.__new__(error.__class__, error.text)
    copied.__dict__.update(error.__dict__)
    copied.headers = dict(error.headers)
    copied.__cause__ = error.__cause__
    return copied
