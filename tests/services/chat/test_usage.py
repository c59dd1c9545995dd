"""What was used is gathered for a moment, and never lost by a stop."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry

from uait.llm.messages import Usage
from uait.services.chat.usage import PAUSE, UsageRecorder


class Store:
    """Takes some time over every write."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.takes = 0.1

    async def add_usage(self, rows: Any) -> None:
        rows = list(rows)
        await trio.sleep(self.takes)
        self.written.append(rows)

    @property
    def requests(self) -> list[int]:
        return [sum(row[3] for row in rows) for rows in self.written]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def recorder(store: Any) -> UsageRecorder:
    return UsageRecorder(store, logging.getLogger("uait.test"), CollectorRegistry())


def use(recorder: UsageRecorder) -> None:
    recorder.add("ann", "mock/tokens", Usage(3, 4))


async def test_what_comes_within_the_pause_is_one_write(
    recorder: UsageRecorder, store: Store, nursery: trio.Nursery, autojump_clock: Any
) -> None:
    nursery.start_soon(recorder.run)
    for _ in range(5):
        use(recorder)
        await trio.sleep(PAUSE / 10)
    await trio.sleep(1)
    assert store.requests == [5]
    use(recorder)
    await trio.sleep(1)
    assert store.requests == [5, 1]


async def test_who_reads_does_not_wait_for_the_pause(
    recorder: UsageRecorder, store: Store, nursery: trio.Nursery, autojump_clock: Any
) -> None:
    nursery.start_soon(recorder.run)
    await recorder.stored()
    use(recorder)
    begun = trio.current_time()
    await recorder.stored()
    assert trio.current_time() - begun == pytest.approx(0.1)
    assert store.requests == [1]


@pytest.mark.parametrize("after", [0, PAUSE / 2, PAUSE + 0.05])
async def test_a_stop_loses_nothing(recorder: UsageRecorder, store: Store, autojump_clock: Any, after: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        use(recorder)
        await trio.sleep(after)
        use(recorder)
        nursery.cancel_scope.cancel(reason="the service stops")
    assert sum(store.requests) == 2


async def test_what_a_store_takes_too_long_over_is_in_the_log(
    recorder: UsageRecorder, store: Store, nursery: trio.Nursery, autojump_clock: Any, caplog: Any
) -> None:
    store.takes = 60.0
    nursery.start_soon(recorder.run)
    use(recorder)
    with trio.fail_after(10):
        await recorder.stored()
    assert "mock/tokens" in caplog.text
