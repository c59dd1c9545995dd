"""A port of this host's own services is no model server's."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from uait.calls.transport import TrioTransport
from uait.kernel.host import open_host
from uait.kernel.service import Context, service
from uait.kernel.status import ServiceStatus, State
from uait.server.asgi import ASGIApp
from uait.services.chat.ports import SETTLE, OwnPorts
from uait.services.chat.service import chat
from uait.settings import Settings


def status(name: str, state: State, *addresses: str) -> ServiceStatus:
    return ServiceStatus(name=name, title=name, state=state, since=0.0, addresses=addresses)


READY = status("a", State.READY, "http://127.0.0.1:8080", "http://[::1]:8080")


class Host:
    """Services that change when a test says so."""

    def __init__(self, *services: ServiceStatus) -> None:
        self.now = services
        self.event = trio.Event()

    def services(self) -> tuple[ServiceStatus, ...]:
        return self.now

    async def changed(self, seen: tuple[ServiceStatus, ...]) -> tuple[ServiceStatus, ...]:
        while self.now == seen:
            await self.event.wait()
        return self.now

    def set(self, *services: ServiceStatus) -> None:
        self.now = services
        self.event.set()
        self.event = trio.Event()


async def test_a_port_stays_a_service_s_own_while_it_is_down() -> None:
    host = Host(READY)
    own = OwnPorts(host.services, host.changed)
    assert await own.has(8080)
    assert not await own.has(8000)
    host.set(status("a", State.BACKOFF))
    assert await own.has(8080)


async def test_a_service_that_starts_is_waited_for(autojump_clock: object) -> None:
    host = Host(status("a", State.STARTING))
    own = OwnPorts(host.services, host.changed)
    async with trio.open_nursery() as nursery:

        async def start_up() -> None:
            await trio.sleep(SETTLE / 2)
            host.set(READY)

        nursery.start_soon(start_up)
        assert await own.has(8080)


async def test_a_service_that_never_starts_is_not_waited_for_long(autojump_clock: object) -> None:
    host = Host(status("a", State.PENDING))
    began = trio.current_time()
    assert not await OwnPorts(host.services, host.changed).has(8080)
    assert trio.current_time() - began == pytest.approx(SETTLE)


async def test_chat_does_not_take_a_service_beside_it_for_a_model_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    @service(name="beside")
    async def beside(ctx: Context) -> ASGIApp:
        app = ctx.app()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            asked.append("models")
            return {"object": "list", "data": [{"id": "m"}]}

        return app

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr("uait.llm.find.LOCAL_PORTS", {"llamacpp": port})
    settings = Settings(
        data_dir=tmp_path,
        host="127.0.0.1",
        only=("chat", "beside"),
        sections={"chat": {"port": 0}, "beside": {"port": port}},
        environ={},
    )
    async with (
        open_host(settings, [chat, beside]) as host,
        httpx.AsyncClient(base_url=host.addresses("chat")[0], transport=TrioTransport()) as client,
    ):
        listed = (await client.get("/models")).json()
        assert [each["id"] for each in listed["models"]] == ["offline/retrieval"]
        assert asked == []
