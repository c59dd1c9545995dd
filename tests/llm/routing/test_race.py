"""Two are asked where one is slow: the first meaningful event wins, and the loser's connection is closed before the winner goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from scripted import Rig, Script, Scripted, leave

from uait.errors import APIError
from uait.llm import upstream
from uait.llm.messages import Collected, Usage
from uait.llm.routing import RoutingSettings

BROKEN = upstream.from_frame("x", {"type": "overloaded_error"})
HEDGE = {"hedge": True}


async def warm(r: Rig, first: float = 1.0) -> None:
    """Let the first model be known for its time to the first token, and save up hedges."""
    a = next(iter(r.providers.values()))
    before, a.scripts = a.scripts, [Script(first=first)]
    for _ in range(40):
        await r.ask("a/m")
    a.scripts = [Script(first=first / 2)]
    for _ in range(40):
        await r.ask()
    a.scripts = before
    r.used.clear()


def outcomes(routed: Any) -> list[tuple[str, str, str]]:
    return [(attempt.model, attempt.why, attempt.outcome) for attempt in routed.trace.attempts]


async def test_who_begins_first_wins_and_both_are_paid_for(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=20)), Scripted("b", Script(first=0.5)), route=HEDGE) as r:
        await warm(r)
        began = trio.current_time()
        text, routed = await r.ask()
        assert text == "Hello there"
        assert trio.current_time() - began == pytest.approx(1.5)  # the usual second, and the other's half
        assert outcomes(routed) == [("a/m", "first choice", "lost"), ("b/m", "hedge", "answered")]
        assert [(address, requests) for _, address, _, requests, _ in r.used] == [("a/m", 0), ("b/m", 1)]


async def test_nobody_is_asked_twice_before_it_is_slow(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=0.9)), Scripted("b"), route=HEDGE) as r:
        await warm(r)
        for _ in range(50):
            await r.ask()
        assert r.providers["b"].asked == []


async def test_before_it_is_known_what_is_slow_nobody_is_asked_twice(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=20)), Scripted("b"), route={**HEDGE, "first_token_timeout": 25}) as r:
        await r.ask()
        assert r.providers["b"].asked == []


@pytest.mark.parametrize("script", [Script(fail=BROKEN), Script(refuse=BROKEN), Script(first=100)])
async def test_roles_errors_and_silence_do_not_win(rig: Any, autojump_clock: Any, script: Script) -> None:
    """The second accepts at once, says its role, and then nothing good."""
    async with rig(Scripted("a", Script(first=4)), Scripted("b", script), route=HEDGE) as r:
        await warm(r)
        text, routed = await r.ask()
        assert text == "Hello there"
        assert routed.address == "a/m"
        assert outcomes(routed)[1][2] == ("lost" if script.first else "failed")


async def test_a_failure_before_the_hedge_falls_back_at_once(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(fail=BROKEN)), Scripted("b"), route=HEDGE) as r:
        await warm(r)
        began = trio.current_time()
        _, routed = await r.ask()
        assert trio.current_time() == began
        assert outcomes(routed)[1] == ("b/m", "fallback", "answered")


async def test_when_both_fail_both_are_told(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(first=3, fail=BROKEN)), Scripted("b", Script(first=3, fail=BROKEN))
    async with rig(a, b, route=HEDGE, settings=RoutingSettings(attempts=2)) as r:
        await warm(r)
        error = await r.fails()
        assert "Tried: a/m (PROVIDER_OVERLOADED after 3.00 s), b/m (PROVIDER_OVERLOADED after 3.00 s)" in error.text


async def test_one_model_can_race_itself(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(first=30), Script(first=0.1))
    async with rig(a, route=HEDGE) as r:
        await warm(r)
        began = trio.current_time()
        _, routed = await r.ask()
        assert trio.current_time() - began == pytest.approx(1.1)
        assert outcomes(routed) == [("a/m", "first choice", "lost"), ("a/m", "hedge", "answered")]


async def test_a_loser_is_neither_a_failure_nor_a_success(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(first=20)), Scripted("b")
    async with rig(a, b, route=HEDGE, settings=RoutingSettings(breaker_failures=1, hedge_ratio=1.0)) as r:
        await warm(r)
        for _ in range(3):
            _, routed = await r.ask()
            assert routed.trace.attempts[0].outcome == "lost"
        prospect = r.router.explain(await r.router.plan("r"), (await _question())).order[0]
        assert (prospect.breaker, prospect.under_way) == ("closed", 0)
        assert prospect.p95 == pytest.approx(1.0)


async def _question() -> Any:
    from uait.llm.messages import GenerateRequest, message

    return GenerateRequest(model="r", messages=(message("user", "x"),))


async def test_hedges_are_at_most_a_twentieth(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=5)), Scripted("b", Script(first=0.1)), route=HEDGE) as r:
        await warm(r, first=1.0)
        hedged = 0
        for _ in range(200):
            _, routed = await r.ask()
            hedged += len(routed.trace.attempts) - 1
        assert 0 < hedged <= (200 + 40) * 0.05


async def test_what_leaves_something_behind_is_not_asked_twice(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=5)), Scripted("b"), route=HEDGE) as r:
        await warm(r)
        await r.ask(extra={"store": True})
        assert r.providers["b"].asked == []


async def test_the_loser_is_gone_before_the_winners_second_chunk(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(first=2)), Scripted("b", Script(first=1))  # a tie, at two seconds
    async with rig(a, b, route=HEDGE) as r:
        await warm(r)
        routed = await r.routed()
        await routed.open()
        assert r.open == 1
        collected = Collected()
        async for chunk in routed:
            collected.add(chunk)
            assert r.open <= 1
        routed.used(Usage())
        await routed.aclose()
        assert collected.text == "Hello there"


async def test_leaving_in_a_race_closes_both(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=20)), Scripted("b", Script(first=20)), route=HEDGE) as r:
        await warm(r)
        await leave(3.0, r.ask, id="left")
        assert r.open == 0
        assert {attempt.outcome for attempt in r.router.traces.find("ann", "left").attempts} == {"left"}
        # One request, and both are paid for.
        assert sorted((address, requests) for _, address, _, requests, _ in r.used) in (
            [("a/m", 0), ("b/m", 1)],
            [("a/m", 1), ("b/m", 0)],
        )


async def test_a_race_that_the_deadline_ends_is_paid_for(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=20)), Scripted("b", Script(first=20)), route=HEDGE) as r:
        await warm(r)
        with trio.fail_after(3.0):
            await r.fails()
        assert sorted(requests for *_, requests, _ in r.used) == [0, 1]


@pytest.mark.parametrize(
    ("runs", "part"), [(1_000, 0), *(pytest.param(3_000, part, marks=pytest.mark.soak) for part in (1, 2, 3))]
)
async def test_after_any_number_of_races_with_ties_nothing_is_open(
    rig: Any, autojump_clock: Any, runs: int, part: int
) -> None:
    """Times are drawn from so few that ties are common: of two first tokens, of a failure and a first token, of the client's leaving and either."""
    chance = random.Random(part)
    moments = (0.0, 1.0, 1.0, 2.0)
    broken = (BROKEN, upstream.unreachable("x"), upstream.from_status("x", 429, b"", {}), None, None, None)

    def draw() -> Script:
        failure = chance.choice(broken)
        return Script(
            accept=chance.choice(moments),
            first=chance.choice(moments),
            between=chance.choice((0.0, 1.0)),
            refuse=failure if chance.random() < 0.3 else None,
            fail=failure if chance.random() < 0.5 else None,
            fail_after=chance.randrange(3),
        )

    a, b = Scripted("a"), Scripted("b")
    settings = RoutingSettings(hedge_ratio=1.0, breaker_failures=10_000, traces=10)
    async with rig(a, b, route=HEDGE, settings=settings, seed=part) as r:
        raced = ties = 0
        await warm(r)
        for _ in range(runs):
            a.scripts, b.scripts = [draw(), draw()], [draw(), draw()]
            whole, leaving = chance.random() < 0.3, chance.choice((1.0, 2.0, 3.0, 100.0))

            async def one(whole: bool = whole) -> None:
                routed = await r.routed(whole=whole)
                try:
                    await routed.open()
                    assert r.open <= 1  # losers are gone before anything is handed on
                    async for _ in routed:
                        assert r.open <= 1
                except APIError:
                    pass
                finally:
                    routed.used(Usage())
                    await routed.aclose()
                    nonlocal raced, ties
                    raced += any(attempt.why == "hedge" for attempt in routed.trace.attempts)
                    ends = [attempt.ended for attempt in routed.trace.attempts]
                    ties += len(set(ends)) < len(ends)
                    assert routed.trace.outcome != "running"
                    assert all(attempt.outcome != "running" for attempt in routed.trace.attempts)

            await leave(leaving, one)
            assert r.open == 0
        plan = await r.router.plan("r")
        assert [candidate.model.under_way for candidate in plan.candidates] == [0, 0]
        assert all(key.under_way == 0 for candidate in plan.candidates for key in candidate.provider.keys)
        assert raced > runs // 100
        assert ties > runs // 100
