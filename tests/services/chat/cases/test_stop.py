"""Case 40: the services stop in the middle of it, as the signal makes them; the signal itself is sent in `tests/system/test_cases.py`."""

from __future__ import annotations

from typing import Any

import faces
import pytest
import trio
from mock_upstream import KINDS, Upstream

SCENARIOS = ("silent", "silent-after-headers", "stall", "pings?seconds=60")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("face", faces.FACES)
async def test_case_40_a_stop_in_the_middle_of_it(run: Any, upstream: Upstream, face: str, stream: bool) -> None:
    """Who has been told a status gets the end that the dialect has for errors; everybody else an error."""
    ends: list[faces.Said] = []

    async def ask(front: Any, model: str) -> None:
        async with front.asking(face, model, stream=stream) as wire:
            answer = await wire.answer()
            ends.append(faces.read(face, answer.status, answer.headers, answer.body))

    async with trio.open_nursery() as nursery, run() as front:
        front.is_quiet = trio.lowlevel.checkpoint  # it is not, and shall be after the stop
        for kind in KINDS:
            for scenario in SCENARIOS:
                nursery.start_soon(ask, front, f"{face}-{kind}/{scenario}")
        await front.asked(len(KINDS) * len(SCENARIOS))
        await trio.sleep(0.05)
    assert len(ends) == len(KINDS) * len(SCENARIOS)
    for said in ends:
        assert said.error, said
        assert said.ended, said
        assert not said.after, said
