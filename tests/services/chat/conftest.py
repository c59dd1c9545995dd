"""The chat service on a real socket, with a mock model server behind it, and clients that can leave when they like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from mock_upstream import Upstream, open_upstream

from uait.calls.transport import TrioTransport
from uait.services.chat.service import chat


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as server:
        yield server


class Chat:
    """The running service.

    Attributes:
        url: where it listens.
        client: asks it, as the user `ann` unless told otherwise.
        upstream: the model server behind it; its models are `mock/SCENARIO`.
    """

    def __init__(self, url: str, client: httpx.AsyncClient, upstream: Upstream) -> None:
        self.url = url
        self.client = client
        self.upstream = upstream

    async def say(self, message: str = "Hello", model: str = "mock/tokens", **more: Any) -> dict[str, Any]:
        response = await self.client.post("/chat", json={"message": message, "model": model, **more})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def messages(self, conversation_id: str) -> list[dict[str, Any]]:
        response = await self.client.get(f"/conversations/{conversation_id}")
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["messages"]
        return found

    async def asked(self, count: int = 1) -> None:
        """Wait until the model server has got so many questions."""
        await self.upstream.until(lambda server: sum(seen.method == "POST" for seen in server.requests) >= count)

    async def until_answered(self, conversation_id: str, count: int = 2) -> list[dict[str, Any]]:
        """Wait until a conversation has so many messages."""
        with trio.fail_after(10):
            while len(found := await self.messages(conversation_id)) < count:
                await trio.sleep(0.01)
        return found

    @asynccontextmanager
    async def raw(
        self, path: str, body: Any = None, method: str = "POST", user: str = "ann", **headers: str
    ) -> AsyncIterator[Raw]:
        """A request on a socket of its own, closed at the end of the block whatever has come by then."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        content = b"" if body is None else json.dumps(body).encode()
        lines = {"host": parts.netloc, "content-length": str(len(content)), "x-user-id": user, "connection": "close"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        stream = await trio.open_tcp_stream(parts.hostname, parts.port)
        async with stream:
            await stream.send_all(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
            yield Raw(stream)


class Raw:
    """What comes back, as it comes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.data = b""

    async def until(self, *marks: bytes) -> bytes:
        """Read on until all marks have come."""
        with trio.fail_after(10):
            while not all(mark in self.data for mark in marks):
                more = await self.stream.receive_some(65536)
                assert more, f"the answer ended without {marks}: {self.data!r}"
                self.data += more
        return self.data

    async def rest(self) -> bytes:
        """Read to the end."""
        with trio.fail_after(10):
            async for more in self.stream:
                self.data += more
        return self.data


@pytest.fixture
def run_chat(run_service_live: Any, upstream: Upstream) -> Callable[..., AbstractAsyncContextManager[Chat]]:
    @asynccontextmanager
    async def run(fakes: dict[str, Any] | None = None, **settings: Any) -> AsyncIterator[Chat]:
        section = {"local": False, "providers": {"mock": {"base_url": upstream.url}}, **settings}
        headers = {"X-User-ID": "ann"}
        async with (
            run_service_live(chat, settings=section, **(fakes or {})) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=20, transport=TrioTransport()) as client,
        ):
            yield Chat(url, client, upstream)

    return run


@pytest.fixture
async def running(run_chat: Callable[..., AbstractAsyncContextManager[Chat]]) -> AsyncIterator[Chat]:
    async with run_chat() as chat:
        yield chat


def read_events(data: str) -> list[tuple[str, Any]]:
    """The (id, data) of every event."""
    events = []
    for block in data.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            text = fields["data"]
            events.append((fields.get("id", ""), text if text == "[DONE]" else json.loads(text)))
    return events


@pytest.fixture
def events() -> Callable[[str], list[tuple[str, Any]]]:
    return read_events
