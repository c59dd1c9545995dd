"""One orchestration from the request to the answer: choose, run, synthesise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import orjson
import trio

from uait.calls import remaining
from uait.calls.context import current_call
from uait.errors import APIError, DeadlineExceeded, Unavailable
from uait.kernel.service import Context
from uait.services.orchestrator.adapters import Ask, adapter
from uait.services.orchestrator.candidates import candidates_of
from uait.services.orchestrator.model import (
    Answer,
    Candidate,
    Choice,
    Data,
    ExplainAnswer,
    Explanation,
    Metadata,
    Mode,
    OrchestrateRequest,
    OrchestratorSettings,
    Outcome,
    Progress,
    Status,
    Summary,
    Task,
    mode_of,
)
from uait.services.orchestrator.run import run_all, time_for
from uait.services.orchestrator.select import choose, take_named
from uait.services.orchestrator.synthesis import synthesise
from uait.storage.ids import utc_now

Tell: TypeAlias = Callable[[str, Any], Awaitable[None]]
"""Is told the name and the data of each step as it happens."""

_DISCOVERY_PATIENCE = 1.0
_HEALTH_PATIENCE = 1.0


class Conductor:
    """Runs orchestrations for one incarnation of the service. It keeps nothing between them."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._settings: OrchestratorSettings = ctx.settings

    async def run(self, asked: OrchestrateRequest, *, tell: Tell | None = None) -> Answer:
        """Choose services, run them, and make one answer of theirs.

        Raises:
            DeadlineExceeded: every service ran out of time.
            Unavailable: every service failed, in one way or another. `details` says which way.

        On cancellation everything that was started has stopped when it returns.
        """
        began = trio.current_time()
        choices, unknown = await self._choose(asked)
        names = [choice.name for choice in choices if choice.chosen]
        mode = mode_of(len(names))
        if tell is not None:
            await tell("plan", {"services": names, "skipped": unknown, "executionMode": mode})
        skipped = [Outcome(name=name, status=Status.SKIPPED, error=why) for name, why in unknown.items()]

        async def report(outcome: Outcome) -> None:
            if tell is not None:
                await tell("result", _progress(outcome))

        for outcome in skipped:
            await report(outcome)
        task = _task(asked)
        ran = await run_all(
            [(name, adapter(name).asks(task)) for name in names],
            self._call,
            timeout=self._time(),
            log=self._ctx.log,
            report=report,
        )
        if ran and not any(outcome.came_back for outcome in ran):
            raise _nothing_came_back(ran)
        return self._answer(asked, [*ran, *skipped], mode, trio.current_time() - began)

    async def explain(self, asked: OrchestrateRequest) -> ExplainAnswer:
        """Choose services, and say why."""
        choices, unknown = await self._choose(asked)
        explanation = Explanation(
            userRequest=asked.user_request,
            choices=choices,
            skipped=unknown,
            timeoutSeconds=round(self._time(), 3),
        )
        mode = mode_of(sum(choice.chosen for choice in choices))
        return ExplainAnswer(data=explanation, metadata=_metadata(mode))

    async def health(self) -> dict[str, Any]:
        """The health of every service of this host that declares intents, asked at once. (The gateway does not, and asks for ours.)"""
        left = remaining()
        # Whoever asks us waits, too: an answer about the others has to arrive before that ends.
        patience = _HEALTH_PATIENCE if left is None else min(_HEALTH_PATIENCE, left * 0.8)
        found: dict[str, Any] = {}

        async def ask(candidate: Candidate) -> None:
            began = trio.current_time()
            try:
                client = self._ctx.client(candidate.name)
                answer = await client.request("GET", "/health", timeout=patience, check=False)
                status = orjson.loads(answer.content)["status"]
            except (APIError, ValueError, KeyError, TypeError):
                status = "unhealthy"
            latency = round((trio.current_time() - began) * 1000, 3)
            found[candidate.title] = {"status": status, "latency_ms": latency}

        async with trio.open_nursery() as nursery:
            for candidate in candidates_of(self._ctx.services(), {}, self._ctx.name):
                if candidate.intents:
                    nursery.start_soon(ask, candidate)
        return dict(sorted(found.items()))

    async def _choose(self, asked: OrchestrateRequest) -> tuple[list[Choice], dict[str, str]]:
        candidates = await self._candidates()
        if asked.services:
            return take_named(asked.services, candidates)
        settings = self._settings
        fit = choose(
            asked.user_request,
            [candidate for candidate in candidates if candidate.intents],
            threshold=settings.threshold,
            most=settings.most,
            otherwise=settings.otherwise,
        )
        return fit, {}

    async def _candidates(self) -> list[Candidate]:
        """The services of this host, and those that registered themselves. Without discovery there are only the former."""
        registered: Any = {}
        try:
            listed = await self._ctx.client("discovery").request("GET", "/services", timeout=_DISCOVERY_PATIENCE)
            registered = listed.json()["services"]
        except (APIError, ValueError, KeyError, TypeError) as error:
            self._ctx.log.debug("discovery does not say who is registered: %s", error)
        return candidates_of(self._ctx.services(), registered, self._ctx.name)

    def _time(self) -> float:
        return time_for(self._settings.timeout, remaining(), self._settings.reserve)

    async def _call(self, name: str, ask: Ask) -> Any:
        response = await self._ctx.client(name).request(ask.method, ask.path, json=ask.json)
        return response.json() if response.content else None

    def _answer(self, asked: OrchestrateRequest, outcomes: Sequence[Outcome], mode: Mode, seconds: float) -> Answer:
        synthesis = synthesise(outcomes)
        data = Data(
            userRequest=asked.user_request,
            services={outcome.name: outcome.as_json() for outcome in outcomes},
            synthesis=synthesis,
            summary=Summary(
                servicesUsed=sum(outcome.came_back for outcome in outcomes),
                executionTime=in_milliseconds(seconds),
                synthesized=bool(synthesis),
            ),
        )
        return Answer(data=data, metadata=_metadata(mode))


def in_milliseconds(seconds: float) -> str:
    """A duration as text with its unit: `12.3ms`."""
    return f"{seconds * 1000:.1f}ms"


def _task(asked: OrchestrateRequest) -> Task:
    return Task(text=asked.user_request, context=asked.context or {}, priority=asked.priority)


def _progress(outcome: Outcome) -> Progress:
    return Progress(
        name=outcome.name,
        status=outcome.status,
        result=outcome.result,
        error=outcome.error or None,
        executionTime=in_milliseconds(outcome.seconds),
    )


def _metadata(mode: Mode) -> Metadata:
    call = current_call()
    return Metadata(timestamp=utc_now(), requestId=call.request_id if call else "", executionMode=mode)


def _nothing_came_back(outcomes: Sequence[Outcome]) -> APIError:
    details = {"services": {outcome.name: outcome.as_json() for outcome in outcomes}}
    if all(outcome.status is Status.TIMED_OUT for outcome in outcomes):
        return DeadlineExceeded("No service answered in time.", details=details)
    return Unavailable("Every service that this request needs failed.", code="ALL_SERVICES_FAILED", details=details)
