"""How questions are routed, as the settings say it: routes over several models, how often and how long to try, what a token costs."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs
from attrs import validators

from uait.llm.messages import Usage

_positive: Any = validators.gt(0)
_not_negative: Any = validators.ge(0)


class Strategy(enum.StrEnum):
    """In which order the models of a route are tried."""

    PRIORITY = "priority"
    """As they stand in the route."""
    WEIGHTED = "weighted"
    """At random, the more often the heavier."""
    LEAST_BUSY = "least_busy"
    """The one with the fewest questions under way, for its weight."""
    LATENCY = "latency"
    """The quicker of two at random (power of two choices), by a peak-sensitive moving average and what is under way."""
    COST = "cost"
    """The cheapest for this question."""


@attrs.frozen(kw_only=True)
class RouteSettings:
    """`[chat.routes.NAME]`: a name that stands for several models.

    Attributes:
        models: as `provider/model`, a model's name or an alias; where one fails the next is asked.
        strategy: which is asked first.
        weights: of the models in their order, 1 where left out.
        sticky: questions of one conversation go to the model that answered last, as long as it is well: its prompt cache knows them.
        first_token_timeout: seconds to the first token after which the next model is asked; the general one where left out.
        total_timeout: seconds for everything together; the general one where left out.
        hedge: ask a second model where the first is slower than it usually is, and take whoever begins first.
        single_flight: identical questions of one user at temperature 0 share one answer while it is being made.
        continuation: where an answer breaks off in the middle of its text, the next model goes on with it.
    """

    models: tuple[str, ...] = attrs.field(validator=validators.min_len(1))
    strategy: Strategy = attrs.field(default=Strategy.PRIORITY, converter=Strategy)
    weights: tuple[float, ...] = attrs.field(default=(), validator=validators.deep_iterable(_positive))
    sticky: bool = False
    first_token_timeout: float | None = attrs.field(default=None, validator=validators.optional(_positive))
    total_timeout: float | None = attrs.field(default=None, validator=validators.optional(_positive))
    hedge: bool = False
    single_flight: bool = False
    continuation: bool = False

    def weight(self, n: int) -> float:
        """Of model number `n`."""
        return self.weights[n] if n < len(self.weights) else 1.0


@attrs.frozen(kw_only=True)
class RoutingSettings:
    """`[chat.routing]`: how often and how long models are asked. All times are in seconds.

    Attributes:
        attempts: at most so many for one question, the first one and those at other models included.
        first_token_timeout: to the first token, where there is another model to ask; half of what remains of the time, where that is less.
        longest_pause: the longest wait before trying again, also where a provider asks for a longer one.
        retry_ratio: further attempts at a provider for each question that it gets; a few a second are always allowed.
        breaker_failures: failures of a provider in a row after which it is left alone for a while.
        breaker_pause, breaker_longest: how long that is the first time, and at most.
        hedge_floor: the shortest wait before a second model is asked.
        hedge_ratio: questions asked twice for each one of routes with `hedge`.
        traces: how many questions' traces are kept, in memory.
    """

    attempts: int = attrs.field(default=4, validator=validators.and_(validators.ge(1), validators.le(100)))
    first_token_timeout: float = attrs.field(default=30.0, validator=_positive)
    longest_pause: float = attrs.field(default=5.0, validator=_not_negative)
    retry_ratio: float = attrs.field(default=0.2, validator=_not_negative)
    breaker_failures: int = attrs.field(default=5, validator=validators.ge(1))
    breaker_pause: float = attrs.field(default=1.0, validator=_positive)
    breaker_longest: float = attrs.field(default=30.0, validator=_positive)
    hedge_floor: float = attrs.field(default=0.1, validator=validators.ge(0.01))
    hedge_ratio: float = attrs.field(default=0.05, validator=validators.and_(_not_negative, validators.le(1)))
    traces: int = attrs.field(default=1000, validator=validators.and_(_not_negative, validators.le(100_000)))


@attrs.frozen(kw_only=True)
class Price:
    """`[chat.prices."PATTERN"]`: what a million tokens cost, in whatever currency all prices are in.

    Attributes:
        prompt: a million tokens of prompt.
        completion: a million tokens of answer, reasoning included.
        cached: a million tokens of prompt that the provider had in its cache; as `prompt` where left out.
    """

    prompt: float = attrs.field(default=0.0, validator=_not_negative)
    completion: float = attrs.field(default=0.0, validator=_not_negative)
    cached: float | None = attrs.field(default=None, validator=validators.optional(_not_negative))

    def of(self, usage: Usage) -> float:
        """What `usage` costs."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        rate = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - cached
        return (fresh * self.prompt + cached * rate + usage.completion_tokens * self.completion) / 1e6


class Prices:
    """The price table. A key is `provider/model`, or a pattern of it with `*`; the longest that fits counts."""

    def __init__(self, table: Mapping[str, Price] = {}) -> None:
        self._table = dict(sorted(table.items(), key=lambda item: -len(item[0])))

    def find(self, address: str) -> Price | None:
        """The price of the model `provider/model`; None where nobody has said it."""
        exact = self._table.get(address)
        if exact is not None:
            return exact
        return next((price for pattern, price in self._table.items() if fnmatchcase(address, pattern)), None)

    def cost(self, address: str, usage: Usage) -> float | None:
        """What `usage` of this model costs; None where its price is not known."""
        price = self.find(address)
        return None if price is None else price.of(usage)
