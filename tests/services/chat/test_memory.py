"""What an answer held is free when it has been given, without waiting for the garbage collector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from wire import dial, request

import uait


async def ask(port: int, stream: bool) -> None:
    body = json.dumps({"message": "Hello", "stream": stream}).encode()
    async with dial(port) as wire:
        await wire.send(request("/chat", "Content-Type: application/json", method="POST", body=body))
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_no_ring_of_objects_is_left(stream: bool, tmp_path: Path, rings: Callable[..., set[str]]) -> None:
    settings = uait.Settings(data_dir=tmp_path, only=("chat",), sections={"chat": {"port": 0}})
    async with uait.open_host(settings) as host:
        port = int(host.addresses("chat")[0].rpartition(":")[2])
        await ask(port, stream)
        rings()
        await ask(port, stream)
        await ask(port, stream)  # the one before has ended by then
        left = rings("uait")
    assert left == set()
