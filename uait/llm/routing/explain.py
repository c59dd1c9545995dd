"""What would be done with a question, and why: read off the state, nobody is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from uait.llm.messages import Usage
from uait.llm.routing.itinerary import Environment, Plan
from uait.llm.routing.order import Candidate
from uait.llm.routing.policy import Strategy
from uait.llm.routing.routed import hedge_delay


@attrs.frozen(kw_only=True)
class Prospect:
    """One model of those that may be asked. Times are in seconds.

    Attributes:
        ready: whether it would be asked now; `why_not` says why it would not.
        keys, cooling: how many keys its provider has, and how many of them are left alone now.
        under_way: questions that it is working on.
        latency: the moving average to its first token; `p95` within which 95 of 100 came. None where too few were seen.
        cost: of a question like this one; None where there is no price.
        retries: how many retries of its provider are allowed now.
    """

    model: str
    ready: bool
    why_not: str | None
    breaker: str
    keys: int
    cooling: int
    under_way: int
    weight: float
    latency: float | None
    p95: float | None
    cost: float | None
    retries: float
    sticky: bool


@attrs.frozen(kw_only=True)
class Explanation:
    """What would be done.

    Attributes:
        asked: the model as it was named; `route` the route that this is, None where it is a model.
        order: in this order; `by_chance` says that it is drawn anew for every question.
        reason: one sentence about the order.
        attempts, first_token_timeout, total_timeout: the bounds, in seconds where they are times.
        hedge: seconds after which a second model would be asked; None where none would be.
        single_flight, continuation: as the route says.
        expected: the tokens that costs were worked out for.
    """

    asked: str
    route: str | None
    strategy: str
    by_chance: bool
    reason: str
    order: list[Prospect]
    attempts: int
    first_token_timeout: float | None
    total_timeout: float
    hedge: float | None
    single_flight: bool
    continuation: bool
    expected: Usage


_REASONS = {
    Strategy.PRIORITY: "In the order of the route.",
    Strategy.WEIGHTED: "Drawn at random by weight.",
    Strategy.LEAST_BUSY: "Those with fewest questions under way for their weight first.",
    Strategy.LATENCY: "Of two at random the one with the lower latency for what is under way, and so on.",
    Strategy.COST: "The cheapest for the expected tokens first; those without a price last.",
}
_BY_CHANCE = frozenset({Strategy.WEIGHTED, Strategy.LEAST_BUSY, Strategy.LATENCY})


def explain(
    plan: Plan,
    order: Sequence[Candidate],
    expected: Usage,
    environment: Environment,
    *,
    sticky: str | None,
    hedges: float,
) -> Explanation:
    """See `Router.explain`."""
    policy = plan.policy
    alone = len(order) == 1
    reason = "There is only this model." if alone else _REASONS[policy.strategy]
    if sticky is not None and not alone:
        reason = f"{sticky} answered this conversation before and comes first. {reason}"
    delay = hedge_delay(order[0], environment) if policy.hedge and hedges >= 1 else math.inf
    return Explanation(
        asked=plan.asked,
        route=plan.route,
        strategy=policy.strategy.value,
        by_chance=not alone and policy.strategy in _BY_CHANCE,
        reason=reason,
        order=[_prospect(candidate, expected, sticky) for candidate in order],
        attempts=environment.settings.attempts,
        first_token_timeout=None if alone else policy.first_token_timeout or environment.settings.first_token_timeout,
        total_timeout=policy.total_timeout or environment.total,
        hedge=None if delay == math.inf else delay,
        single_flight=policy.single_flight,
        continuation=policy.continuation,
        expected=expected,
    )


def _prospect(candidate: Candidate, expected: Usage, sticky: str | None) -> Prospect:
    provider, model = candidate.provider, candidate.model
    why_not = provider.closed_to
    return Prospect(
        model=candidate.address,
        ready=why_not is None,
        why_not=why_not,
        breaker=provider.breaker.state.value,
        keys=len(provider.keys),
        cooling=provider.cooling,
        under_way=model.under_way,
        weight=candidate.weight,
        latency=model.latency.value,
        p95=model.p95,
        cost=None if candidate.price is None else candidate.price.of(expected),
        retries=provider.budget.balance,
        sticky=candidate.address == sticky,
    )
