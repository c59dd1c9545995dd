"""Cases 24 and 26 to 31: what clients do. All dialects before all kinds of providers are at the same step at once, and then all leave."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from faces import FACES
from mock_upstream import KINDS
from wire import Wire

STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
PAIRS = [(face, kind) for face in FACES for kind in KINDS]
PATIENCE = 60.0
"""Seconds after which a test has failed instead of hanging; none of them measures."""
ENDLESS = "tokens?count=100000&delay=0.01"


@asynccontextmanager
async def all_asking(front: Any, model: Callable[[str, str], str], **more: Any) -> AsyncIterator[list[Wire]]:
    """A question of each face to each kind, all open until the block is left."""
    async with contextlib.AsyncExitStack() as stack:
        asked = (front.asking(face, model(face, kind), **more) for face, kind in PAIRS)
        yield [await stack.enter_async_context(each) for each in asked]


async def all_left(front: Any, attempts: int) -> None:
    """The traces say that everybody's question ended because its client had left, after so many attempts."""
    with trio.fail_after(PATIENCE):
        while True:
            listed = await front.client.get("/v1/route/traces?limit=100")
            traces = listed.json()["traces"][: len(PAIRS)]
            if len(traces) == len(PAIRS) and all(trace["outcome"] == "left" for trace in traces):
                break
            await trio.sleep(0.01)
    assert {len(trace["attempts"]) for trace in traces} == {attempts}


@STREAM
async def test_case_24_a_large_prompt(run: Any, stream: bool) -> None:
    async with run() as front:
        for face, kind in PAIRS:
            said = await front.ask(face, f"{face}-{kind}/tokens", text="x" * 2_000_000, stream=stream)
            assert (said.error, said.text) == ("", "tok0 tok1 tok2 tok3 tok4 ")
            assert len(front.upstream.requests[-1].body) > 2_000_000


@pytest.mark.parametrize(
    ("face", "kind"),
    [("completions", "openai"), ("responses", "responses"), ("messages", "anthropic"), ("completions", "gemini")],
)
async def test_case_26_a_slow_reader(run: Any, face: str, kind: str) -> None:
    """Who does not read holds up its own model server, costs no memory here, and gets everything in the end."""
    size, count = 100_000, 400
    async with run() as front:
        model = f"{face}-{kind}/flood?count={count}&bytes={size}"
        async with front.asking(face, model, stream=True) as wire:
            await front.asked()
            before = -1
            with trio.fail_after(PATIENCE):
                while front.upstream.sent != before:  # until it is held up
                    before = front.upstream.sent
                    await trio.sleep(0.3)
            assert before < 0.7 * size * count
            received = 0
            with trio.fail_after(PATIENCE):
                async for chunk in wire_chunks(wire):
                    received += chunk.count(b"x")
            assert received >= size * count


async def wire_chunks(wire: Wire) -> AsyncIterator[bytes]:
    assert (await wire.head()).status == 200
    async for chunk in wire.chunks():
        yield chunk


@STREAM
async def test_case_27_and_28_clients_that_go(run: Any, stream: bool) -> None:
    async with run() as front:
        rounds = [(way, model) for way in ("half-close", "reset", "close") for model in ("silent", ENDLESS)]
        for number, (way, model) in enumerate(rounds, 1):
            every = all_asking(front, lambda face, kind, model=model: f"{face}-{kind}/{model}", stream=stream)
            async with every as wires:
                await front.asked(number * len(PAIRS))
                for wire in wires:
                    if way == "half-close":
                        await wire.half_close()
                    elif way == "reset":
                        wire.reset()
                if way == "half-close":
                    await front.is_quiet()
            await front.is_quiet()
            assert front.upstream.left == number * len(PAIRS), (way, model)


@STREAM
async def test_case_29_leaving_in_the_pause_before_it_is_asked_again(run: Any, stream: bool) -> None:
    async with run(routing={"longest_pause": 60.0}) as front:
        # The server asks for half a minute.
        model = "rate-limited?wait=date"
        async with all_asking(front, lambda face, kind: f"{face}-{kind}/{model}", stream=stream):
            await front.upstream.until(
                lambda server: front.questions() == len(PAIRS) and not server.open_requests, PATIENCE
            )
            await trio.sleep(0.05)
        await all_left(front, attempts=1)
        assert front.questions() == len(PAIRS)


@STREAM
async def test_case_30_leaving_in_the_queue_for_a_key(run: Any, stream: bool) -> None:
    async with run(routing={"longest_pause": 60.0}) as front:
        # From now on the only key of each is left alone for half a minute.
        async with all_asking(front, lambda face, kind: f"{face}-{kind}/rate-limited?wait=date", stream=stream):
            await front.upstream.until(
                lambda server: front.questions() == len(PAIRS) and not server.open_requests, PATIENCE
            )
        await all_left(front, attempts=1)
        async with all_asking(front, lambda face, kind: f"{face}-{kind}/tokens", stream=stream):
            with trio.fail_after(PATIENCE):
                while await under_way(front) < len(PAIRS):
                    await trio.sleep(0.01)
        await all_left(front, attempts=0)
        assert front.questions() == len(PAIRS)


async def under_way(front: Any) -> int:
    """Questions that have a trace and no end."""
    listed = await front.client.get("/v1/route/traces?limit=100")
    return sum(trace["outcome"] == "running" for trace in listed.json()["traces"])


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port that neither takes nor refuses connections: its queue is full. Linux drops what comes then."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(8):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(("127.0.0.1", port))
        yield port


def dialling(port: int) -> int:
    """How many connections to this port are being opened, besides those that fill the queue."""
    syn_sent, end = "02", f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(end) and row[3] == syn_sent for row in rows)


@STREAM
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="tells by /proc who is dialling")
async def test_case_31_leaving_while_the_next_provider_is_dialled(
    run: Any, upstream: Any, black_hole: int, stream: bool
) -> None:
    filling = dialling(black_hole)
    providers = {f"{face}-{kind}": upstream.provider(kind) for face, kind in PAIRS}
    providers["hole"] = {"base_url": f"http://127.0.0.1:{black_hole}/v1"}
    async with run(providers=providers, routing={"breaker_failures": 10_000}) as front:
        listing = dialling(black_hole)  # its list of models is asked for, too
        assert filling < listing <= filling + 1
        front.entries = [entry for entry in front.entries if entry.provider.name != "hole"]
        first = "http-error?status=503"
        routing = all_asking(front, lambda face, kind: f"{face}-{kind}/{first},hole/x", stream=stream)
        async with routing:
            with trio.fail_after(PATIENCE):
                while dialling(black_hole) < filling + len(PAIRS):
                    await trio.sleep(0.01)
        with trio.fail_after(PATIENCE):
            while dialling(black_hole) > filling + 1:
                await trio.sleep(0.01)
        await all_left(front, attempts=2)
