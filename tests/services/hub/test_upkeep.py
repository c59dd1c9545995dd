"""Memory is given back when most of many clients have gone, seldom and only then."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.services.hub.upkeep import MANY, SETTLE, STEP, Upkeep, reclaim


@pytest.fixture
async def upkeep(nursery):
    upkeep = Upkeep(lambda: upkeep.times.append(trio.current_time()))
    upkeep.times = []
    nursery.start_soon(upkeep.run)
    await wait_all_tasks_blocked()
    return upkeep


def count(upkeep, *numbers):
    for number in numbers:
        upkeep.count(number)


async def test_twice_when_most_of_many_have_gone_and_the_rest_had_time(autojump_clock, upkeep):
    began = trio.current_time()
    count(upkeep, 2 * MANY, MANY // 4, 10, 0)
    await trio.sleep(10 * SETTLE)
    assert upkeep.times == [began + SETTLE, began + 2 * SETTLE]
    count(upkeep, MANY // 2, 0, MANY, 0)
    await trio.sleep(10 * SETTLE)
    assert len(upkeep.times) == 4


async def test_only_once_where_they_are_back_by_then(autojump_clock, upkeep):
    count(upkeep, 2 * MANY, 0)
    await trio.sleep(1.5 * SETTLE)
    count(upkeep, 2 * MANY)
    await trio.sleep(10 * SETTLE)
    assert len(upkeep.times) == 1


async def test_who_comes_and_goes_between_the_two_is_not_forgotten(autojump_clock, upkeep):
    count(upkeep, 2 * MANY, 0)
    await trio.sleep(1.5 * SETTLE)
    count(upkeep, 3 * MANY, 0)
    await trio.sleep(10 * SETTLE)
    assert len(upkeep.times) == 4


async def test_not_for_a_few_nor_while_many_are_there(autojump_clock, upkeep):
    count(upkeep, MANY - 1, 0, MANY - 1, 0)
    count(upkeep, 10 * MANY, 5 * MANY)
    await trio.sleep(10 * SETTLE)
    assert upkeep.times == []


async def test_not_where_they_are_back_meanwhile(autojump_clock, upkeep):
    count(upkeep, 2 * MANY, 0)
    await trio.sleep(SETTLE / 2)
    count(upkeep, 2 * MANY)
    await trio.sleep(10 * SETTLE)
    assert upkeep.times == []
    count(upkeep, 0)
    await trio.sleep(10 * SETTLE)
    assert len(upkeep.times) == 2


@pytest.mark.parametrize("at_start", [True, False])
def test_what_there_is_is_frozen_in_steps_only_where_the_process_has_frozen_its_start(monkeypatch, at_start):
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 5 * at_start)

    async def main():
        frozen = []
        upkeep = Upkeep(freeze=lambda: frozen.append(upkeep.present))
        for present in (*range(2 * STEP + 1), *range(2 * STEP, -1, -1), *range(3 * STEP + 1)):
            upkeep.count(present)
        return frozen

    assert trio.run(main) == ([STEP, 2 * STEP, 3 * STEP] if at_start else [])


async def test_the_hub_counts_who_comes_and_goes(hubs, monkeypatch):
    async with hubs() as connect:
        counted = []
        monkeypatch.setattr(connect.hub.rooms, "_counted", counted.append)
        ada, bob = await connect("ada"), await connect("bob")
        ada.leave()
        bob.break_down()
        await wait_all_tasks_blocked()
        assert counted == [1, 2, 1, 0]


def test_rings_of_objects_are_gone():
    class Ring:
        pass

    gc.disable()
    try:
        ring = Ring()
        ring.itself = ring
        gone = weakref.ref(ring)
        del ring
        assert gone() is not None
        reclaim()
        assert gone() is None
    finally:
        gc.enable()
