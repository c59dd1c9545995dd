"""A stop always ends: exit code 0 within the grace period and 2 s, whatever clients do, and they are told."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

pytestmark = pytest.mark.system

PLUGIN = """
import trio
from uait import Event, event_stream, service

@service(port=0)
async def slow(ctx):
    app = ctx.app()

    @app.get("/sleep/<int:seconds>")
    async def sleep(seconds):
        await trio.sleep(seconds)
        return {"slept": seconds}

    async def ticks():
        number = 0
        while True:
            yield Event({"tick": number}, id=str(number))
            number += 1
            await trio.sleep(0.05)

    @app.get("/endless")
    async def endless():
        return event_stream(ticks(), endless=True)

    @app.get("/long")
    async def long():
        return event_stream(ticks())

    @app.get("/big")
    async def big():
        async def chunks():
            while True:
                yield b"x" * 65536
        return chunks(), 200, {"Content-Type": "application/octet-stream"}

    return app
"""


async def raw(port: int, request: str) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(request.encode())
    return stream


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


@pytest.fixture
def started(start: Any, write_plugin: Any) -> Any:
    @asynccontextmanager
    async def opened(grace: float = 2.0) -> AsyncIterator[Any]:
        cwd = write_plugin("slow_plugin", PLUGIN)
        async with start("--service", "slow_plugin:slow", further=("slow",), cwd=cwd, grace=grace) as process:
            yield process

    return opened


async def test_every_kind_of_client_at_once(started: Any, websocket: Any) -> None:
    async with started() as process:
        idle = [await raw(port, get("/health")) for port in process.ports.values() for _ in range(3)]
        silent = [await raw(port, "") for port in process.ports.values()]
        half = [
            await raw(port, "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
            for port in process.ports.values()
        ]
        deaf = []
        for _ in range(3):
            sock = socket.create_connection(("127.0.0.1", process.ports["slow"]))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(get("/big").encode())
            deaf.append(sock)
        streams = [await raw(process.ports["slow"], get(path)) for path in ("/endless", "/long")]
        for stream in (*idle, *streams):
            assert await stream.receive_some(100)
        async with (
            websocket(process.url("hub", "/ws", scheme="ws")) as direct,
            websocket(process.url("gateway", "/ws", scheme="ws")) as proxied,
        ):
            for client in (direct, proxied):
                assert "Welcome" in await client.get_message()
            await trio.sleep(0.3)
            begun = time.monotonic()
            process.signal(signal.SIGTERM)
            for client in (direct, proxied):
                with trio.fail_after(5), pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await client.get_message()
                assert closed.value.reason.code == 1012
            endings = [await everything(stream) for stream in streams]
            assert await process.wait(4.5) == 0, process.output()
            assert time.monotonic() - begun < 2 + 2 + 0.3
        for ending in endings:
            assert b"event: error" in ending[-600:], ending[-600:]
            assert ending.endswith(b"0\r\n\r\n")
        for stream in (*idle, *silent, *half, *streams):
            await stream.aclose()
        for sock in deaf:
            sock.close()


async def test_a_request_under_way_is_finished(started: Any) -> None:
    async with started(grace=5) as process:
        stream = await raw(process.ports["slow"], get("/sleep/1"))
        await trio.sleep(0.3)
        begun = time.monotonic()
        process.signal()
        answer = await everything(stream)
        assert b'"slept":1' in answer.replace(b" ", b"")
        assert await process.wait(5) == 0
        assert time.monotonic() - begun < 3
        await stream.aclose()


async def test_a_request_that_takes_longer_is_told(started: Any) -> None:
    async with started(grace=1) as process:
        stream = await raw(process.ports["slow"], get("/sleep/60"))
        await trio.sleep(0.3)
        process.signal()
        answer = await everything(stream)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'"UNAVAILABLE"' in answer
        assert await process.wait(4) == 0
        await stream.aclose()


async def test_without_clients_it_stops_at_once(started: Any) -> None:
    async with started(grace=30) as process:
        begun = time.monotonic()
        process.signal(signal.SIGINT)
        assert await process.wait(10) == 0
        assert time.monotonic() - begun < 3


async def test_a_second_signal_cancels_at_once(started: Any) -> None:
    async with started(grace=60) as process:
        stream = await raw(process.ports["slow"], get("/sleep/60"))
        await trio.sleep(0.3)
        process.signal()
        await trio.sleep(0.5)
        assert process.popen.poll() is None
        process.signal()
        assert await process.wait(4) == 0
        await stream.aclose()


async def test_new_connections_are_refused_while_it_drains(started: Any) -> None:
    async with started(grace=3) as process:
        stream = await raw(process.ports["slow"], get("/sleep/60"))
        await trio.sleep(0.3)
        process.signal()
        await trio.sleep(0.5)
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", process.ports["slow"])
        assert await process.wait(6) == 0
        await stream.aclose()
