"""The list of WIRE 8.8, as far as clients, lists of models and stops are concerned: through the running service, in each dialect, before each kind of provider."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
import trio
from mock_upstream import Upstream

Run = Callable[..., AbstractAsyncContextManager[Any]]

PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
KINDS = ["openai", "responses", "anthropic", "gemini", "ollama"]
ENDLESS = "mock/tokens?count=100000&delay=0.01"
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


def settings_of(kind: str, upstream: Upstream) -> dict[str, Any]:
    if kind == "responses":
        return {"base_url": upstream.url, "api": "responses"}
    return {"kind": kind, "base_url": upstream.url if kind == "openai" else upstream.root}


def question(path: str, model: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, **more}
    if path == "/v1/responses":
        return body | {"input": text}
    return body | {"messages": [{"role": "user", "content": text}], "max_tokens": 5000}


@pytest.fixture(params=KINDS)
def kind(request: Any) -> str:
    found: str = request.param
    return found


@pytest.fixture
def run(kind: str, run_chat: Run, upstream: Upstream) -> Callable[[], AbstractAsyncContextManager[Any]]:
    return lambda: run_chat(providers={"mock": settings_of(kind, upstream)})


async def clean(upstream: Upstream) -> None:
    """Nothing is open after the service has gone."""
    await upstream.until(lambda server: server.open_requests == 0 and server.connections == 0)


@STREAM
@pytest.mark.parametrize("path", PATHS)
async def test_case_24_a_large_prompt(run: Any, upstream: Upstream, path: str, stream: bool) -> None:
    async with run() as running:
        body = question(path, "mock/tokens", "x" * 2_000_000, stream=stream)
        assert (await running.client.post(path, json=body)).status_code == 200
        assert len(upstream.requests[-1].body) > 2_000_000
    await clean(upstream)


@pytest.mark.parametrize("path", PATHS)
async def test_case_26_a_slow_reader(run: Any, upstream: Upstream, path: str) -> None:
    """Who does not read holds up nobody but itself, and gets everything in the end."""
    async with run() as running:
        body = question(path, "mock/tokens?count=1000&delay=0.0001", stream=True)
        async with running.raw(path, body) as answer:
            await answer.until(b"tok0 ")
            await trio.sleep(0.3)
            assert b"tok999 " in await answer.rest()
    await clean(upstream)


@STREAM
@pytest.mark.parametrize("path", PATHS)
async def test_case_27_and_28_a_client_that_goes(run: Any, upstream: Upstream, path: str, stream: bool) -> None:
    async with run() as running:
        ways = [(way, model) for way in ("half-close", "reset", "close") for model in ("mock/silent", ENDLESS)]
        for number, (way, model) in enumerate(ways, 1):
            async with running.raw(path, question(path, model, stream=stream)) as answer:
                await running.asked(number)
                if way == "half-close":
                    await answer.stream.send_eof()
                    await upstream.until(lambda server: server.open_requests == 0)
                elif way == "reset":
                    answer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await upstream.until(lambda server: server.open_requests == 0)
            assert upstream.left == number
    await clean(upstream)


async def test_case_37_a_list_that_hangs(run: Any, upstream: Upstream, kind: str) -> None:
    upstream.models = "hang"
    async with run() as running:
        with trio.fail_after(5):
            listed = (await running.client.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["offline/retrieval"]
    await clean(upstream)


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
async def test_case_38_a_list_whose_second_page_fails(run: Any, upstream: Upstream, kind: str) -> None:
    """Half a list would take the other half away: what was known stays, and the provider is marked."""
    upstream.models = "second"
    async with run() as running:
        listed = (await running.client.get("/models")).json()
        assert [model["id"] for model in listed["models"]] == ["offline/retrieval"]
        assert listed["providers"]["mock"]["status"] == "unavailable"
    await clean(upstream)


async def test_case_39_the_same_name_at_two_providers(run_chat: Run, upstream: Upstream) -> None:
    providers = {kind: settings_of(kind, upstream) for kind in KINDS}
    async with run_chat(providers=providers) as running:
        await running.client.get("/v1/models")
        for kind in KINDS:
            body = question(PATHS[0], f"{kind}/tokens")
            assert (await running.client.post(PATHS[0], json=body)).json()["model"] == f"{kind}/tokens"
        paths = [seen.path for seen in upstream.requests if seen.method == "POST"]
        assert [path.rpartition("/")[2].partition("?")[0] for path in paths] == [
            "completions",
            "responses",
            "messages",
            "tokens:generateContent",
            "chat",
        ]
        # Without a provider's name the first one has it.
        await running.client.post(PATHS[0], json=question(PATHS[0], "tokens"))
        assert upstream.requests[-1].path.endswith("/chat/completions")
    await clean(upstream)


@STREAM
@pytest.mark.parametrize("path", PATHS)
async def test_case_40_the_service_stops_in_the_middle_of_it(
    run: Any, upstream: Upstream, path: str, stream: bool
) -> None:
    scenarios = ("silent", "silent-after-headers", "stall", "pings?seconds=60")
    async with trio.open_nursery() as nursery:
        async with run() as running:

            async def ask(scenario: str) -> None:
                async with running.raw(path, question(path, f"mock/{scenario}", stream=stream)) as answer:
                    with suppress(trio.BrokenResourceError):
                        await answer.rest()

            for scenario in scenarios:
                nursery.start_soon(ask, scenario)
            await running.asked(len(scenarios))
            await trio.sleep(0.02)
        with trio.fail_after(10):
            await clean(upstream)
