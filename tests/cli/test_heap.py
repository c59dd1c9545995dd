"""A process gives free memory back, at its start and then every few minutes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import trio

from uait.cli import running

PINNED = """
from uait.heap import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

large, small = [], []
for _ in range(2000):  # what is small keeps the C library from giving back what is large
    large.append(bytearray(30_000))
    small.append(bytearray(1_000))
large.clear()
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked for it")
def test_what_is_free_between_what_is_not_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", PINNED], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 30_000_000


async def test_it_is_done_again_and_again(monkeypatch: pytest.MonkeyPatch, autojump_clock: Any) -> None:
    times: list[float] = []
    began = trio.current_time()
    monkeypatch.setattr(running, "give_back", lambda: times.append(trio.current_time() - began))
    with trio.move_on_after(running.GIVE_BACK * 2 + 1):
        await running._give_back_now_and_then()
    assert times == [0, running.GIVE_BACK, running.GIVE_BACK * 2]
