"""The whole hostile corpus against each of the six ports of one real process: afterwards all six answer, and it is the same process."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hostile.corpus import Case, corpus, play
from wire import dial

pytestmark = pytest.mark.system

TARGETS = {
    "gateway": {"post": "/api/v1/chat", "websocket": "/ws"},
    "orchestrator": {"post": "/orchestrate", "websocket": None},
    "chat": {"post": "/chat", "websocket": "/ws/chat"},
    "memory": {"post": "/memory", "websocket": None},
    "hub": {"post": "/broadcast", "websocket": "/ws"},
    "discovery": {"post": "/register", "websocket": None},
}
AT_ONCE = 12


async def test_every_case_against_every_port(start: Any, http: Any) -> None:
    async with start("--log-level", "warning") as process:

        async def attack(name: str, case: Case, limiter: trio.CapacityLimiter) -> None:
            async with limiter:
                with trio.move_on_after(30):
                    async with dial(process.ports[name]) as wire:
                        await play(case, wire)

        async def attack_all(only: set[str] | None = None) -> None:
            limiter = trio.CapacityLimiter(AT_ONCE)
            async with http() as client:
                for name, target in TARGETS.items():
                    async with trio.open_nursery() as nursery:
                        for case in corpus(**target):
                            if only is None or case.name in only:
                                nursery.start_soon(attack, name, case, limiter)
                        for _ in range(10):  # honest clients are served meanwhile
                            assert (await client.get(process.url(name, "/health/live"))).status_code == 200

        async def settled(limit: int) -> int:
            with trio.move_on_after(20):
                while process.open_files() > limit:
                    await trio.sleep(0.2)
            return process.open_files()

        with trio.fail_after(240):
            # What is opened once and for all, as databases' readers are, is open after a first few cases.
            await attack_all({case.name for case in corpus()[::10]})
            await trio.sleep(1)
            before = process.open_files()
            await attack_all()

        assert await settled(before) <= before + 2
        async with http() as client:
            for name in TARGETS:
                for host in ("127.0.0.1", "[::1]"):
                    answer = await client.get(process.url(name, "/health", host=host))
                    assert answer.json()["status"] == "healthy", answer.text
        assert process.popen.poll() is None
        assert "crashed" not in process.output(), process.output()[-4000:]
        assert "Traceback" not in process.output(), process.output()[-4000:]
