"""What a request or a WebSocket held is free when it ends, without waiting for the garbage collector, through all of a service's layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from wire import TEXT, close_frame, dial, frame

import uait


async def use(port: int, kind: str) -> None:
    async with dial(port) as wire:
        if kind == "http":
            for path in ("/stats", "/nothing"):
                await wire.ask(path)
        else:
            await wire.open_websocket("/ws")
            await wire.send(frame(TEXT, b'{"type": "chat", "content": "x"}'))
            await wire.frame()
            await wire.send(close_frame())
            await wire.close_code()
            assert await wire.rest() == b""


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_no_ring_of_objects_is_left(kind: str, tmp_path: Path, rings: Callable[..., set[str]]) -> None:
    settings = uait.Settings(data_dir=tmp_path, only=("hub",), sections={"hub": {"port": 0}})
    async with uait.open_host(settings) as host:
        port = int(host.addresses("hub")[0].rpartition(":")[2])
        await use(port, kind)
        rings()
        await use(port, kind)
        await use(port, "http")  # the connection before has ended by then
        left = rings("uait")
    assert left == set()
