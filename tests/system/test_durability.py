"""What was acknowledged is there after `kill -9`, whole, and nothing is there by halves."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
import trio

from uait.calls.transport import TrioTransport

pytestmark = pytest.mark.system

ROUNDS = 10

WRITER = """
import os, sys
from pathlib import Path
import trio
from uait.storage import open_database

SCHEMA = ["CREATE TABLE pair (number INTEGER, half INTEGER, text TEXT, PRIMARY KEY (number, half))"]

def both(number):
    def write(connection):
        for half in (1, 2):
            connection.execute("INSERT INTO pair VALUES (?, ?, ?)", (number, half, "x" * (number * 37 % 3000)))
    return write

async def main():
    path, first = Path(sys.argv[1]), int(sys.argv[2])
    async with open_database(path, SCHEMA) as database, trio.open_nursery() as nursery:
        async def write(number):
            while True:
                await database.write(both(number))
                os.write(1, b"%d\\n" % number)
                number += 8
        for offset in range(8):
            nursery.start_soon(write, first + offset)

trio.run(main)
"""


async def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "test.sqlite3"
    dice = random.Random(20261122)
    acknowledged: set[int] = set()
    first = 0
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", WRITER, str(path), str(first)]
        with trio.fail_after(60):
            lines = await written_until_killed(command, after=dice.uniform(0, 0.3))
        acknowledged |= {int(line) for line in lines.split(b"\n")[:-1]}
        assert len(acknowledged) > 0
        first += 1_000_000
        found = await trio.to_thread.run_sync(pairs, path)
        assert acknowledged <= found


async def written_until_killed(command: list[str], *, after: float) -> bytes:
    """What a process says until it is killed, so many seconds after it said the first word."""
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = bytearray()

    async def listen() -> None:
        assert process.stdout is not None
        async for chunk in process.stdout:
            said.extend(chunk)

    try:
        said += await process.stdout.receive_some(65536)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.sleep(after)
            process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    assert process.returncode == -signal.SIGKILL
    return bytes(said)


def pairs(path: Path) -> set[int]:
    """The numbers that are stored; every one must be there with both halves. Opening the file recovers it, as the next start does."""
    connection = apsw.Connection(str(path))
    try:
        assert connection.pragma("integrity_check") == "ok"
        rows = connection.execute("SELECT number, count(*) FROM pair GROUP BY number").fetchall()
        assert {count for _, count in rows} <= {2}
        return {int(str(number)) for number, _ in rows}
    finally:
        connection.close()


async def test_every_acknowledged_memory_survives_kill_9(start: Any, http: Any) -> None:
    dice = random.Random(20261122)
    acknowledged: dict[str, str] = {}

    async def remember(client: httpx.AsyncClient, url: str, name: str) -> None:
        for number in range(10_000):
            content = f"{name} number {number}"
            try:
                answer = await client.post(url, json={"content": content})
            except httpx.HTTPError:
                return
            assert answer.status_code == 201
            acknowledged[answer.json()["id"]] = content

    for attempt in range(3):
        before = len(acknowledged)
        async with (
            start("--only", "memory", wait=("memory",)) as process,
            # httpx's own transport leaves generators behind that complain when the server dies under them.
            http(transport=TrioTransport()) as client,
            trio.open_nursery() as nursery,
        ):
            for task in range(8):
                nursery.start_soon(remember, client, process.url("memory", "/memory"), f"round{attempt} task{task}")
            with trio.fail_after(30):
                while len(acknowledged) < before + 20:
                    await trio.sleep(0.01)
            await trio.sleep(dice.uniform(0, 0.3))
            process.signal(signal.SIGKILL)
            await process.wait(10)
    async with start("--only", "memory", wait=("memory",)) as process, http() as client:
        stored, cursor = {}, {}
        while cursor is not None:
            page = (await client.get(process.url("memory", "/memory"), params={"limit": "200", **cursor})).json()
            stored |= {memory["id"]: memory["content"] for memory in page["memories"]}
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
        assert acknowledged.items() <= stored.items()
        # And the index knows each of them.
        for content in dice.sample(sorted(acknowledged.values()), 20):
            found = (await client.get(process.url("memory", "/memory"), params={"query": content, "limit": "5"})).json()
            assert content in [memory["content"] for memory in found["memories"]]
