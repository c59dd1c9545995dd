"""Whom each strategy asks first."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import trio
from scripted import Script, Scripted, leave

from uait.llm.messages import Usage
from uait.llm.routing import Price, RouteSettings, RoutingSettings, Strategy
from uait.llm.routing.health import Health
from uait.llm.routing.order import Candidate, arrange
from uait.llm.routing.policy import Prices


def candidates(*weights: float, prices: dict[str, Price] | None = None) -> list[Candidate]:
    health = Health(RoutingSettings())
    found = []
    for n, weight in enumerate(weights):
        name = "abcdef"[n]
        model = health.model(f"{name}/m")
        found.append(Candidate(health.provider(name, [Scripted(name)]), model, "m", weight, (prices or {}).get(name)))
    return found


def firsts(given: list[Candidate], strategy: Strategy, times: int = 3000, **options: Any) -> Counter[str]:
    chance = random.Random(1)
    return Counter(arrange(given, strategy, chance=chance, **options)[0].address for _ in range(times))


async def test_priority_keeps_the_order() -> None:
    given = candidates(1, 1, 1)
    assert arrange(given, Strategy.PRIORITY, chance=random.Random(1)) == given


@pytest.mark.parametrize("strategy", Strategy)
async def test_everybody_is_in_every_order_once(strategy: Strategy) -> None:
    given = candidates(1, 2, 3, 4)
    for seed in range(50):
        order = arrange(given, strategy, chance=random.Random(seed))
        assert sorted(each.address for each in order) == [each.address for each in given]


async def test_weights_are_shares() -> None:
    found = firsts(candidates(1, 3), Strategy.WEIGHTED)
    assert found["b/m"] / 3000 == pytest.approx(0.75, abs=0.03)


async def test_the_least_busy_for_its_weight_is_first_and_ties_are_drawn() -> None:
    given = candidates(1, 1, 4)
    given[0].model.under_way, given[1].model.under_way, given[2].model.under_way = 2, 1, 3
    assert firsts(given, Strategy.LEAST_BUSY) == {"c/m": 3000}
    given[2].model.under_way = 4
    found = firsts(given, Strategy.LEAST_BUSY)
    assert found.keys() == {"b/m", "c/m"}
    assert found["b/m"] / 3000 == pytest.approx(0.5, abs=0.05)


async def test_latency_favours_the_quick_and_never_picks_the_slowest_first(autojump_clock: Any) -> None:
    given = candidates(1, 1, 1)
    for candidate, seconds in zip(given, (0.1, 0.5, 2.0), strict=True):
        candidate.model.observe(seconds)
    found = firsts(given, Strategy.LATENCY)
    assert found["c/m"] == 0
    assert found["a/m"] / 3000 == pytest.approx(2 / 3, abs=0.05)


async def test_what_is_under_way_counts_as_latency(autojump_clock: Any) -> None:
    given = candidates(1, 1)
    given[0].model.observe(0.1)
    given[1].model.observe(0.3)
    given[0].model.under_way = 5
    assert firsts(given, Strategy.LATENCY) == {"b/m": 3000}


async def test_a_peak_is_believed_at_once_and_forgotten_slowly(autojump_clock: Any) -> None:
    model = candidates(1)[0].model
    model.observe(0.1)
    model.observe(5.0)
    assert model.latency.value == 5.0
    await trio.sleep(1)
    model.observe(0.1)
    assert 4 < (model.latency.value or 0) < 5
    await trio.sleep(60)
    model.observe(0.1)
    assert model.latency.value == pytest.approx(0.1, abs=0.05)


async def test_who_was_never_asked_is_tried_by_one_at_a_time(autojump_clock: Any) -> None:
    given = candidates(1, 1)
    given[0].model.observe(0.1)
    assert firsts(given, Strategy.LATENCY) == {"b/m": 3000}
    given[1].model.under_way = 1
    assert firsts(given, Strategy.LATENCY) == {"a/m": 3000}


async def test_the_cheapest_for_this_question_is_first_and_the_unpriced_last() -> None:
    prices = {"b": Price(prompt=1, completion=10), "c": Price(prompt=3, completion=3)}
    given = candidates(1, 1, 1, prices=prices)
    for usage, order in ((Usage(1000, 10), "bca"), (Usage(10, 1000), "cba")):
        found = arrange(given, Strategy.COST, expected=usage, chance=random.Random(1))
        assert "".join(each.address[0] for each in found) == order


async def test_the_longest_pattern_is_the_price() -> None:
    prices = Prices({"*": Price(prompt=1), "a/*": Price(prompt=2), "a/m": Price(prompt=3, cached=1), "a/m*": Price()})
    assert prices.cost("b/x", Usage(1_000_000)) == 1
    assert prices.cost("a/x", Usage(1_000_000)) == 2
    assert prices.cost("a/m", Usage(1_000_000, 0, cached_tokens=500_000)) == 2
    assert prices.cost("a/m2", Usage(1_000_000)) == 0
    assert Prices().cost("a/m", Usage(1)) is None


async def test_the_95th_of_100(autojump_clock: Any) -> None:
    model = candidates(1)[0].model
    for n in range(19):
        model.observe(n)
    assert model.p95 is None
    for n in range(100):
        model.observe(n)
    assert 90 <= (model.p95 or 0) <= 98


async def test_least_busy_spreads_what_is_asked_at_once(rig: Any, autojump_clock: Any) -> None:
    providers = [Scripted(name, Script(first=1)) for name in "abc"]
    async with rig(*providers, route={"strategy": "least_busy"}) as r:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(r.ask)
        assert [len(provider.asked) for provider in providers] == [10, 10, 10]


async def test_a_conversation_stays_as_long_as_its_model_is_well(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a"), Scripted("b")
    async with rig(a, b, route={"strategy": "weighted", "sticky": True}) as r:
        _, first = await r.ask(conversation="c")
        for _ in range(10):
            assert (await r.ask(conversation="c"))[1].address == first.address
        r.providers[first.address[0]].scripts = [Script(accept=0.1, refuse=RuntimeError("x"))]
        _, moved = await r.ask(conversation="c")
        assert moved.address != first.address
        r.providers[first.address[0]].scripts = [Script()]
        assert (await r.ask(conversation="c"))[1].address == moved.address


async def test_half_of_an_answer_is_no_load_any_more(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(between=10))
    async with rig(a, routes={"r": RouteSettings(models=("a/m",))}) as r:
        await leave(5, r.ask)
        assert (await r.router.plan("r")).candidates[0].model.under_way == 0
