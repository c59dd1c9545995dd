"""Whom to ask first: the strategies. Pure but for the random numbers that they are given."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import attrs

from uait.llm.messages import Usage
from uait.llm.routing.health import ModelHealth, ProviderHealth
from uait.llm.routing.policy import Price, Strategy

EXPECTED_COMPLETION = 500
"""Tokens that an answer is taken to have where the question sets no limit, to compare prices."""


@attrs.frozen(eq=False)
class Candidate:
    """A model that a question may be sent to. `name` is the provider's own name of it, `context_length` how many tokens it reads, where that is known."""

    provider: ProviderHealth
    model: ModelHealth
    name: str
    weight: float = 1.0
    price: Price | None = None
    context_length: int | None = None

    @property
    def address(self) -> str:
        """`provider/model`."""
        return self.model.address

    def expected_cost(self, expected: Usage) -> float:
        """What such a question costs here; more than anything where that is not known."""
        return math.inf if self.price is None else self.price.of(expected)


def arrange(
    candidates: Sequence[Candidate],
    strategy: Strategy,
    *,
    expected: Usage = Usage(),
    sticky: str | None = None,
    chance: random.Random,
) -> list[Candidate]:
    """The candidates in the order in which to ask them.

    Args:
        expected: the tokens that the question may use, for the strategy `COST`.
        sticky: the address of the one that answered the conversation before; it comes first.
        chance: decides what is left to chance.
    """
    if len(candidates) == 1:
        return list(candidates)
    match strategy:
        case Strategy.PRIORITY:
            found = list(candidates)
        case Strategy.WEIGHTED:
            # Efraimidis and Spirakis: the order of u^(1/w) is a draw without putting back.
            found = sorted(candidates, key=lambda each: -(chance.random() ** (1 / each.weight)))
        case Strategy.LEAST_BUSY:
            found = sorted(candidates, key=lambda each: (each.model.under_way / each.weight, chance.random()))
        case Strategy.LATENCY:
            found = _two_choices(candidates, chance)
        case Strategy.COST:
            found = sorted(candidates, key=lambda each: each.expected_cost(expected))
    if sticky is not None:
        found.sort(key=lambda each: each.address != sticky)
    return found


def _two_choices(candidates: Sequence[Candidate], chance: random.Random) -> list[Candidate]:
    """Again and again the better of two at random: the best is favoured, and not everybody runs to it at once."""
    left = list(candidates)
    found = []
    while len(left) > 1:
        best = min(chance.sample(left, 2), key=lambda each: each.model.load)
        left.remove(best)
        found.append(best)
    return found + left
