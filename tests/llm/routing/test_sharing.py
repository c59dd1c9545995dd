"""Identical questions at temperature 0 share one answer, which ends when the last who waits has left."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from scripted import Script, Scripted, leave

from uait.llm import upstream

SHARED = {"single_flight": True}


async def test_many_who_ask_the_same_get_one_answer(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(first=1, between=1))
    texts: list[str] = []
    async with rig(a, route=SHARED) as r:

        async def one(after: float) -> None:
            await trio.sleep(after)
            texts.append((await r.ask(temperature=0.0))[0])

        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(one, n * 0.03)
        assert texts == ["Hello there"] * 50
        assert len(a.asked) == 1
        assert [requests for _, _, _, requests, _ in r.used] == [1]
        await r.ask(temperature=0.0)
        assert len(a.asked) == 2  # it is no cache


@pytest.mark.parametrize("difference", [{"text": "else"}, {"user": "bob"}, {"temperature": 0.1}, {"temperature": None}])
async def test_what_differs_is_asked_by_itself(rig: Any, autojump_clock: Any, difference: dict[str, Any]) -> None:
    a = Scripted("a", Script(first=1))
    async with rig(a, route=SHARED) as r, trio.open_nursery() as nursery:
        for more in ({}, difference):
            nursery.start_soon(lambda more=more: r.ask(**{"temperature": 0.0, **more}))
        await trio.sleep(0.5)
        assert len(a.asked) == 2


async def test_without_the_wish_everybody_is_asked_for(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(first=1))
    async with rig(a) as r, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: r.ask(temperature=0.0))
        await trio.sleep(0.5)
        assert len(a.asked) == 2


async def test_it_ends_when_the_last_one_leaves_and_not_before(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(first=100))
    async with rig(a, route=SHARED) as r, trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(lambda n=n: leave(1 + n, r.ask, temperature=0.0))
        await trio.sleep(49.5)
        assert (r.open, len(a.asked)) == (1, 1)
        await trio.sleep(1)
        assert r.open == 0
        assert [requests for _, _, _, requests, _ in r.used] == [1]


async def test_who_comes_after_the_last_has_left_gets_an_answer_of_their_own(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(first=100), Script())
    async with rig(a, route=SHARED) as r:
        await leave(1, r.ask, temperature=0.0)
        assert (await r.ask(temperature=0.0))[0] == "Hello there"


async def test_a_failure_is_everybodys(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(first=1, fail=upstream.from_status("a", 400, b"", {})))
    async with rig(a, route=SHARED) as r, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: r.fails(temperature=0.0))
    assert len(a.asked) == 1
