"""One question and everything that is done to get it answered: attempts in order, pauses between them, one deadline over all."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio

from uait.calls.resilience import full_jitter
from uait.errors import APIError, DeadlineExceeded, Unavailable
from uait.llm import upstream
from uait.llm.messages import Chunk, Collected, GenerateRequest, Usage, estimate_prompt_tokens, message
from uait.llm.provider import Provider
from uait.llm.routing.health import Call
from uait.llm.routing.leg import Leg, Stage, Work
from uait.llm.routing.order import Candidate
from uait.llm.routing.policy import RouteSettings
from uait.llm.routing.race import race
from uait.llm.routing.retries import Verdict, asked_to_wait, judge
from uait.llm.routing.trace import Attempt, Skipped, Stopwatch, Trace

Used: TypeAlias = Callable[[str, str, Usage, int, float | None], None]
"""Is told of every use of tokens: the user, `provider/model`, how much, how many requests that completes, what it costs."""

RETRY_BASE = 0.25
"""Seconds that the first pause has at most; each further one twice as many."""

FLOOR = 0.05
"""Seconds below which no attempt is begun: nothing would come of it but load."""

MARGIN = 0.02
"""Seconds before the caller's own deadline at which we stop, to be able to say what was tried."""

LONGEST_COOL = 300.0
"""Seconds that a key is left alone at most, whatever its provider asks for."""

PROVIDER_SLACK = 1.0
"""Seconds by which a provider's own limit of the whole may be later than ours before ours is watched as well, which costs something for every token."""

GO_ON = "Your answer was cut off. Go on exactly where it ends: repeat nothing, and say nothing about the break."

_STATEFUL = ("store", "previous_response_id", "background", "conversation")
"""Parameters that leave something behind at the provider: asking two would leave it twice."""


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
        attempts, longest_pause, first_token_timeout, hedge_floor: see `RoutingSettings`.
        total: seconds for a question whose route says nothing else.
        may_hedge: takes one from the hedge budget; False where it is used up.
        stale: is told the name of a provider whose list of models is not true any more.
        used: see `Used`.
    """

    attempts: int
    longest_pause: float
    first_token_timeout: float
    hedge_floor: float
    total: float
    may_hedge: Callable[[], bool]
    stale: Callable[[str], None]
    used: Used


class Routed:
    """A question on its way. `open` it, iterate it, say what it `used`, and `aclose` it in every case.

    Between two calls it holds no scope and no nursery, so each may come from another task.

    Args:
        order: the candidates as they are to be tried.
        work: what is asked instead of `question`, where that is not an answer to read (embeddings); see `result`.
        answered: is told who began to answer.
        whole: the answer is wanted in one piece, so nothing of it is handed on before it is complete.
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
        self._answered = answered
        self._whole = whole
        self._plan = plan
        self._order = order
        self._question = question
        self._work = work
        self._environment = environment
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
        self._zero = trio.current_time()
        self._watch = Stopwatch()
        self._total = plan.policy.total_timeout or environment.total
        self._deadline = self._zero + self._total
        self._leg: Leg | None = None
        self._last: Leg | None = None
        self._asked: dict[Candidate, int] = {}
        self._tried: set[Candidate] = set()
        self._out: set[Candidate] = set()
        self._errors: dict[Candidate, APIError] = {}
        self._rounds = 0
        self._said: list[str] | None = [] if plan.policy.continuation and not whole else None
        self._why = ""
        self._settled = self._over = False

    # What is known of it

    @property
    def address(self) -> str:
        """`provider/model` of whoever answers, or was asked last."""
        return (self._last.candidate if self._last is not None else self._order[0]).address

    @property
    def provider(self) -> str:
        return self.address.partition("/")[0]

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._leg is not None and self._leg.begun

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
        """Find somebody who takes the question; where there is more than one model to ask, somebody who has begun to answer.

        Raises:
            APIError: nobody does. It says who was tried.
        """
        # The caller's own deadline is known in the caller's task only.
        theirs = trio.current_effective_deadline() - self._zero
        self._deadline = min(self._deadline, self._zero + theirs - min(MARGIN, max(0.0, theirs) / 10))
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
                if self._deadline < leg.started + self._environment.total - PROVIDER_SLACK:
                    with trio.CancelScope(deadline=self._deadline):
                        return self._hand_on(await leg.chunks.__anext__())
                    raise await self._late(leg)
                return self._hand_on(await leg.chunks.__anext__())
            except StopAsyncIteration:
                leg.stage = Stage.COMPLETE
                await self._finish("answered", leg.succeeded())
                raise
            except APIError as error:
                await self._broke_off(leg, error)

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

    def used(self, usage: Usage) -> None:
        """Say what the answer used, complete or not. Once."""
        leg = self._last
        if self._settled or leg is None:
            return
        self._settled = True
        if self._whole and leg.buffer and self._question is not None:
            # It was left before its end, so nobody has seen what has come of it.
            usage = _counted(self._question, leg)
        self._use(leg, usage, 1)

    async def aclose(self) -> None:
        """End it, wherever it is. Idempotent, and bounded also where the caller is cancelled."""
        leg, self._leg = self._leg, None
        if leg is not None and self._work is None and not leg.complete:
            await self._finish("left", leg.left())
        elif leg is not None:
            await self._finish("answered", leg.succeeded())

    async def _reach(self, stage: Stage) -> None:
        try:
            with trio.CancelScope(deadline=self._deadline) as scope:
                while not await self._try(stage):
                    pass
        except APIError:
            self._over_at("failed")
            raise
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
            leg = await self._next()
        self._last = leg
        if self._hedged and stage >= Stage.BEGUN:
            won = await self._race(leg, stage)
            if won is None:
                return False
            leg = won
        else:
            try:
                await leg.reach(stage, self._patience(stage, leg))
            except APIError as error:
                await self._fail(leg, error)
                self._go_on(error)
                return False
            except BaseException:
                await leg.left()
                raise
        self._leg = self._last = leg
        if leg.begun:
            self._answered(leg.candidate)
        if leg.complete:
            await self._finish("answered", leg.succeeded())
        return True

    async def _race(self, leg: Leg, stage: Stage) -> Leg | None:
        result = await race(
            leg,
            partial(self._second, leg),
            stage=stage,
            hedge_at=leg.started + self._hedge_delay(leg),
            patience=partial(self._patience, stage),
        )
        for loser in result.losers:
            self._use_some(loser)  # both are paid for
        for each, error in result.failed:
            await self._fail(each, error)
        if result.winner is None:
            self._go_on(result.failed[-1][1])
        return result.winner

    # Whom to ask next

    async def _next(self) -> Leg:
        """The next attempt, after a pause where everybody has had their turn.

        Raises:
            APIError: nobody is left to ask.
        """
        while True:
            leg = self._admit()
            if leg is not None:
                return leg
            self._rounds += 1
            pause = self._pause()
            if pause is None:
                raise self._spent()
            self.trace.pauses.append(pause)
            await trio.sleep(pause)
            self._tried.clear()

    def _admit(self, besides: Leg | None = None) -> Leg | None:
        """The first candidate whose turn it is and who can be asked now. `besides`: somebody is being asked already."""
        if len(self.trace.attempts) >= self._environment.attempts:
            return None
        if trio.current_time() + FLOOR > self._deadline and self.trace.attempts:
            return None
        for candidate in self._order:
            if candidate in self._tried or candidate in self._out:
                continue
            before = self._asked.get(candidate, 0)
            if before and not candidate.provider.budget.withdraw():
                self._out.add(candidate)
                self._skip(candidate, "too many questions to it are being asked again already")
                continue
            reason = candidate.provider.closed_to
            call = Call.admit(candidate.provider, candidate.model) if reason is None else None
            if call is None:
                self._skip(candidate, reason or "it is being tried by another question after failures")
                continue
            if not before:
                candidate.provider.budget.deposit()
            return self._leg_of(candidate, call, besides)
        return None

    def _leg_of(self, candidate: Candidate, call: Call, besides: Leg | None) -> Leg:
        if self._why or besides is not None:
            why = "hedge" if besides is not None else self._why
        elif not self.trace.attempts:
            why = "first choice"
        else:
            why = "retry" if candidate in self._asked else "fallback"
        self._asked[candidate] = self._asked.get(candidate, 0) + 1
        self._tried.add(candidate)
        attempt = Attempt(candidate.address, why, trio.current_time() - self._zero)
        self.trace.attempts.append(attempt)
        return Leg(candidate, call, self._work or self._stream, attempt, self._watch, self._zero)

    def _stream(self, provider: Provider, name: str) -> Any:
        assert self._question is not None
        return provider.stream(attrs.evolve(self._question, model=name))

    def _skip(self, candidate: Candidate, why: str) -> None:
        skipped = Skipped(candidate.address, why)
        if skipped not in self.trace.skipped:
            self.trace.skipped.append(skipped)

    def _pause(self) -> float | None:
        """Seconds until it makes sense to ask again; None where it makes none."""
        environment = self._environment
        if self._rounds >= environment.attempts or len(self.trace.attempts) >= environment.attempts:
            return None
        left = [candidate for candidate in self._order if candidate not in self._out]
        if not left:
            return None
        wait = min(candidate.provider.ready_in for candidate in left)
        if wait > environment.longest_pause:
            return None
        pause = wait + full_jitter(self._rounds, base=RETRY_BASE, longest=environment.longest_pause)
        return pause if trio.current_time() + pause + FLOOR <= self._deadline else None

    def _patience(self, stage: Stage, leg: Leg) -> float:
        """Until when a leg may take to its first token. Without anybody else to ask, its provider decides."""
        if stage is Stage.COMPLETE or not any(
            each not in self._tried and each not in self._out and each.provider.closed_to is None
            for each in self._order
        ):
            return math.inf
        seconds = self._plan.policy.first_token_timeout or self._environment.first_token_timeout
        return leg.started + min(seconds, (self._deadline - leg.started) / 2)

    def _hedge_delay(self, leg: Leg) -> float:
        """Seconds after which a model is slower than it usually is."""
        usual = leg.candidate.model.p95
        return math.inf if usual is None else max(self._environment.hedge_floor, usual)

    def _second(self, first: Leg) -> Leg | None:
        """The leg that is to run beside the first: the next model, or the same one where there is no other."""
        if not self._environment.may_hedge():
            return None
        leg = self._admit(besides=first)
        if leg is None and len(self._order) == 1 and len(self.trace.attempts) < self._environment.attempts:
            call = Call.admit(first.candidate.provider, first.candidate.model)
            leg = self._leg_of(first.candidate, call, first) if call is not None else None
        return leg

    # What goes wrong

    async def _fail(self, leg: Leg, error: APIError) -> Verdict:
        """Note a failure with everybody whom it concerns."""
        verdict = judge(error)
        candidate = leg.candidate
        await leg.failed(error, unhealthy=verdict.unhealthy)
        if leg.buffer:
            self._use_some(leg)
        self._errors[candidate] = error
        seconds = asked_to_wait(error)
        if verdict.cools is not None or seconds is not None:
            candidate.provider.cool(leg.key, min(LONGEST_COOL, seconds or verdict.cools or 0.0), error)
        if verdict.stale:
            self._environment.stale(candidate.provider.name)
        if not verdict.again:
            self._out.add(candidate)
        elif verdict.cools is not None and candidate.provider.key() is not None:
            self._tried.discard(candidate)  # under another of its keys
        return verdict

    def _go_on(self, error: APIError) -> None:
        """Raise `error` where asking anybody else would not help."""
        if not judge(error).elsewhere:
            raise self._told(error)

    async def _broke_off(self, leg: Leg, error: APIError) -> None:
        """It failed in the middle of the answer: another one goes on with it, where that is wanted and can be, or `error` is raised."""
        self._leg = None
        verdict = await self._fail(leg, error)
        question = self._question
        said = "".join(self._said or ())
        if said and question is not None and verdict.elsewhere and not question.tools and not question.response_format:
            self._use_some(leg, said)
            turns = (message("assistant", said), message("user", GO_ON))
            limit = question.max_tokens and max(1, question.max_tokens - estimate_prompt_tokens(turns[:1]))
            self._question = attrs.evolve(question, messages=(*question.messages, *turns), max_tokens=limit)
            self._why = "continuation"
            return
        self._over_at("failed")
        raise self._told(error)

    def _hand_on(self, chunk: Chunk) -> Chunk:
        if self._said is not None:
            if chunk.reasoning or chunk.refusal or chunk.tool_calls:
                self._said = None  # nobody else can go on with these
            elif chunk.text:
                self._said.append(chunk.text)
        return chunk

    async def _late(self, leg: Leg) -> APIError:
        """The whole deadline has passed in the middle of the answer."""
        await leg.left()
        self._over_at("failed")
        return self._out_of_time()

    def _out_of_time(self) -> APIError:
        error = DeadlineExceeded(f"No model has answered completely within {self._deadline - self._zero:.1f} s.")
        for attempt in self.trace.attempts:
            if attempt.outcome == "left":
                attempt.fail(error)
        return self._told(error)

    def _spent(self) -> APIError:
        """Nobody is left: the error of the preferred one of those that were asked."""
        for candidate in self._order:
            if candidate in self._errors:
                return self._told(self._errors[candidate])
        first = self._order[0].provider
        refusal = first.refusal
        if refusal is not None:
            error = self._told(refusal)
            error.headers["Retry-After"] = str(max(1, math.ceil(first.ready_in)))
            return error
        reasons = "; ".join(f"{skipped.model}: {skipped.why}" for skipped in self.trace.skipped)
        return self._told(
            Unavailable(
                f"No model for {self._plan.asked[:200]!r} can be asked now. {reasons}",
                code="PROVIDER_UNAVAILABLE",
                retry_after=min(each.provider.ready_in for each in self._order),
            )
        )

    def _told(self, error: APIError) -> APIError:
        """`error`, which says what was tried and that trying again at once is not worth it."""
        told = error.__class__.__new__(error.__class__)
        told.__dict__.update(error.__dict__)
        told.__cause__ = error.__cause__
        attempts = self.trace.attempts
        if len(attempts) > 1:
            told.text = f"{error.text} {self.trace.tried()}"
        if attempts:
            details = error.details if isinstance(error.details, dict) else {}
            told.details = {**details, "attempts": self.trace.summary()}
        told.args = (told.text,)
        told.headers = dict(error.headers)
        return upstream.failed(told)

    # What it used

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

    async def _finish(self, outcome: str, ending: Any) -> None:
        await ending
        self._over_at(outcome)

    def _over_at(self, outcome: str) -> None:
        if not self._over:
            self._over = True
            self.trace.outcome = outcome
            self.trace.seconds = trio.current_time() - self._zero
            self.trace.upstream = self._watch.seconds


def _counted(question: GenerateRequest, leg: Leg, said: str = "") -> Usage:
    """What a leg used, by what has come of it."""
    collected = Collected()
    collected.add(Chunk(said))
    for chunk in leg.buffer:
        collected.add(chunk)
    return collected.counted(question)
