"""The memory service without a socket, asked by several users."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from uait.services.memory.service import memory


class Memories:
    """The running service; `user` asks unless another is named."""

    def __init__(self, client: httpx.AsyncClient, user: str = "ann") -> None:
        self.client = client
        self.user = user

    def of(self, user: str) -> Memories:
        return Memories(self.client, user)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.client.request(method, path, headers={"X-User-ID": self.user}, **options)

    async def add(self, content: str, **more: Any) -> dict[str, Any]:
        """Store something that nothing else is like."""
        response = await self.ask("POST", "/memory", json={"content": content, **more})
        assert response.status_code == 201, response.text
        stored: dict[str, Any] = response.json()
        assert (stored.pop("deduped"), stored.pop("similar")) == (False, [])
        return stored

    async def store(self, content: str, **more: Any) -> dict[str, Any]:
        """Store something; the whole answer."""
        response = await self.ask("POST", "/memory", json={"content": content, **more})
        assert response.status_code in (200, 201), response.text
        stored: dict[str, Any] = response.json()
        return stored

    async def list(self, query: str | None = None, **more: Any) -> dict[str, Any]:
        params = {"query": query} if query is not None else {}
        response = await self.ask("GET", "/memory", params={**params, **more})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def find(self, query: str | None = None, **more: Any) -> list[str]:
        """The contents of what a query finds."""
        return [memory["content"] for memory in (await self.list(query, **more))["memories"]]


@pytest.fixture
async def memories(run_service: Any) -> AsyncIterator[Memories]:
    async with run_service(memory) as client:
        yield Memories(client)


@pytest.fixture
def memories_of() -> type[Memories]:
    """For tests that start the service themselves."""
    return Memories
