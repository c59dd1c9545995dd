"""An hour of mixed load on the real process: in the end it holds what it held at the start, and has logged nothing that a client did not cause.

UAIT_SOAK_MINUTES sets the length (60). A tenth of it, at least half a minute, is for warming up: what is allocated once and for all, such as databases' caches, is there when counting begins.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from soak.load import visit_once

pytestmark = pytest.mark.soak

MINUTES = float(os.environ.get("UAIT_SOAK_MINUTES", "60"))
WORKERS = 8
PAUSE = 0.25
"""Seconds between two visits of a worker, on the average: about 25 visits a second in all, so that it can run beside other work."""

SETTLE = 150.0
"""Seconds in which everything that waits for its own end, such as idle connections, must have ended."""

MORE_MEMORY = 12.0
"""MiB that may be resident beyond the start: the allocator's fragments, and caches that are bounded by themselves but not full when counting begins."""

MORE_FILES = 2
EVERY = 60.0
"""Seconds between two lines about how it goes."""


def resident(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@asynccontextmanager
async def load(ports: Mapping[str, int], counts: Counter[str], seed: int) -> AsyncIterator[None]:
    """Visits all the time while the block runs; those that are under way at its end are cut off."""

    async def work(dice: random.Random) -> None:
        while True:
            await visit_once(ports, dice, counts)
            await trio.sleep(dice.random() * 2 * PAUSE)

    async with trio.open_nursery() as nursery:
        for i in range(WORKERS):
            nursery.start_soon(work, random.Random(seed + i))
        yield
        nursery.cancel_scope.cancel(reason="the load is over")


async def settled(process: Any, at_most: int | None) -> tuple[int, float]:
    """Wait until what ends by itself has ended. Returns open files and MiB."""
    deadline = trio.current_time() + SETTLE
    files = [process.open_files()]
    while trio.current_time() < deadline:
        await trio.sleep(5)
        files.append(process.open_files())
        if files[-1] <= at_most if at_most is not None else files[-8:-1] == files[-1:] * 7:
            break
    return files[-1], resident(process.pid)


async def test_an_hour_leaves_nothing_behind(start: Any) -> None:
    counts: Counter[str] = Counter()
    async with start("--log-level", "warning") as process:
        async with load(process.ports, counts, seed=1000):
            await trio.sleep(max(30.0, MINUTES * 6))
        files, memory = await settled(process, None)
        print(f"\nwarm: {files} open files, {memory:.1f} MiB", flush=True)
        counts.clear()
        began = time.monotonic()
        async with load(process.ports, counts, seed=0):
            while (spent := time.monotonic() - began) < MINUTES * 60:
                await trio.sleep(min(EVERY, MINUTES * 60 - spent))
                print(f"{(time.monotonic() - began) / 60:.1f} min: {counts.total()} visits, {process.open_files()} files, {resident(process.pid):.1f} MiB", flush=True)  # fmt: skip
                assert process.popen.poll() is None, process.output()[-4000:]
        files_after, memory_after = await settled(process, files + MORE_FILES)
        print(f"after: {files_after} open files, {memory_after:.1f} MiB; {dict(counts.most_common())}", flush=True)
        output = process.output()
    print(f"logged:\n{output[-3000:]}")
    assert files_after <= files + MORE_FILES
    assert memory_after <= memory + MORE_MEMORY
    assert not [what for what in counts if what.startswith("unexpected")], counts
    for mark in ("Traceback", "ERROR", "crashed", "failed:"):
        assert mark not in output, output[-4000:]
