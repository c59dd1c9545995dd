"""The router: from the name of a model to an answer, by way of whichever provider gives one."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, TypeAlias

import trio

from uait.calls.resilience import RetryBudget
from uait.llm.catalog import Catalog
from uait.llm.messages import GenerateRequest, Usage, estimate_prompt_tokens
from uait.llm.provider import Capability, Embeddings, Provider, check_embeddings
from uait.llm.routing.explain import Explanation, explain
from uait.llm.routing.flight import Flights, Shared
from uait.llm.routing.health import Health
from uait.llm.routing.itinerary import Environment, Plan, Used
from uait.llm.routing.order import EXPECTED_COMPLETION, Candidate, arrange
from uait.llm.routing.policy import Price, Prices, RouteSettings, RoutingSettings
from uait.llm.routing.routed import Routed
from uait.llm.routing.trace import Trace, Traces

CONVERSATIONS = 10_000
"""Conversations whose model is remembered for sticky routes."""

HEDGES_SAVED = 5.0
"""Hedges that can be saved up."""

Asked: TypeAlias = Routed | Shared

_PLAIN = RouteSettings(models=("any",))
"""How a model is asked that is named by itself."""


class Router:
    """Use `open_router`.

    Args:
        nursery: where answers are made that several wait for.
        used: is told of every use of tokens.
        total: seconds for a question, everything together.
        chance: decides what is left to chance.
    """

    def __init__(
        self,
        catalog: Catalog,
        nursery: trio.Nursery,
        used: Used,
        *,
        routes: Mapping[str, RouteSettings] = {},
        settings: RoutingSettings = RoutingSettings(),
        prices: Mapping[str, Price] = {},
        total: float = 600.0,
        chance: random.Random | None = None,
    ) -> None:
        self.traces = Traces(settings.traces)
        self.prices = Prices(prices)
        self._price = lru_cache(maxsize=4096)(self.prices.find)
        self._catalog = catalog
        self._routes = routes
        self._chance = chance or random.Random()
        self._health = Health(settings)
        self._hedges = RetryBudget(ratio=settings.hedge_ratio, reserve=0.0, most=HEDGES_SAVED, saved=0.0)
        self._sticky: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._flights = Flights(nursery)
        self._environment = Environment(
            settings=settings, total=total, may_hedge=self._hedges.withdraw, stale=catalog.outdated, used=used
        )

    async def plan(self, address: str | None, capability: Capability = Capability.CHAT) -> Plan:
        """Find out where a question to `address` may go.

        Raises:
            NotFound: nobody has such a model.
        """
        found = await self._catalog.resolve_all(address, capability)
        policy = self._routes.get(found.route, _PLAIN) if found.route else _PLAIN
        candidates = []
        for place in found.places:
            name = place.target.provider.name
            model = self._health.model(place.target.address)
            provider = self._health.provider(name, place.keys)
            price = self._price(model.address)
            weight = policy.weight(place.n)
            candidates.append(Candidate(provider, model, place.target.model, weight, price, place.context_length))
        return Plan(address or "auto", found.route, policy, tuple(candidates))

    def ask(
        self,
        plan: Plan,
        question: GenerateRequest,
        user_id: str,
        trace_id: str,
        *,
        whole: bool = False,
        conversation: str | None = None,
    ) -> Asked:
        """A question on its way: `open` it, iterate it, say what it `used`, `aclose` it.

        Args:
            trace_id: under which it is found afterwards.
            whole: the answer is wanted in one piece; also a failure in its middle is then made good.
            conversation: what it belongs to, for sticky routes.
        """
        if plan.policy.single_flight and question.temperature == 0:
            key = (user_id, plan.asked, whole, repr(question))
            begin = partial(self._begin, plan, question, user_id, trace_id, whole=whole, conversation=conversation)
            return self._flights.join(key, begin, question)
        return self._begin(plan, question, user_id, trace_id, whole=whole, conversation=conversation)

    def _begin(
        self,
        plan: Plan,
        question: GenerateRequest,
        user_id: str,
        trace_id: str,
        *,
        whole: bool,
        conversation: str | None,
    ) -> Routed:
        if plan.policy.hedge:
            self._hedges.deposit()
        place = (plan.route or "", conversation) if plan.policy.sticky and conversation is not None else None
        order = self._arrange(plan, question, place)
        more: dict[str, Any] = {} if place is None else {"answered": partial(self._stick, place)}
        return Routed(
            plan, order, question, self._environment, self._trace(plan, user_id, trace_id), whole=whole, **more
        )

    async def embed(
        self, plan: Plan, texts: Sequence[str], dimensions: int | None, user_id: str, trace_id: str
    ) -> tuple[Embeddings, Routed]:
        """Turn texts into vectors. Only the first model of a route is asked: vectors of two models do not go together."""
        first = plan.candidates[0]
        order = [each for each in plan.candidates if each.name == first.name]

        @asynccontextmanager
        async def work(provider: Provider, name: str) -> AsyncIterator[Embeddings]:
            check_embeddings(provider)
            yield await provider.embed(name, texts, dimensions)

        routed = Routed(plan, order, None, self._environment, self._trace(plan, user_id, trace_id), work=work)
        try:
            await routed.open()
            answer: Embeddings = routed.result
            routed.used(answer.usage)
        finally:
            await routed.aclose()
        return answer, routed

    def explain(self, plan: Plan, question: GenerateRequest, conversation: str | None = None) -> Explanation:
        """What would be done with a question, without asking anybody."""
        place = (plan.route or "", conversation) if plan.policy.sticky and conversation is not None else None
        return explain(
            plan,
            self._arrange(plan, question, place),
            _expected(question),
            self._environment,
            sticky=self._sticky.get(place) if place is not None else None,
            hedges=self._hedges.balance,
        )

    def _arrange(self, plan: Plan, question: GenerateRequest, place: tuple[str, str] | None) -> list[Candidate]:
        candidates = plan.candidates
        if len(candidates) == 1:
            return list(candidates)
        sticky = self._sticky.get(place) if place is not None else None
        return arrange(
            candidates, plan.policy.strategy, expected=_expected(question), sticky=sticky, chance=self._chance
        )

    def _stick(self, place: tuple[str, str], candidate: Candidate) -> None:
        self._sticky[place] = candidate.address
        self._sticky.move_to_end(place)
        if len(self._sticky) > CONVERSATIONS:
            self._sticky.popitem(last=False)

    def _trace(self, plan: Plan, user_id: str, trace_id: str) -> Trace:
        trace = Trace(trace_id, user_id, plan.asked, plan.route, plan.policy.strategy.value)
        self.traces.keep(trace)
        return trace


def _expected(question: GenerateRequest) -> Usage:
    """The tokens that a question may use."""
    return Usage(estimate_prompt_tokens(question.messages, question.tools), question.max_tokens or EXPECTED_COMPLETION)


@asynccontextmanager
async def open_router(catalog: Catalog, used: Used, **options: Any) -> AsyncIterator[Router]:
    """Open a router over the models of `catalog`. For the options see `Router`."""
    async with trio.open_nursery() as nursery:
        try:
            yield Router(catalog, nursery, used, **options)
        finally:
            nursery.cancel_scope.cancel(reason="the router is closed")
