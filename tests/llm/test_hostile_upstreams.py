"""The list of WIRE 8.8, case by case: every kind of provider, streaming and not, by itself and handed on. Whatever happens, afterwards nothing is open and the pool is clean.

Cases 24 and 26 to 28 need a client and stand in `tests/services/chat/test_hostile_clients.py`, with 37 to 40; 29 to 34 are about several attempts and belong to routing's tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
from mock_upstream import Upstream

from uait.errors import APIError
from uait.llm.messages import Collected, Dialect, GenerateRequest, Original, message
from uait.llm.providers.anthropic import AnthropicProvider
from uait.llm.providers.gemini import GeminiProvider
from uait.llm.providers.ollama import OllamaProvider
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.providers.openai_responses import ResponsesProvider
from uait.llm.upstream import Timeouts

TEXT = "Hello from the mock model."
KINDS = ["openai", "responses", "anthropic", "gemini", "ollama"]
PASSED: dict[str, tuple[Dialect, dict[str, Any]]] = {
    "openai passed": ("openai-chat", {"messages": [{"role": "user", "content": "Hello"}]}),
    "responses passed": ("openai-responses", {"input": "Hello"}),
    "anthropic passed": ("anthropic", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}),
}


@attrs.frozen
class Good:
    """The answer is complete."""

    text: str = TEXT
    calls: tuple[tuple[str, Any], ...] = ()


@attrs.frozen
class Bad:
    """The answer is an error with one of these statuses."""

    statuses: tuple[int, ...]


CUT, SLOW, WEATHER = Bad((502,)), Bad((504,)), (("weather", {"city": "Oslo"}), ("time", {"zone": "CET"}))
OVERLOADED = Bad((502, 503))
NATIVE = tuple(kind for kind in KINDS if kind != "openai")

CASES: list[tuple[int, str, Good | Bad, tuple[str, ...]]] = [
    (1, "cut-after-headers", CUT, ()),
    (2, "cut-after-role", CUT, ()),
    (3, "cut-mid-content", CUT, ()),
    (3, "reset-mid-content", CUT, ()),
    (3, "end-mid-content", CUT, ()),
    (4, "finish-then-cut", Good(), ()),
    (4, "finish-then-silence", Good(), ()),
    (4, "finish-without-done", Good(), NATIVE),
    (5, "done-without-finish", Good(), NATIVE),
    (5, "last-line-unended", Good(), ("openai",)),
    (6, "error-frame-first", OVERLOADED, ()),
    (7, "error-frame-later", OVERLOADED, ()),
    (7, "error-with-choices", Bad((429,)), NATIVE),
    (7, "error-bare", Bad((503,)), NATIVE),
    (8, "http-error?status=502&body=html", CUT, ()),
    (8, "http-error?status=500&body=empty", CUT, ()),
    (9, "rate-limited?wait=seconds", Bad((429,)), ()),
    (9, "rate-limited?wait=date", Bad((429,)), ()),
    (9, "rate-limited?wait=ms", Bad((429,)), ()),
    (9, "rate-limited", Bad((429,)), ()),
    (10, "overloaded", Bad((503,)), ()),
    (11, "silent-after-headers", SLOW, ()),
    (12, "stall", SLOW, ()),
    (13, "byte-per-segment", Good("Grüße 👋"), ()),
    (14, "one-segment", Good(" ".join(["word"] * 500)), ()),
    (15, "split-utf8", Good("Grüße 👋 \u2028 from the mock model."), ()),
    (16, "crlf", Good(), ()),
    (17, "pings?seconds=60", SLOW, ()),
    (17, "pings?seconds=0.3", Good(), ()),
    (18, "usage-everywhere", Good("abc"), NATIVE),
    (19, "parallel-tools", Good("", WEATHER), ()),
    (20, "tool-args-empty", Good("", (("now", {}),)), ()),
    (21, "tool-args-object", Good("", WEATHER[:1]), NATIVE),
    (22, "tools-finish-stop", Good("", (("now", {}),)), NATIVE),
    (23, "big-event", Good("x" * 1_000_000), ()),
    (25, "gzipped", Good(), ()),
]


def make(kind: str, upstream: Upstream) -> Any:
    timeouts = Timeouts(connect=5, first_token=30, idle=30, total=60)
    root, url = upstream.root, upstream.url
    match kind.partition(" ")[0]:
        case "anthropic":
            return AnthropicProvider("mock", root, timeouts=timeouts)
        case "gemini":
            return GeminiProvider("mock", root, timeouts=timeouts)
        case "ollama":
            return OllamaProvider("mock", root, timeouts=timeouts)
        case "responses":
            return ResponsesProvider("mock", url, always=True, timeouts=timeouts)
        case _:
            return OpenAIProvider("mock", url, timeouts=timeouts)


def question(kind: str, model: str, stream: bool) -> GenerateRequest:
    original = None
    if kind in PASSED:
        dialect, body = PASSED[kind]
        original = Original(dialect=dialect, body=body)
    return GenerateRequest(model=model, messages=(message("user", "Hello"),), stream=stream, original=original)


@pytest.fixture(params=[*KINDS, *PASSED])
def kind(request: Any) -> str:
    found: str = request.param
    return found


@pytest.fixture
async def provider(kind: str, upstream: Upstream) -> AsyncIterator[Any]:
    provider = make(kind, upstream)
    yield provider
    pool = provider._http._transport._pool
    assert not pool._places, "a question is still under way"
    idle = sum(map(len, pool._idle.values()))
    # What is open is in the pool, and nothing else.
    await upstream.until(lambda server: server.open_requests == 0 and server.connections <= idle)
    await provider.aclose()
    await upstream.until(lambda server: server.connections == 0)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("number", "scenario", "outcome", "without"), CASES, ids=[f"{n}-{name}" for n, name, *_ in CASES]
)
async def test_case(
    provider: Any,
    kind: str,
    number: int,
    scenario: str,
    outcome: Good | Bad,
    without: tuple[str, ...],
    stream: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind.partition(" ")[0] in without:
        pytest.skip("this dialect has no such thing")
    monkeypatch.setattr("uait.llm.stream.TAIL_TIMEOUT", 0.1)
    if outcome is SLOW:
        # Of an answer in one piece nothing tells the first token; only the whole has a limit.
        provider._http.timeouts = Timeouts(connect=5, first_token=0.5, idle=0.5, total=20 if stream else 0.7)
    answer, failure = Collected(), None
    try:
        with trio.fail_after(60):
            async with provider.stream(question(kind, scenario, stream)) as chunks:
                async for chunk in chunks:
                    answer.add(chunk)
    except APIError as error:
        failure = error
    if isinstance(outcome, Bad):
        assert failure is not None
        assert failure.http_status in outcome.statuses
        assert failure.headers["x-should-retry"] == "false"
        return
    assert failure is None
    assert answer.text == outcome.text
    assert tuple((call.name, call.input) for call in answer.tool_calls) == outcome.calls
    assert answer.finish == ("tool_calls" if outcome.calls else "stop")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_case_35_a_cancelled_answers_connection_is_not_used_again(
    provider: Any, kind: str, upstream: Upstream, stream: bool
) -> None:
    for delay in (0.0, 0.02, 0.05):
        with trio.move_on_after(delay + 0.01):
            async with provider.stream(question(kind, "tokens?count=1000&delay=0.01", stream)) as chunks:
                async for _ in chunks:
                    pass
        async with provider.stream(question(kind, "tokens", stream)) as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == "tok0 tok1 tok2 tok3 tok4 "


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_case_36_a_pooled_connection_that_was_closed_meanwhile(
    provider: Any, kind: str, upstream: Upstream, stream: bool
) -> None:
    for _ in range(3):
        async with provider.stream(question(kind, "close-idle", stream)) as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == TEXT
    assert (upstream.accepted, len(upstream.requests)) == (3, 3)


@pytest.mark.parametrize("number", [1, 11, 12, 17])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_case_40_cancelled_in_the_middle_of_it(
    provider: Any, kind: str, upstream: Upstream, number: int, stream: bool
) -> None:
    """As a stop of the service does it; the signal itself is sent in `tests/system`."""
    scenario = {1: "silent", 11: "silent-after-headers", 12: "stall", 17: "pings?seconds=60"}[number]
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            async with provider.stream(question(kind, scenario, stream)) as chunks:
                async for _ in chunks:
                    pass

        nursery.start_soon(ask)
        await upstream.until(lambda server: server.open_requests == 1)
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel(reason="the service stops")
    await upstream.until(lambda server: server.connections == 0)
