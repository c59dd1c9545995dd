"""What a connection held is free when it ends, without waiting for the garbage collector."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from echo import Echo
from serving import Running, Serve
from wire import TEXT, close_frame, frame

from uait.server import NativeConnections, Speak


async def use(running: Running, kind: str) -> None:
    async with running.dial() as wire:
        if kind == "http":
            for _ in range(3):
                assert (await wire.ask()).status == 200
        else:
            await wire.open_websocket()
            await wire.send(frame(TEXT, b"x"))
            await wire.frame()
            await wire.send(close_frame())
            await wire.close_code()
    await running.settled()


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_no_ring_of_objects_is_left(
    serve: Serve, speak: Speak, echo: Echo, kind: str, rings: Callable[..., set[str]]
) -> None:
    # What hypercorn's own classes leave behind is not ours to break.
    watched = ("uait", "wsproto") if speak is NativeConnections else ("uait",)
    async with serve(echo) as running:
        await use(running, kind)
        rings()
        await use(running, kind)
        left = rings(*watched)
    assert left == set()
