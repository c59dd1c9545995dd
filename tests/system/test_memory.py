"""Memory under kill -9, and what `uait doctor` says afterwards."""

from __future__ import annotations

import random
import signal
import sys
from typing import Any

import apsw
import httpx
import pytest
import trio

from uait.calls.transport import TrioTransport
from uait.services.memory.check import check_data

pytestmark = pytest.mark.system


async def test_what_was_acknowledged_survives_and_index_and_rows_agree(start: Any, http: Any) -> None:
    dice = random.Random(20261126)
    known: set[str] = set()
    gone: set[str] = set()

    async def change(client: httpx.AsyncClient, url: str, name: str) -> None:
        for number in range(1000):
            try:
                new = [{"content": f"{name} note {number} {part}"} for part in range(50)]
                answer = await client.post(f"{url}/batch", json={"memories": new})
                ids = [each["id"] for each in answer.json()["results"]]
                known.update(ids)
                patched = await client.patch(f"{url}/{ids[1]}", json={"content": f"{name} changed {number}"})
                assert patched.status_code == 200
                known.discard(ids[0])
                if (await client.delete(f"{url}/{ids[0]}")).status_code == 204:
                    gone.add(ids[0])
            except httpx.HTTPError:
                return

    for attempt in range(3):
        before = len(known)
        async with (
            start("--only", "memory", wait=("memory",)) as process,
            http(transport=TrioTransport()) as client,
            trio.open_nursery() as nursery,
        ):
            for task in range(4):
                nursery.start_soon(change, client, process.url("memory", "/memory"), f"round{attempt} task{task}")
            with trio.fail_after(60):
                while len(known) < before + 200:
                    await trio.sleep(0.01)
            await trio.sleep(dice.uniform(0, 0.3))
            process.signal(signal.SIGKILL)
            await process.wait(10)
            directory = process.data_dir
        assert await trio.to_thread.run_sync(check_data, directory) == []
    async with start("--only", "memory", wait=("memory",)) as process, http() as client:
        lines = (await client.get(process.url("memory", "/memory/export"))).text.splitlines()
        stored = {line.split('"id":"', 1)[1].split('"', 1)[0] for line in lines[1:]}
        assert known <= stored
        assert not gone & stored


@pytest.mark.shared
async def test_doctor_tells_of_an_index_that_disagrees(start: Any, http: Any) -> None:
    async with start("--only", "memory", wait=("memory",)) as process, http() as client:
        await client.post(process.url("memory", "/memory"), json={"content": "one two"})
        directory = process.data_dir
    command = [sys.executable, "-m", "uait", "doctor", "memory", "--data-dir", str(directory)]
    done = await trio.run_process(command, capture_stdout=True, check=False)
    assert b"service memory  ok" in done.stdout
    connection = apsw.Connection(str(directory / "memory.sqlite3"))
    connection.execute("UPDATE memory_words SET words = 'three'")
    connection.close()
    done = await trio.run_process(command, capture_stdout=True, check=False)
    assert b"the index of words disagrees with the memories" in done.stdout
    assert done.returncode == 1


@pytest.mark.shared
@pytest.mark.parametrize("way", ["/api/v1/memory", "/api/v1/memory/batch", "/api/v1/memory/import"])
async def test_what_is_told_after_a_chat_reaches_the_next_one(start: Any, http: Any, way: str) -> None:
    bodies: dict[str, Any] = {
        "/api/v1/memory": {"json": {"content": "My cat is called Mossy"}},
        "/api/v1/memory/batch": {"json": {"memories": [{"content": "My cat is called Mossy"}]}},
        "/api/v1/memory/import": {"content": b'{"content": "My cat is called Mossy"}\n'},
    }
    question = {"message": "What is my cat called?", "model": "offline"}
    async with start() as process, http(transport=TrioTransport()) as client:
        url = process.url("gateway", "")
        for _ in range(2):
            answer = await client.post(f"{url}/api/v1/chat", json=question)
            assert "Mossy" not in answer.json()["response"]
        told = await client.post(url + way, **bodies[way])
        assert told.status_code < 300, told.text
        answer = await client.post(f"{url}/api/v1/chat", json=question)
        assert "Mossy" in answer.json()["response"]
