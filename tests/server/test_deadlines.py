from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator

import pytest
import trio

from uait.server.deadlines import Deadlines

LOG = logging.getLogger("test")


class Kept:
    """Deadlines that are kept on a mock clock, and what was called back when."""

    def __init__(self) -> None:
        self.deadlines = Deadlines(LOG)
        self.called: list[tuple[str, float]] = []

    def timer(self, name: str = "one"):
        return self.deadlines.timer(lambda: self.called.append((name, trio.current_time())))


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    kept = Kept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.deadlines.run)
        yield kept
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_a_deadline_is_kept_once(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    kept.timer().set(start + 5)
    await trio.sleep(20)
    assert kept.called == [("one", start + 5)]


async def test_a_later_deadline_takes_an_earlier_ones_place(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    timer = kept.timer()
    timer.set(start + 5)
    timer.set(start + 8)
    await trio.sleep(20)
    assert kept.called == [("one", start + 8)]


async def test_an_earlier_deadline_takes_a_later_ones_place(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    timer = kept.timer()
    timer.set(start + 8)
    timer.set(start + 2)
    await trio.sleep(20)
    assert kept.called == [("one", start + 2)]


async def test_moved_again_and_again_it_never_comes_too_early_or_twice(kept: Kept, autojump_clock: object) -> None:
    timer = kept.timer()
    for _ in range(50):
        timer.set(trio.current_time() + 5)
        await trio.sleep(3)
    expected = timer.deadline
    await trio.sleep(20)
    assert kept.called == [("one", expected)]


async def test_a_stopped_timer_says_nothing_until_it_is_set_again(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    timer = kept.timer()
    timer.set(start + 5)
    timer.stop()
    await trio.sleep(20)
    assert kept.called == []
    timer.set(start + 25)
    await trio.sleep(20)
    assert kept.called == [("one", start + 25)]


async def test_many_are_kept_in_their_order(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    for name, after in (("c", 3), ("a", 1), ("d", 4), ("b", 2)):
        kept.timer(name).set(start + after)
    await trio.sleep(10)
    assert [name for name, _ in kept.called] == ["a", "b", "c", "d"]


async def test_a_callback_may_set_its_timer_anew(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    times = []

    def again() -> None:
        times.append(trio.current_time() - start)
        if len(times) < 3:
            timer.set(trio.current_time() + 1)

    timer = kept.deadlines.timer(again)
    timer.set(start + 1)
    await trio.sleep(10)
    assert times == [1, 2, 3]


async def test_a_callback_that_fails_costs_the_others_nothing(
    kept: Kept, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    start = trio.current_time()

    def fail() -> None:
        raise ValueError("bug")

    kept.deadlines.timer(fail).set(start + 1)
    kept.timer().set(start + 2)
    await trio.sleep(10)
    assert kept.called == [("one", start + 2)]
    assert "could not be acted upon" in caplog.text


async def test_what_is_closed_is_soon_forgotten(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    stays = kept.timer()
    stays.set(start + 100)
    for _ in range(10_000):
        timer = kept.timer("closed")
        timer.set(start + 50)
        timer.close()
    assert len(kept.deadlines._heap) < 1000  # connections come and go much faster than their deadlines pass
    await trio.sleep(200)
    assert kept.called == [("one", start + 100)]
    assert kept.deadlines._heap == []
    assert timer.deadline == math.inf


async def test_the_closed_are_counted_once_however_often_they_were_moved(kept: Kept, autojump_clock: object) -> None:
    start = trio.current_time()
    for _ in range(100):
        timer = kept.timer("closed")
        timer.set(start + 50)
        timer.set(start + 10)
        timer.close()
    await trio.sleep(100)
    assert kept.deadlines._dead == 0  # else they would be kept ever longer
