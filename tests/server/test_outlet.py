"""Prepared frames, pushed to many WebSockets without waiting: what the native server offers beyond ASGI."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from serving import KINDS, Running, Serve
from wire import BINARY, PING, TEXT, Wire, close_frame, frame

from uait.server import Speak, binary_frame, broadcast, text_frame


@pytest.fixture
def speak() -> Speak:
    return KINDS["native"]


class Hall:
    """Accepts WebSockets and keeps their outlets."""

    def __init__(self) -> None:
        self.outlets: list[Any] = []
        self.early: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        self.early = scope["uait.outlet"].push(text_frame("too early"))
        await send({"type": "websocket.accept"})
        self.outlets.append(scope["uait.outlet"])
        if scope["path"] == "/talk":
            await send({"type": "websocket.send", "text": "first"})
            scope["uait.outlet"].push(text_frame("second"))
            await send({"type": "websocket.send", "text": "third"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


async def joined(running: Running, stack: AsyncExitStack, path: str = "/", **options: Any) -> Wire:
    wire: Wire = await stack.enter_async_context(running.dial(**options))
    await wire.open_websocket(path)
    return wire


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
async def test_a_prepared_frame_reaches_each_client_as_it_is(serve: Serve, size: int) -> None:
    hall = Hall()
    async with serve(hall) as running, AsyncExitStack() as stack:
        wires = [await joined(running, stack) for _ in range(5)]
        while len(hall.outlets) < 5:
            await trio.sleep(0.001)
        broadcast(hall.outlets, text_frame("x" * size))
        broadcast(hall.outlets, binary_frame(b"y" * size))
        for wire in wires:
            assert await wire.frame() == (TEXT, b"x" * size)
            assert await wire.frame() == (BINARY, b"y" * size)


async def test_it_keeps_its_place_among_what_the_app_sends(serve: Serve) -> None:
    async with serve(Hall()) as running, AsyncExitStack() as stack:
        wire = await joined(running, stack, "/talk")
        assert [(await wire.frame())[1] for _ in range(3)] == [b"first", b"second", b"third"]


async def test_a_client_who_agreed_on_compression_takes_it_too(serve: Serve) -> None:
    hall = Hall()
    async with serve(hall) as running, running.dial() as wire:
        await wire.open_websocket("/", "Sec-WebSocket-Extensions: permessage-deflate")
        while not hall.outlets:
            await trio.sleep(0.001)
        broadcast(hall.outlets, text_frame("plain"))
        assert await wire.exactly(2) == b"\x81\x05"
        assert await wire.exactly(5) == b"plain"


async def test_who_is_behind_is_named_and_gets_everything_in_the_end(serve: Serve) -> None:
    hall = Hall()
    async with serve(hall) as running, AsyncExitStack() as stack:
        slow = await joined(running, stack, receive_buffer=4096)
        quick = await joined(running, stack)
        while len(hall.outlets) < 2:
            await trio.sleep(0.001)
        frame, count, behind = binary_frame(b"z" * 100_000), 0, []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                while await quick.stream.receive_some():
                    pass

            while not behind and count < 200:
                behind = [outlet for outlet in broadcast(hall.outlets, frame) if outlet is hall.outlets[0]]
                count += 1
                await trio.sleep(0.001)
            assert behind
            assert behind[0].queued > 0
            for _ in range(count):
                assert await slow.frame() == (BINARY, b"z" * 100_000)
            nursery.cancel_scope.cancel(reason="the slow one has everything")
        while hall.outlets[0].queued:
            await trio.sleep(0.001)


async def test_who_is_behind_without_bounds_is_dropped_and_nobody_else(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uait.server.frames.OVERFLOW", 1_000_000)
    hall = Hall()
    async with serve(hall) as running, AsyncExitStack() as stack:
        slow = await joined(running, stack, receive_buffer=4096)
        while not hall.outlets:
            await trio.sleep(0.001)
        frame = binary_frame(b"z" * 100_000)
        for _ in range(300):
            assert hall.outlets[0].push(frame) <= 1_000_000
        assert not hall.outlets[0].open
        await running.settled()
        with pytest.raises(EOFError):
            while True:
                await slow.frame()
        assert running.server.statistics().failed == 0


async def test_before_the_handshake_and_after_the_end_it_does_nothing(serve: Serve) -> None:
    hall = Hall()
    async with serve(hall) as running, running.dial() as wire:
        await wire.open_websocket()
        assert hall.early == 0
        await wire.send(close_frame())
        assert await wire.close_code() == 1000
        await running.settled()
        assert not hall.outlets[0].open
        assert hall.outlets[0].push(text_frame("too late")) == 0
        assert broadcast(hall.outlets, text_frame("too late")) == []


async def test_pongs_that_a_client_does_not_read_are_bounded(serve: Serve) -> None:
    hall = Hall()
    async with serve(hall) as running, AsyncExitStack() as stack:
        wire = await joined(running, stack, receive_buffer=4096)
        with trio.move_on_after(1.5):
            while True:
                await wire.send(frame(PING, b"x" * 125) * 500)
        assert 0 < hall.outlets[0].queued < 100_000
