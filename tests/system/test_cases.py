"""Case 40 of WIRE 8.8: SIGTERM while a real process is in the middle of each of the other cases, in every dialect, before every kind of provider."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import faces
import httpx
import pytest
import trio
from mock_upstream import KINDS, open_upstream
from wire import dial, request

pytestmark = pytest.mark.system

GRACE = 2.0
SCENARIOS = (
    *("cut-after-headers", "cut-after-role", "cut-mid-content", "reset-mid-content", "end-mid-content"),
    *("finish-then-cut", "finish-then-silence", "error-frame-first", "error-frame-later"),
    *("http-error?status=502&body=html", "http-error?status=500&body=empty"),
    *("rate-limited?wait=seconds", "rate-limited?wait=ms", "rate-limited", "overloaded"),
    *("silent", "silent-after-headers", "stall", "byte-per-segment", "one-segment", "split-utf8", "crlf"),
    *("pings?seconds=60", "pings?seconds=0.3", "parallel-tools", "tool-args-empty", "big-event", "gzipped"),
    *("tokens?count=100000&delay=0.01", "close-idle", "tokens", "not-there"),
)
ROUTES = {
    "fallback": ["http-error?status=503", "silent"],
    "exhausted": ["overloaded", "cut-after-headers"],
    "slow": ["silent-after-headers", "tokens?count=50&delay=0.02"],
    "race": ["stall", "silent"],
}


def write_settings(file: Path, upstream: Any) -> list[str]:
    """Settings in which each model has a provider to itself, of each kind in turn; gives the models."""
    lines = ["[chat]", "local = false", "[chat.routing]", "hedge_ratio = 1.0", "first_token_timeout = 0.5"]
    models: list[str] = []
    for number, (name, members) in enumerate([*((each, [each]) for each in SCENARIOS), *ROUTES.items()]):
        settings = upstream.provider(KINDS[number % len(KINDS)])
        lines += [f"[chat.providers.p{number}]", *(f'{key} = "{value}"' for key, value in settings.items())]
        models.append(f"p{number}/{name}")
        if name in ROUTES:
            models[-1] = name
            lines += [f"[chat.routes.{name}]", f"models = {[f'p{number}/{each}' for each in members]}"]
            lines.append(f"hedge = {str(name == 'race').lower()}")
    file.write_text("\n".join(lines))
    return models


@pytest.mark.shared
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("face", faces.FACES)
async def test_case_40_sigterm_during_every_other_case(start: Any, tmp_path: Path, stream: bool, face: str) -> None:
    """Whoever has been told a status is told an end, too, in the dialect; the process ends in time; upstream nothing is left."""
    stopped = trio.Event()
    untold: list[str] = []
    ends = 0

    async def keep_asking(port: int, model: str) -> None:
        nonlocal ends
        body = httpx.Request("POST", "http://x", json=faces.question(face, model, stream=stream)).content
        question = request(faces.PATHS[face], "Content-Type: application/json", method="POST", body=body)
        while not stopped.is_set():
            try:
                async with dial(port) as wire:
                    await wire.send(question)
                    head = await wire.head()
                    try:
                        if "content-length" in head.headers:
                            head.body = await wire.exactly(int(head.headers["content-length"]))
                        else:
                            async for chunk in wire.chunks():
                                head.body += chunk
                    except EOFError:
                        untold.append(f"{model}: {head.status} {head.body[-300:]!r}, then nothing")
                        return
            except (OSError, EOFError, trio.BrokenResourceError):
                assert stopped.is_set(), model
                return
            said = faces.read(face, head.status, head.headers, head.body)
            ends += stopped.is_set()
            if not said.ended or said.after:
                untold.append(f"{model}: {said}")
            await trio.sleep(0.02)

    async with open_upstream() as upstream:
        config = tmp_path / "uait.toml"
        models = write_settings(config, upstream)
        arguments = ("--config", str(config), "--only", "gateway,chat")
        async with start(*arguments, wait=("gateway", "chat"), grace=GRACE) as process:
            async with trio.open_nursery() as nursery:
                for model in models:
                    nursery.start_soon(keep_asking, process.ports["gateway"], model)
                await trio.sleep(random.uniform(0.3, 1.2))
                stopped.set()
                began = time.monotonic()
                process.signal(signal.SIGTERM)
                assert await process.wait(GRACE + 4) == 0, process.output()
                took = time.monotonic() - began
                nursery.cancel_scope.deadline = trio.current_time() + 5
            assert took < GRACE + 2 + 1, took
            if took < GRACE + 1.5:  # on a machine that is too busy the last rung is reached: sockets are closed
                assert untold == []
                assert ends > len(models) / 4, "most of what waits for ever was told"
            assert "Traceback" not in process.output(), process.output()
        await upstream.until(lambda server: server.open_requests == 0 and server.connections == 0)
    print(f"{len(models)} questions, {ends} of them ended by the stop, which took {took:.2f} s")
