"""The cases of WIRE 8.8, through the gateway and the chat service to a mock model server: where each one is.

| cases | file |
| --- | --- |
| 1 to 23, 25: what a model server does wrong in one answer | `test_answers.py` |
| 24, 26 to 31: clients | `test_clients.py` |
| 32 to 36: several attempts and connections | `test_attempts.py` |
| 37 to 39: lists of models | `test_lists.py` |
| 40: a stop during each of these | `test_stop.py`, and by SIGTERM `tests/system/test_cases.py` |

Every test ends with the same promise, which the fixture `run` checks: no question is under way, what is open is in a pool, and after the stop nothing is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import faces
import httpx
import pytest
import trio
from mock_upstream import KINDS, Upstream
from wire import Wire, dial, request

from uait.calls.transport import TrioTransport
from uait.llm.catalog import Entry
from uait.llm.find import find_providers
from uait.services.chat.service import chat
from uait.services.gateway.service import gateway
from uait.testing.running import open_service

PATIENCE = 60.0
"""Seconds after which a test has failed instead of hanging; none of them measures."""

ONE_ATTEMPT = {"attempts": 1, "breaker_failures": 10_000}


class Front:
    """A running gateway with the chat service behind it.

    Attributes:
        port: the gateway's.
        upstream: the model server. Each face has a provider of each kind to itself, `FACE-KIND`, so that what happens to one says nothing of another.
        entries: the providers.
    """

    def __init__(self, url: str, client: httpx.AsyncClient, upstream: Upstream, entries: list[Entry]) -> None:
        self.port = urlsplit(url).port or 0
        self.client = client
        self.upstream = upstream
        self.entries = entries

    async def ask(self, face: str, model: str, **more: Any) -> faces.Said:
        """Ask, and read the whole answer."""
        response = await self.response(face, model, **more)
        if response.status_code >= 400 and face != "chat":
            # The official SDKs obey it; nobody else knows it.
            assert response.headers["x-should-retry"] == "false", response.text
        return faces.read(face, response.status_code, response.headers, response.content)

    async def response(self, face: str, model: str, **more: Any) -> httpx.Response:
        return await self.client.post(faces.PATHS[face], json=faces.question(face, model, **more))

    @asynccontextmanager
    async def asking(self, face: str, model: str, **more: Any) -> AsyncIterator[Wire]:
        """A question on a connection of its own, which is closed when the block is left, however far the answer has come."""
        async with dial(self.port) as wire:
            body = httpx.Request("POST", "http://x", json=faces.question(face, model, **more)).content
            await wire.send(request(faces.PATHS[face], "Content-Type: application/json", method="POST", body=body))
            yield wire

    def questions(self) -> int:
        """How many the model server has got."""
        return sum(seen.method == "POST" for seen in self.upstream.requests)

    async def asked(self, count: int = 1) -> None:
        """Wait until the model server has got so many questions."""
        await self.upstream.until(lambda _: self.questions() >= count, PATIENCE)

    async def is_quiet(self) -> None:
        """Nobody is being asked any more, and what is open is in a pool."""
        await self.upstream.until(lambda server: server.open_requests == 0, PATIENCE)
        pools = [key._http._transport._pool for entry in self.entries for key in entry.keys if hasattr(key, "_http")]
        with trio.fail_after(PATIENCE):
            while any(pool._places for pool in pools):
                await trio.sleep(0.005)
        idle = sum(len(connections) for pool in pools for connections in pool._idle.values())
        await self.upstream.until(lambda server: server.connections <= idle, PATIENCE)


Run = Callable[..., AbstractAsyncContextManager[Front]]


@pytest.fixture
def run(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Run:
    entries: list[Entry] = []

    def find(*args: Any, **options: Any) -> list[Entry]:
        entries[:] = find_providers(*args, **options)
        return entries

    monkeypatch.setattr("uait.services.chat.service.find_providers", find)

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[Front]:
        providers = {f"{face}-{kind}": upstream.provider(kind) for face in faces.FACES for kind in KINDS}
        section = {"local": False, "providers": providers, "memory": False, "routing": ONE_ATTEMPT, **settings}
        async with open_service(chat, data_dir=tmp_path, settings=section, fakes={"gateway": gateway}) as host:
            url = host.addresses("gateway")[0]
            async with httpx.AsyncClient(base_url=url, timeout=120, transport=TrioTransport()) as client:
                front = Front(url, client, upstream, entries)
                yield front
                if upstream.models != "hang":
                    await front.is_quiet()
        await upstream.until(lambda server: server.open_requests == 0 and server.connections == 0, PATIENCE)

    return run
