"""Routes through the whole process: whichever step a question is at when its client leaves, everything upstream is closed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faces
import httpx
import pytest
import trio
from mock_upstream import KINDS, Upstream, open_upstream, scenarios

pytestmark = pytest.mark.system

SLACK = 1.0
"""Seconds. The promise is 0.1; a busy machine with two cores may be late for reasons of its own."""

ROUTES = """
[chat]
local = false
[chat.providers.a]
base_url = "{url}"
[chat.providers.b]
base_url = "{url}"
[chat.routes.fallback]
models = ["a/http-error?status=500", "b/silent"]
[chat.routes.slow]
models = ["a/silent-after-headers", "b/silent"]
first_token_timeout = 0.2
[chat.routes.race]
models = ["a/echo", "b/silent"]
hedge = true
[chat.routing]
hedge_ratio = 1.0
[chat.routes.budget]
models = ["a/silent", "b/silent-after-headers", "b/stall"]
"""

PATHS = {
    "/api/v1/chat": {"message": "hi"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 100},
    "/v1/responses": {"input": "hi"},
}


@asynccontextmanager
async def running(start: Any, tmp_path: Path) -> AsyncIterator[tuple[Upstream, Any]]:
    async with open_upstream() as upstream:
        config = tmp_path / "uait.toml"
        config.write_text(ROUTES.format(url=upstream.url))
        async with start("--config", str(config), "--only", "gateway,chat", wait=("gateway", "chat")) as process:
            yield upstream, process


async def ask(process: Any, path: str, model: str, **more: Any) -> trio.SocketStream:
    """A question on a socket of its own."""
    data = json.dumps({**PATHS[path], "model": model, **more}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    )
    stream = await trio.open_tcp_stream("127.0.0.1", process.ports["gateway"])
    await stream.send_all(head.encode() + b"\r\n" + data)
    return stream


def questions(upstream: Upstream) -> list[str]:
    return [seen.json()["model"] for seen in upstream.requests if seen.method == "POST"]


@pytest.mark.shared
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
async def test_leaving_at_any_step(start: Any, tmp_path: Path, path: str, stream: bool, monkeypatch: Any) -> None:
    async with running(start, tmp_path) as (upstream, process):

        async def left_while(model: str, asked: list[str], under_way: int, pause: float = 0.1) -> float:
            upstream.requests.clear()
            client = await ask(process, path, model, stream=stream)
            await upstream.until(lambda now: questions(now) == asked and now.open_requests == under_way)
            await trio.sleep(0.2)  # into the step, also where nothing shows from here that it has begun
            await client.aclose()
            began = time.monotonic()
            await upstream.until(lambda now: now.open_requests == 0)
            took = time.monotonic() - began
            await trio.sleep(pause)  # nobody goes on with it
            assert questions(upstream) == asked
            assert upstream.open_requests == 0
            return took

        took = {
            "before the first token": await left_while("a/silent-after-headers", ["silent-after-headers"], 1),
            "while it is being made": await left_while("a/stall", ["stall"], 1),
            "in a pause before it is asked again": await left_while("a/rate-limited", ["rate-limited"], 0),
            "in the queue for a key": await left_while("a/silent", [], 0, pause=1.0),
            "at the next model": await left_while("fallback", ["http-error?status=500", "silent"], 1),
            "at the next model after a slow one": await left_while("slow", ["silent-after-headers", "silent"], 1),
        }
        async with httpx.AsyncClient(timeout=10) as http:
            for _ in range(25):
                body = {**PATHS["/v1/chat/completions"], "model": "race", "stream": True}
                assert (await http.post(process.url("gateway", "/v1/chat/completions"), json=body)).status_code == 200
        monkeypatch.setitem(scenarios.SCENARIOS, "echo", scenarios.SCENARIOS["silent"])
        took["in a race"] = await left_while("race", ["echo", "silent"], 2)
        assert max(took.values()) < SLACK, took
        print({step: f"{seconds * 1000:.1f} ms" for step, seconds in took.items()})


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
async def test_a_limited_key_of_several_is_left_alone(start: Any, tmp_path: Path, kind: str) -> None:
    """As the settings file has them: the first is limited once, and then the second does all the work."""
    async with open_upstream() as upstream:
        settings = "".join(f'{name} = "{value}"\n' for name, value in upstream.provider(kind).items())
        config = tmp_path / "uait.toml"
        config.write_text(f'[chat]\nlocal = false\n[chat.providers.work]\n{settings}keys = ["one", "two"]\n')
        arguments = ("--config", str(config), "--only", "gateway,chat")
        async with start(*arguments, wait=("gateway", "chat")) as process, httpx.AsyncClient(timeout=10) as http:
            for n in range(3):
                for face, path in faces.PATHS.items():
                    body = faces.question(face, "work/limited-key?key=one", stream=bool(n % 2))
                    answer = await http.post(process.url("gateway", path), json=body)
                    said = faces.read(face, answer.status_code, answer.headers, answer.content)
                    assert (said.text, said.error) == ("two", "")
            asked = [seen for seen in upstream.requests if seen.method == "POST"]
            assert len(asked) == 1 + 3 * len(faces.PATHS)
            body = {**PATHS["/v1/chat/completions"], "model": "work/limited-key?key=one"}
            told = (await http.post(process.url("gateway", "/v1/route/explain"), json=body)).json()
            assert [(each["ready"], each["keys"], each["cooling"]) for each in told["order"]] == [(True, 2, 1)]


async def test_two_seconds_and_three_that_fail_are_a_504_at_two_seconds(start: Any, tmp_path: Path) -> None:
    async with running(start, tmp_path) as (upstream, process), httpx.AsyncClient(timeout=10) as http:
        for path, body in PATHS.items():
            began = time.monotonic()
            answer = await http.post(
                process.url("gateway", path), json={**body, "model": "budget"}, headers={"X-Request-Timeout-Ms": "2000"}
            )
            took = time.monotonic() - began
            assert answer.status_code == 504
            assert 1.9 <= took < 2.0 + SLACK
            # Where the machine is too busy for our own word in time, it is the gateway's.
            assert answer.headers.get("x-should-retry") == "false" or "ran out of time" in answer.text
            print(f"{path}: {took:.3f} s")
            await upstream.until(lambda now: now.open_requests == 0, timeout=SLACK)
