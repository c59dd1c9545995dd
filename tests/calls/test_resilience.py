from __future__ import annotations

import pytest
import trio

from uait.calls.resilience import BreakerState, Bulkhead, CircuitBreaker, RetryBudget, full_jitter
from uait.errors import Unavailable


def test_full_jitter_is_anything_up_to_a_limit_that_doubles_and_ends():
    for attempt, limit in ((1, 0.1), (2, 0.2), (3, 0.4), (9, 1.0)):
        waits = [full_jitter(attempt, base=0.1, longest=1.0) for _ in range(500)]
        assert 0 <= min(waits) < limit * 0.1
        assert limit * 0.9 < max(waits) <= limit


async def test_a_retry_budget_begins_full_and_pays_out_what_was_paid_in(mock_clock):
    budget = RetryBudget(ratio=0.2, reserve=0.0, most=3.0)
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]
    for _ in range(5):
        assert not budget.withdraw()
        budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


async def test_callers_with_few_calls_have_a_reserve(mock_clock):
    budget = RetryBudget(ratio=0.0, reserve=0.5, most=1.0)
    assert budget.withdraw()
    assert not budget.withdraw()
    mock_clock.jump(2)
    assert budget.withdraw()
    mock_clock.jump(1000)
    assert budget.balance == 1.0  # nothing is saved up beyond the limit


async def test_a_breaker_opens_after_failures_in_a_row(mock_clock):
    breaker = CircuitBreaker(failures=3, pause=10)
    for outcome in (breaker.failure, breaker.failure, breaker.success, breaker.failure, breaker.failure):
        assert breaker.acquire()
        outcome()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.acquire()
    breaker.failure()
    assert breaker.state is BreakerState.OPEN
    assert not breaker.acquire()
    assert breaker.retry_after == 10


async def test_an_open_breaker_lets_one_call_through_after_its_pause(mock_clock):
    breaker = CircuitBreaker(failures=1, pause=10)
    breaker.failure()
    mock_clock.jump(9.9)
    assert not breaker.acquire()
    mock_clock.jump(0.1)
    assert breaker.state is BreakerState.HALF_OPEN
    assert (breaker.acquire(), breaker.acquire()) == (True, False)
    breaker.success()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.acquire()


async def test_each_failed_trial_doubles_the_pause_up_to_a_limit(mock_clock):
    breaker = CircuitBreaker(failures=1, pause=10, longest=35)
    pauses = []
    for _ in range(4):
        assert breaker.acquire()
        breaker.failure()
        pauses.append(breaker.retry_after)
        mock_clock.jump(breaker.retry_after)
    assert pauses == [10, 20, 35, 35]
    assert breaker.acquire()
    breaker.success()
    breaker.failure()
    assert breaker.retry_after == 10  # what was before the success is forgotten


async def test_a_trial_that_is_abandoned_leaves_the_next_caller_a_trial(mock_clock):
    breaker = CircuitBreaker(failures=1, pause=10)
    breaker.failure()
    mock_clock.jump(10)
    assert breaker.acquire()
    breaker.abandon()
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.acquire()


async def test_calls_from_before_it_opened_do_not_prolong_the_pause(mock_clock):
    breaker = CircuitBreaker(failures=1, pause=10)
    breaker.failure()
    mock_clock.jump(5)
    breaker.failure()
    assert breaker.retry_after == 5


async def test_a_bulkhead_lets_so_many_in_queues_so_many_and_refuses_the_rest(autojump_clock):
    bulkhead = Bulkhead(limit=2, queue=3)
    done, refused = [], []

    async def call(number: int) -> None:
        try:
            async with bulkhead.enter("echo"):
                await trio.sleep(1)
                done.append((number, trio.current_time()))
        except Unavailable as error:
            refused.append((number, error.text))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(call, number)
            await trio.testing.wait_all_tasks_blocked()
    assert sorted((number, when - began) for number, when in done) == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3)]
    assert refused == [(5, "echo has too many calls waiting already.")]


async def test_a_cancelled_call_gives_its_place_back(autojump_clock):
    bulkhead = Bulkhead(limit=1, queue=0)
    with trio.move_on_after(1):
        async with bulkhead.enter("echo"):
            await trio.sleep_forever()
    with trio.fail_after(1):
        async with bulkhead.enter("echo"):
            pass


async def test_a_failed_call_gives_its_place_back(autojump_clock):
    bulkhead = Bulkhead(limit=1, queue=0)
    with pytest.raises(LookupError):
        async with bulkhead.enter("echo"):
            raise LookupError
    with trio.fail_after(1):
        async with bulkhead.enter("echo"):
            pass
