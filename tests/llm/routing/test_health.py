"""Breaker, keys and budget, whatever happens to calls and in which order: held against a plain model of the promise."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted import Scripted

from uait.calls.resilience import BreakerState, RetryBudget
from uait.errors import Unavailable
from uait.llm.routing import RoutingSettings
from uait.llm.routing.health import Call, ModelHealth, ProviderHealth

FAILURES = 3
LATE: list[tuple[str, Any]] = [*[("admit", 0)] * 4, *[("failed", 3)] * 3, ("sleep", 3)]
"""One call is still under way from before the breaker opened, which would let a trial through now."""

STEPS = st.lists(
    st.one_of(
        st.just(("admit", 0)),
        st.tuples(st.sampled_from(["begun", "succeeded", "failed", "abandoned"]), st.integers(0, 5)),
        st.tuples(st.just("sleep"), st.sampled_from([1, 3, 40])),
        st.tuples(st.just("cool"), st.integers(0, 1)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
@example(steps=[*LATE, ("admit", 0), ("failed", 0)])
@example(steps=[*LATE, ("admit", 0), ("succeeded", 0)])
@example(steps=[*LATE, ("admit", 0), ("abandoned", 0), ("admit", 0)])
@example(steps=[*LATE[:-1], ("succeeded", 0)])
def test_breaker_and_counters_under_any_order_of_events(steps: list[tuple[str, Any]]) -> None:
    async def play() -> None:
        settings = RoutingSettings(breaker_failures=FAILURES, breaker_pause=2.0, breaker_longest=16.0)
        provider = ProviderHealth("a", [Scripted("a"), Scripted("a")], settings)
        model = ModelHealth("a/m")
        running: list[Call] = []
        in_a_row = 0
        for step, number in steps:
            state, warm = provider.breaker.state, provider.key() is not None
            trying = any(call.trial for call in running)
            if step == "admit":
                call = Call.admit(provider, model)
                # Closed: everybody. Half open: one. Open, or without a key: nobody.
                wanted = warm and (state is BreakerState.CLOSED or (state is BreakerState.HALF_OPEN and not trying))
                assert (call is not None) == wanted
                if call is not None:
                    assert call.trial == (state is not BreakerState.CLOSED)
                    running.append(call)
            elif step == "sleep":
                await trio.sleep(number)
            elif step == "cool":
                provider.cool(provider.keys[number], 5.0, Unavailable())
            elif running:
                call = running[number % len(running)]
                counted = call.trial or state is BreakerState.CLOSED
                if step == "begun":
                    trial = call.trial
                    call.begun(0.1)
                    if trial:
                        assert provider.breaker.state is BreakerState.CLOSED
                        in_a_row = 0
                    continue
                trial = call.trial
                running.remove(call)
                getattr(call, step)()
                getattr(call, step)()  # an end counts once
                if not counted:
                    assert provider.breaker.state is state  # from before it opened: says nothing about now
                elif step == "succeeded":
                    in_a_row = 0
                    assert provider.breaker.state is BreakerState.CLOSED
                elif step == "failed":
                    in_a_row += 1
                    opened = provider.breaker.state is not BreakerState.CLOSED
                    assert opened == (trial or in_a_row >= FAILURES)
            assert model.under_way == len(running)
            assert sum(key.under_way for key in provider.keys) == len(running)
        for call in running:
            call.abandoned()
        assert model.under_way == 0
        # Whatever has happened, it is asked again some time.
        await trio.sleep(20)
        assert provider.ready_in == 0
        assert Call.admit(provider, model) is not None

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["deposit", "withdraw", "sleep"]), max_size=200),
    ratio=st.sampled_from([0.0, 0.05, 0.2]),
    reserve=st.sampled_from([0.0, 1.0]),
)
def test_a_budget_is_never_overdrawn(steps: list[str], ratio: float, reserve: float) -> None:
    async def play() -> None:
        budget = RetryBudget(ratio=ratio, reserve=reserve, most=5.0, saved=0.0)
        began = trio.current_time()
        calls = taken = 0
        for step in steps:
            if step == "deposit":
                budget.deposit()
                calls += 1
            elif step == "withdraw":
                taken += budget.withdraw()
            else:
                await trio.sleep(0.5)
            assert 0 <= budget.balance <= 5
            assert taken <= calls * ratio + (trio.current_time() - began) * reserve + 1e-6

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
