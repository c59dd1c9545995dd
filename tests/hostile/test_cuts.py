"""An end at every byte: of requests, and of a WebSocket's conversation."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import trio
from echo import Echo
from serving import KINDS, Running, back_at, resources, serving
from wire import BINARY, CONTINUATION, PING, TEXT, Wire, close_frame, frame, handshake, request

AT_ONCE = 50

CONVERSATIONS = {
    "a request": request("/scope?a=b", "X: y"),
    "a length": request("/echo", "Expect: 100-continue", method="POST", body=b"abcdefgh"),
    "chunks": request("/mirror", "Transfer-Encoding: chunked", method="POST")
    + b"3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n",
    "pipelined requests": request("/slow") + request("/echo", method="POST", body=b"abc") + request("/"),
    "a stream": request("/sse"),
    "a WebSocket": handshake("/ws"),
}
FRAMES = (
    frame(TEXT, "añ".encode())
    + frame(TEXT, b"x" * 10, fin=False)
    + frame(PING, b"p")
    + frame(CONTINUATION, b"y" * 10)
    + frame(BINARY, b"z" * 200)
    + close_frame(1000, b"bye")
)


@pytest.fixture(autouse=True)
def short_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uait.server.timing.LINGER", 0.2)
    monkeypatch.setattr("uait.server.timing.CLOSING_SECONDS", 0.2)
    monkeypatch.setattr("uait.server.timing.HANDLING_SECONDS", 0.3)


def cuts(data: bytes) -> Iterator[bytes]:
    return (data[:end] for end in range(len(data) + 1))


async def end(wire: Wire, way: str) -> None:
    if way == "reset":
        wire.reset()
    elif way == "half-close":
        await wire.half_close()
        with trio.move_on_after(0.1):
            await wire.rest()
    elif way == "late reset":  # with the answer on its way, or read in part
        await trio.sleep(0.01)
        wire.reset()


async def cut_everywhere(running: Running, data: bytes, way: str, *, upgraded: bool) -> None:
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def cut(part: bytes) -> None:
        async with limiter, running.dial() as wire:
            if upgraded:
                await wire.open_websocket()
            await wire.send(part)
            await end(wire, way)

    async with trio.open_nursery() as nursery:
        for part in cuts(data):
            nursery.start_soon(cut, part)
        async with running.dial() as honest:
            for _ in range(10):
                assert (await honest.ask()).body == b"hello"


QUICK = {("a length", "late reset"), ("frames", "reset")}


@pytest.mark.parametrize(
    ("what", "way"),
    [
        pytest.param(what, way, marks=() if (what, way) in QUICK else pytest.mark.hostile)
        for what in [*CONVERSATIONS, "frames"]
        for way in ("close", "reset", "late reset", "half-close")
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_end_at_every_byte(kind: str, what: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="uait.server")
    app = Echo()
    async with serving(app, lambda: caplog.messages, speak=KINDS[kind], send_timeout=1.0) as running:
        async with running.dial() as wire:
            await wire.ask()
        await running.settled()
        before = resources()
        data = FRAMES if what == "frames" else CONVERSATIONS[what]
        await cut_everywhere(running, data, way, upgraded=what == "frames")
        await back_at(before)
        assert running.server.statistics().failed == 0
        assert app.inside == []
        assert not [message for message in running.messages if "crashed" in message or "Traceback" in message]
