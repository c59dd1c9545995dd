"""One question on its way to an answer: attempts one after the other or side by side, one deadline over all, everything accounted for."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import attrs
import trio

from uait.errors import APIError, DeadlineExceeded
from uait.llm import upstream
from uait.llm.messages import Chunk, Collected, GenerateRequest, Usage, estimate_prompt_tokens, message
from uait.llm.provider import Provider, left_out
from uait.llm.routing.health import Call
from uait.llm.routing.itinerary import Environment, Itinerary, Plan, copy_error
from uait.llm.routing.leg import Leg, Stage, Work, own_failure
from uait.llm.routing.order import Candidate
from uait.llm.routing.race import race
from uait.llm.routing.retries import judge
from uait.llm.routing.trace import Attempt, Stopwatch, Trace

MARGIN = 0.04
"""Seconds before the caller's own deadline at which we stop, to be able to say what was tried."""

PROVIDER_SLACK = 1.0
"""Seconds by which a provider's own limit of the whole may be later than ours before ours is watched as well, which costs something for every token."""

GO_ON = "Your answer was cut off. Go on exactly where it ends: repeat nothing, and say nothing about the break."

_STATEFUL = ("store", "previous_response_id", "background", "conversation")
"""Parameters that leave something behind at the provider: asking two would leave it twice."""


class Routed:
    """A question on its way. `open` it, iterate it, say what it `used`, and `aclose` it in every case.

    Between two calls it holds no scope and no nursery, so each may come from another task.

    Args:
        order: the candidates as they are to be tried.
        whole: the answer is wanted in one piece, so nothing of it is handed on before it is complete.
        work: what is asked instead of `question`, where that is not an answer to read (embeddings); see `result`.
        answered: is told who began to answer.
    """

    def __init__(
        self,
        plan: Plan,
        order: list[Candidate],
        question: GenerateRequest | None,
        environment: Environment,
        trace: Trace,
        *,
        whole: bool = False,
        work: Work | None = None,
        answered: Callable[[Candidate], None] = lambda _: None,
    ) -> None:
        self.trace = trace
        self._policy = plan.policy
        self._environment = environment
        self._whole = whole
        self._work = work
        self._answered = answered
        self._hedged = (
            plan.policy.hedge and question is not None and not any(question.extra.get(key) for key in _STATEFUL)
        )
        if whole:
            self._stage = Stage.COMPLETE
        elif work is None and (len(order) > 1 or self._hedged):
            # With somewhere else to go, the head of the answer waits for its first token: the status is then the true one.
            self._stage = Stage.BEGUN
        else:
            self._stage = Stage.ACCEPTED
        bound = question is not None and question.original is not None and bool(question.original.needs)
        if question is not None and whole and (len(order) > 1 or self._hedged) and not bound:
            # Or a slow first token could not be seen. What only the client's own dialect can say would be lost on the way.
            question = attrs.evolve(question, stream=True)
        self._question = question
        self._zero = trio.current_time()
        # As long a provider gives itself.
        self._total = (question.total if question is not None else None) or environment.total
        self._way = Itinerary(
            plan.asked, order, environment, trace, self._zero + (plan.policy.total_timeout or self._total)
        )
        self._watch = Stopwatch()
        self._legs: list[Leg] = []
        self._leg: Leg | None = None
        self._last: Leg | None = None
        self._said: list[str] | None = [] if plan.policy.continuation and not whole and not bound else None
        if self._said is not None and question is not None:
            # Nobody can go on in the middle of another's own events.
            self._question = attrs.evolve(question, original=None)
        self._goes_on = self._settled = self._over = False

    # What is known of it

    @property
    def address(self) -> str:
        """`provider/model` of whoever answers, or was asked last."""
        return (self._last.candidate if self._last is not None else self._way.order[0]).address

    @property
    def upstream_seconds(self) -> float:
        """The time in which somebody has had the question, so far."""
        return self._watch.seconds

    @property
    def result(self) -> Any:
        """What `work` gave."""
        assert self._leg is not None
        return self._leg.chunks

    # Going through it

    async def open(self) -> None:
        """Find somebody who takes the question; where there is more than one model to ask, somebody who has begun to answer; where it is wanted whole, the whole answer.

        Raises:
            APIError: nobody does. It says who was tried.
        """
        # The caller's own deadline is known in the caller's task only.
        theirs = trio.current_effective_deadline()
        margin = min(MARGIN, max(0.0, theirs - self._zero) / 10)
        self._way.deadline = min(self._way.deadline, theirs - margin)
        await self._reach(self._stage)

    def __aiter__(self) -> Routed:
        return self

    async def __anext__(self) -> Chunk:
        while True:
            leg = self._leg
            if leg is None or not leg.begun:
                await self._reach(Stage.BEGUN)
                continue
            if leg.buffer:
                return self._hand_on(leg.buffer.popleft())
            if leg.complete:
                raise StopAsyncIteration
            assert leg.chunks is not None
            try:
                if self._way.deadline >= leg.started + self._total - PROVIDER_SLACK:
                    return self._hand_on(await leg.chunks.__anext__())
                with trio.CancelScope(deadline=self._way.deadline):
                    return self._hand_on(await leg.chunks.__anext__())
            except StopAsyncIteration:
                leg.stage = Stage.COMPLETE
                await self._finish("answered", leg.succeeded())
                raise
            except APIError as error:
                await self._broke_off(leg, error)
            except Exception as error:
                await self._broke_off(leg, own_failure(leg.candidate.provider.name, error))
            else:
                # The whole deadline has passed in the middle of the answer.
                self._leg = None
                await self._finish("failed", leg.left())
                raise self._out_of_time()

    def ready(self) -> list[Chunk]:
        """What has arrived already, and need not be waited for."""
        leg = self._leg
        if leg is None or not leg.begun:
            return []
        found = list(leg.buffer)
        leg.buffer.clear()
        more = getattr(leg.chunks, "ready", None)
        if more is not None:
            found += more()
        if self._said is not None:
            for chunk in found:
                self._hand_on(chunk)
        return found

    async def aclose(self) -> None:
        """End it, wherever it is. Idempotent, and bounded also where the caller is cancelled."""
        leg, self._leg = self._leg, None
        if leg is not None and self._work is None and not leg.complete:
            await self._finish("left", leg.left())
        elif leg is not None:
            await self._finish("answered", leg.succeeded())

    async def _reach(self, stage: Stage) -> None:
        try:
            with trio.CancelScope(deadline=self._way.deadline) as scope:
                while not await self._try(stage):
                    pass
        except APIError as error:
            self._over_at("failed")
            raise self._told(error) from error.__cause__
        except BaseException:
            self._over_at("left")
            raise
        if scope.cancelled_caught:
            self._over_at("failed")
            raise self._out_of_time()

    async def _try(self, stage: Stage) -> bool:
        """One attempt, or the next step of one. True where it has come as far as `stage`."""
        leg, self._leg = self._leg, None
        if leg is None:
            leg = self._begin(await self._way.next())
        self._last = leg
        if self._hedged and stage >= Stage.BEGUN:
            won = await self._race(leg)
            if won is None:
                return False
            self._last = leg = won
        try:
            patience = self._patience(leg)
            if patience < math.inf:
                await leg.reach(min(stage, Stage.BEGUN), patience)
            await leg.reach(stage, math.inf)
        except APIError as error:
            await self._fail(leg, error)
            if not judge(error).elsewhere:
                raise
            return False
        except BaseException:
            await leg.left()
            raise
        self._leg = leg
        if leg.begun:
            self._answered(leg.candidate)
        if leg.complete:
            await self._finish("answered", leg.succeeded())
        return True

    def _begin(self, found: tuple[Candidate, Call], *, hedge: bool = False) -> Leg:
        candidate, call = found
        if hedge or self._goes_on:
            why = "hedge" if hedge else "continuation"
        elif not self._legs:
            why = "first choice"
        else:
            why = "retry" if self._way.asked_before(candidate) else "fallback"
        attempt = Attempt(candidate.address, why, trio.current_time() - self._zero)
        if self._question is not None:
            attempt.left_out = left_out(call.key.provider, self._question)
        self.trace.attempts.append(attempt)
        work = self._work or partial(
            _stream, self._question
        )  # no method of ours: they would know each other, and wait for the garbage collector
        leg = Leg(candidate, call, work, attempt, self._watch, self._zero)
        self._legs.append(leg)
        return leg

    def _patience(self, leg: Leg) -> float:
        """Until when a leg may take to its first token. Without anybody else to ask, its provider decides."""
        if not self._way.has_another:
            return math.inf
        seconds = self._policy.first_token_timeout or self._environment.settings.first_token_timeout
        return leg.started + min(seconds, (self._way.deadline - leg.started) / 2)

    # Two at once

    async def _race(self, leg: Leg) -> Leg | None:
        result = await race(
            leg,
            partial(self._second, leg),
            hedge_at=leg.started + hedge_delay(leg.candidate, self._environment),
            patience=self._patience,
        )
        for loser in result.losers:
            self._use_some(loser)  # both are paid for
        for each, error in result.failed:
            await self._fail(each, error)
        if result.winner is None and not judge(error := result.failed[-1][1]).elsewhere:
            raise error
        return result.winner

    def _second(self, first: Leg) -> Leg | None:
        """The leg that is to run beside the first: the next model, or the same one where there is no other."""
        alone = len(self._way.order) == 1
        if not (alone or self._way.has_another) or not self._environment.may_hedge():
            return None
        found = self._way.admit_again(first.candidate) if alone else self._way.admit()
        return None if found is None else self._begin(found, hedge=True)

    # What goes wrong

    async def _fail(self, leg: Leg, error: APIError) -> None:
        verdict = self._way.failed(leg.candidate, leg.key, error)
        await leg.failed(error, unhealthy=verdict.unhealthy)
        if leg.buffer:
            self._use_some(leg)

    async def _broke_off(self, leg: Leg, error: APIError) -> None:
        """It failed in the middle of the answer: another one goes on with it, where that is wanted and can be, or the error is raised."""
        self._leg = None
        await self._fail(leg, error)
        question = self._question
        said = "".join(self._said or ())
        if not said or question is None or question.tools or question.response_format or not judge(error).elsewhere:
            self._over_at("failed")
            raise self._told(error) from error.__cause__
        self._use_some(leg, said)
        turns = (message("assistant", said), message("user", GO_ON))
        limit = question.max_tokens and max(1, question.max_tokens - estimate_prompt_tokens(turns[:1]))
        self._question = attrs.evolve(question, messages=(*question.messages, *turns), max_tokens=limit)
        self._said = []  # the question says it from here on
        self._goes_on = True

    def _hand_on(self, chunk: Chunk) -> Chunk:
        if self._said is not None:
            if chunk.reasoning or chunk.refusal or chunk.tool_calls or chunk.finish:
                self._said = None  # nobody else can go on with these, and nobody needs to after the end
            elif chunk.text:
                self._said.append(chunk.text)
        return chunk

    def _out_of_time(self) -> APIError:
        seconds = self._way.deadline - self._zero
        error = DeadlineExceeded(f"No model has completed an answer within {seconds:.1f} s.")
        for attempt in self.trace.attempts:
            if attempt.outcome == "left":
                attempt.fail(error)
        return self._told(error)

    def _told(self, error: APIError) -> APIError:
        """`error`, which says what was tried, and that trying again at once is not worth it."""
        told = copy_error(error)
        attempts = self.trace.attempts
        if len(attempts) > 1 or (attempts and isinstance(error, DeadlineExceeded)):
            told.text = f"{error.text} {self.trace.tried()}"
            told.args = (told.text,)
        if attempts:
            details = error.details if isinstance(error.details, dict) else {}
            told.details = {**details, "attempts": self.trace.summary()}
        return upstream.failed(told)

    # What it used

    def used(self, usage: Usage) -> None:
        """Say what the answer used, complete or not. Once; what was refused before it began counts nothing."""
        leg = self._last
        if self._settled or leg is None:
            return
        self._settled = True
        for other in self._legs:
            if other is not leg and other.given_up:
                self._use_some(other)  # the client left, or the time was over, in the middle of a race
        if leg.attempt.usage is not None:
            self._environment.used(self.trace.user_id, leg.candidate.address, Usage(), 1, None)
        elif leg.begun or leg.given_up or leg.attempt.outcome != "failed":
            if self._whole and leg.buffer and self._question is not None:
                # It was left before its end, so nobody has seen what has come of it.
                usage = _counted(self._question, leg)
            self._use(leg, usage, 1)
        elif begun := [each for each in self._legs if each.begun]:
            # It was begun, and nobody has gone on with it; its tokens are counted.
            self._environment.used(self.trace.user_id, begun[-1].candidate.address, Usage(), 1, None)

    def _use_some(self, leg: Leg, said: str = "") -> None:
        """Count what an attempt used that is not the answer, or only its beginning."""
        if self._question is not None and leg.attempt.usage is None:
            self._use(leg, _counted(self._question, leg, said), 0)

    def _use(self, leg: Leg, usage: Usage, requests: int) -> None:
        price = leg.candidate.price
        cost = None if price is None else price.of(usage)
        leg.attempt.usage, leg.attempt.cost = usage, cost
        if cost is not None:
            self.trace.cost = (self.trace.cost or 0.0) + cost
        self._environment.used(self.trace.user_id, leg.candidate.address, usage, requests, cost)

    async def _finish(self, outcome: str, ending: Coroutine[Any, Any, None]) -> None:
        await ending
        self._over_at(outcome)

    def _over_at(self, outcome: str) -> None:
        if not self._over:
            self._over = True
            self.trace.outcome = outcome
            self.trace.seconds = trio.current_time() - self._zero
            self.trace.upstream = self._watch.seconds


def hedge_delay(candidate: Candidate, environment: Environment) -> float:
    """Seconds after which a model is slower than it usually is; never, before that is known."""
    usual = candidate.model.p95
    return math.inf if usual is None else max(environment.settings.hedge_floor, usual)


def _counted(question: GenerateRequest, leg: Leg, said: str = "") -> Usage:
    """What a leg used, by what has come of it."""
    collected = Collected()
    collected.add(Chunk(said))
    for chunk in leg.buffer:
        collected.add(chunk)
    return collected.counted(question)


def _stream(question: GenerateRequest | None, provider: Provider, name: str) -> Any:
    assert question is not None
    return provider.stream(attrs.evolve(question, model=name))
