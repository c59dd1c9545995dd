from __future__ import annotations

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from uait.storage import format_time, new_id, utc_now
from uait.storage.ids import random8


def test_ids_are_version_7_and_sort_by_time():
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)


def test_times_have_one_width_so_that_texts_sort_as_times_do():
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 12, 31, tzinfo=UTC),
        datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 11, 22, tzinfo=UTC),
        datetime(2026, 11, 22, 0, 0, 0, 1),
    ]
    texts = [format_time(moment) for moment in moments]
    assert texts == sorted(texts)
    assert len({len(text) for text in texts}) == 1
    assert texts[2] == "2026-11-21T23:00:00.000000Z"
    assert utc_now().endswith("Z")


FORKS = """
import os
from uait.storage.ids import random8
random8()
child = os.fork()
print(random8().hex() + "\\n", end="", flush=True)
if child:
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only some systems fork")
def test_a_forked_process_draws_other_bytes() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=True)
    one, other = done.stdout.split()
    assert one != other


def test_no_two_threads_draw_the_same_bytes() -> None:
    with ThreadPoolExecutor(4) as pool:
        drawn = [one for many in pool.map(lambda _: [random8() for _ in range(2000)], range(4)) for one in many]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("make", ["utc_now", "new_id"])
def test_nothing_stays_in_memory(make):
    """In a process of its own, for what stays is soon as much as can."""
    program = f"""
import sys
from uait.storage import {make}
def blocks():
    for _ in range(2000):
        {make}()
    return sys.getallocatedblocks()
before = sys.getallocatedblocks()
print(blocks() - before)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 50
