"""Whatever writes meet in a group: what was acknowledged is stored once, what failed is not stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from uait.storage import open_database

KINDS = ("plain", "plain", "raises", "duplicate", "orphan", "commits", "rolls back", "cancelled")


def make(kind, number):
    def write(connection):
        connection.execute("INSERT INTO item(id, text) VALUES (?, ?)", (number, f"{kind} {number}"))
        match kind:
            case "raises":
                raise LookupError
            case "duplicate":
                connection.execute("INSERT INTO item(text) VALUES (?)", (f"{kind} {number}",))
            case "orphan":
                connection.execute("INSERT INTO part(item) VALUES (?)", (-number,))
            case "commits":
                connection.execute("COMMIT")
            case "rolls back":
                connection.execute("ROLLBACK")
        return number

    return write


@settings(max_examples=40, deadline=None)
@given(plan=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 6)), min_size=1, max_size=25))
def test_acknowledged_once_failed_never(
    plan: list[tuple[str, int]], schema: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path: Path = tmp_path_factory.mktemp("storage") / "test.sqlite3"
    acknowledged, unknown = set(), set()

    async def one(database, number, kind, delay):
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        with trio.CancelScope() as scope:
            if kind == "cancelled":
                scope.deadline = trio.current_time() + 0.0002 * delay
            try:
                assert await database.write(make(kind, number)) == number
                acknowledged.add(number)
            except Exception:
                assert kind not in ("plain", "cancelled")
        if scope.cancelled_caught:
            unknown.add(number)

    async def main():
        with trio.fail_after(30):
            async with open_database(path, schema) as database:
                async with trio.open_nursery() as nursery:
                    for number, (kind, delay) in enumerate(plan, start=1):
                        nursery.start_soon(one, database, number, kind, delay)
                stored = {row[0] for row in await database.fetch_all("SELECT id FROM item")}
                assert await database.fetch_all("SELECT * FROM part") == []
        assert acknowledged <= stored <= acknowledged | unknown
        assert {number for number, (kind, _) in enumerate(plan, start=1) if kind == "plain"} <= acknowledged

    trio.run(main)
