"""Servers of OpenAI's dialect: what they answer well arrives whole, what they do wrong is an error that says so, and nothing stays open."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import trio
from mock_upstream import Upstream

from uait.errors import (
    APIError,
    BadRequest,
    DeadlineExceeded,
    NotFound,
    TooManyRequests,
    Unavailable,
    UpstreamError,
)
from uait.llm.dialects.openai_upstream import AnswerReader
from uait.llm.messages import Chunk, Collected, GenerateRequest, Image, Message, Tool, ToolCall, ToolChoice, Usage
from uait.llm.messages import message as turn
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.sse import ServerSentEvent
from uait.llm.upstream import Timeouts

Ask = Callable[..., Awaitable[Collected]]
Question = Callable[..., GenerateRequest]
TEXT = "Hello from the mock model."


@pytest.mark.parametrize(
    "scenario",
    [
        "finish-without-done",
        "finish-then-cut",
        "finish-then-silence",
        "done-without-finish",
        "done-without-newline",
        "crlf",
        "pings?seconds=0.3",
        "gzipped",
        "gzipped?encoding=deflate",
        "ignores-stream",
        "no-usage",
        "reasoning",
        "reasoning?field=reasoning",
    ],
)
async def test_whole_answers(ask: Ask, scenario: str) -> None:
    answer = await ask(scenario)
    assert (answer.text, answer.finish) == (TEXT, "stop")


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        ("byte-per-segment", "Grüße 👋"),
        ("split-utf8", "Grüße 👋 \u2028 from the mock model."),
        ("one-segment", " ".join(["word"] * 500)),
        ("big-event", "x" * 1_000_000),
    ],
)
async def test_text_is_what_was_sent(ask: Ask, scenario: str, text: str) -> None:
    assert (await ask(scenario)).text == text


async def test_tokens_come_as_they_are_made(provider: OpenAIProvider, question: Question) -> None:
    """The second token is not there yet when the first one is read."""
    async with provider.stream(question("stall")) as chunks:
        with trio.fail_after(5):
            assert await anext(chunks) == Chunk("Hello")


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_is_the_servers(ask: Ask, stream: bool) -> None:
    answer = await ask("tokens?count=3", stream=stream)
    assert answer.text == "tok0 tok1 tok2 "
    assert answer.usage == Usage(11, 3)


async def test_usage_in_every_chunk_is_not_added_up(ask: Ask) -> None:
    assert (await ask("usage-everywhere")).usage == Usage(11, 7)


async def test_missing_usage_is_an_estimate_that_says_so(ask: Ask, question: Question) -> None:
    answer = await ask("no-usage")
    assert answer.usage is None
    assert answer.counted(question("no-usage")) == Usage(5, 7, estimated=True)


@pytest.mark.parametrize(
    "scenario",
    [
        "cut-after-headers",
        "cut-after-role",
        "cut-mid-content",
        "reset-mid-content",
        "end-mid-content",
        "not-json",
        "no-choices",
    ],
)
async def test_an_answer_cut_short_is_an_error(ask: Ask, scenario: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask(scenario)
    assert caught.value.http_status == 502
    assert caught.value.headers["x-should-retry"] == "false"


async def test_what_came_before_an_error_is_handed_out_first(provider: OpenAIProvider, question: Question) -> None:
    answer = Collected()
    with pytest.raises(Unavailable, match="overloaded"):
        async with provider.stream(question("error-frame-later")) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
    assert answer.text == "Hello from"


@pytest.mark.parametrize(
    ("scenario", "kind", "words"),
    [
        ("error-frame-first", Unavailable, "overloaded"),
        ("error-with-choices", TooManyRequests, "Slow down"),
        ("error-bare", Unavailable, "gone"),
        ("error-200", Unavailable, "No capacity"),
        ("http-error?status=502&body=html", UpstreamError, "answered 502"),
        ("http-error?status=500&body=empty", UpstreamError, "answered 500"),
        ("http-error?status=503&body=text", Unavailable, "upstream connect error"),
        ("http-error?status=400&body=json", BadRequest, "It is broken"),
        ("http-error?status=404&body=string", NotFound, "model not loaded"),
        ("http-error?status=422&body=detail", BadRequest, "field required"),
        ("http-error?status=418&body=message", BadRequest, "no such thing"),
        ("http-error?status=504&body=text", DeadlineExceeded, "upstream"),
        ("overloaded", Unavailable, "Overloaded"),
        ("unknown-model", NotFound, "no model unknown-model"),
    ],
)
async def test_errors_keep_their_meaning(ask: Ask, scenario: str, kind: type[APIError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        await ask(scenario)
    assert caught.value.headers["x-should-retry"] == "false"
    assert "secret" not in caught.value.text


@pytest.mark.parametrize(("wait", "low", "high"), [("seconds", 7, 7), ("date", 25, 31), ("ms", 2, 3)])
async def test_retry_after_is_understood_in_every_form(ask: Ask, wait: str, low: int, high: int) -> None:
    with pytest.raises(TooManyRequests) as caught:
        await ask(f"rate-limited?wait={wait}")
    assert low <= int(caught.value.headers["Retry-After"]) <= high


@pytest.mark.parametrize("wait", ["absent", "nonsense"])
async def test_no_retry_after_is_made_up(ask: Ask, wait: str) -> None:
    with pytest.raises(TooManyRequests) as caught:
        await ask(f"rate-limited?wait={wait}")
    assert "Retry-After" not in caught.value.headers


async def test_an_empty_account_is_not_a_rate_limit(ask: Ask) -> None:
    with pytest.raises(TooManyRequests) as caught:
        await ask("http-error?status=429&body=quota")
    assert caught.value.error_code == "INSUFFICIENT_QUOTA"
    assert "Retry-After" not in caught.value.headers


async def test_a_refused_key_is_our_fault_and_never_quoted(ask: Ask) -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask("http-error?status=401&body=key")
    assert caught.value.error_code == "PROVIDER_REFUSED_KEY"
    assert "sk-" not in caught.value.text


async def test_nobody_listening(question: Question) -> None:
    provider = OpenAIProvider("gone", "http://127.0.0.1:1/v1")
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with provider.stream(question("x")):
            pass
    await provider.aclose()


async def test_a_name_that_nobody_knows(question: Question) -> None:
    class Nobody(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Nobody())
    provider = OpenAIProvider("gone", "http://nobody.invalid/v1")
    with pytest.raises(Unavailable, match="the name in its address is not known"):
        async with provider.stream(question("x")):
            pass
    await provider.aclose()


@pytest.mark.parametrize("scenario", ["silent", "silent-after-headers", "stall", "pings?seconds=60"])
async def test_silence_has_an_end(ask: Ask, scenario: str) -> None:
    with pytest.raises(DeadlineExceeded) as caught, trio.fail_after(10):
        await ask(scenario)
    assert caught.value.error_code == "UPSTREAM_TIMEOUT"


async def test_pings_keep_a_long_answer_alive(upstream: Upstream, question: Question) -> None:
    """Comments for three times the idle time do no harm once a token has come; the first token has its own limit."""
    provider = OpenAIProvider("mock", upstream.url, timeouts=Timeouts(first_token=20, idle=0.3))
    async with provider.stream(question("pings?seconds=1")) as chunks:
        texts = [chunk.text async for chunk in chunks]
    assert "".join(texts) == TEXT
    await provider.aclose()


@pytest.mark.parametrize("delay", [0.0, 0.2])
@pytest.mark.parametrize("scenario", ["silent", "silent-after-headers", "stall", "tokens?count=1000&delay=0.01"])
async def test_cancelling_ends_the_question_at_the_server(
    provider: OpenAIProvider, upstream: Upstream, question: Question, scenario: str, delay: float
) -> None:
    with trio.move_on_after(delay or 0.05):
        async with provider.stream(question(scenario)) as chunks:
            async for _ in chunks:
                pass
    await upstream.until(lambda server: server.connections == 0)
    assert (upstream.open_requests, upstream.left) == (0, upstream.accepted)


async def test_leaving_half_read_closes_the_connection(
    provider: OpenAIProvider, upstream: Upstream, question: Question
) -> None:
    async with provider.stream(question("tokens?count=1000&delay=0.01")) as chunks:
        await anext(chunks)
    await upstream.until(lambda server: server.connections == 0)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_whole_answer_gives_its_connection_back(ask: Ask, upstream: Upstream, stream: bool) -> None:
    for _ in range(5):
        await ask("tokens", stream=stream)
    assert (upstream.accepted, len(upstream.requests)) == (1, 5)


async def test_the_end_of_the_body_is_waited_for_a_moment(ask: Ask, upstream: Upstream) -> None:
    for _ in range(3):
        assert (await ask("late-end")).text == TEXT
    assert (upstream.accepted, upstream.left) == (1, 0)


async def test_a_finished_answer_does_not_wait_for_what_may_follow(
    upstream: Upstream, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uait.llm.stream.TAIL_TIMEOUT", 0.1)
    provider = OpenAIProvider("mock", upstream.url, timeouts=Timeouts(idle=60))
    with trio.fail_after(10):
        async with provider.stream(question("finish-then-silence")) as chunks:
            assert "".join([chunk.text async for chunk in chunks]) == TEXT
    await provider.aclose()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_pooled_connection_closed_meanwhile_is_replaced_once(
    ask: Ask, upstream: Upstream, stream: bool
) -> None:
    for _ in range(3):
        assert (await ask("close-idle", stream=stream)).text == TEXT
    assert (upstream.accepted, len(upstream.requests)) == (3, 3)


async def test_tool_calls(ask: Ask) -> None:
    expected = (ToolCall("call_a", "weather", '{"city": "Oslo"}'), ToolCall("call_b", "time", '{"zone": "CET"}'))
    for stream in (True, False):
        answer = await ask("parallel-tools", stream=stream)
        assert (answer.tool_calls, answer.finish) == (expected, "tool_calls")


async def test_tool_calls_as_servers_really_send_them(ask: Ask) -> None:
    assert (await ask("tool-args-empty")).tool_calls == (ToolCall("call_a", "now", "{}"),)
    assert (await ask("tool-args-object")).tool_calls == (ToolCall("call_a", "weather", '{"city":"Oslo"}'),)
    assert (await ask("tools-finish-stop")).finish == "tool_calls"


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_a_fragment_belongs_to_the_call_whose_id_it_has(index: dict[str, int]) -> None:
    reader, answer = AnswerReader("p"), Collected()
    for fragment in (
        {"id": "a", "function": {"name": "f", "arguments": '{"x"'}},
        {"id": "b", "function": {"name": "g", "arguments": '{"y"'}},
        {"id": "a", "function": {"arguments": ": 1}"}},
        {"id": "b", "function": {"arguments": ": 2}"}},
    ):
        payload = {"choices": [{"delta": {"tool_calls": [{**index, **fragment}]}}]}
        chunk = reader.event(ServerSentEvent(orjson.dumps(payload)))
        assert chunk is not None
        answer.add(chunk)
    assert answer.tool_calls == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", '{"y": 2}'))


@pytest.mark.parametrize("how", ["ids=1", "unnumbered=1", "nothing=1"])
async def test_tool_calls_that_are_badly_numbered_stay_apart(ask: Ask, how: str) -> None:
    calls = (await ask(f"tools-all-zero?{how}")).tool_calls
    assert [(call.name, call.arguments) for call in calls] == [("weather", '{"a": 1}'), ("time", '{"b": 2}')]
    assert len({call.id for call in calls}) == 2


async def test_reasoning_is_kept_apart(ask: Ask) -> None:
    answer = await ask("reasoning")
    assert (answer.reasoning, answer.text) == ("Let me think. ", TEXT)


async def test_what_the_server_is_asked(provider: OpenAIProvider, upstream: Upstream, question: Question) -> None:
    request = GenerateRequest(
        model="tokens",
        messages=(
            turn("system", "Be brief."),
            Message("user", (Image("data:image/png;base64,AA==", "low"),)),
            Message("assistant", tool_calls=(ToolCall("c1", "now", "{}"),)),
            Message("tool", turn("tool", "noon").parts, tool_call_id="c1"),
        ),
        memories=("likes tea",),
        temperature=0.5,
        top_p=0.9,
        max_tokens=7,
        stop=("END",),
        tools=(Tool("now", "tells the time", {"type": "object"}),),
        tool_choice=ToolChoice("named", "now"),
        extra={"seed": 3, "model": "never this one"},
    )
    async with provider.stream(request) as chunks:
        async for _ in chunks:
            pass
    seen = upstream.requests[0]
    assert seen.headers["authorization"] == "Bearer sk-secret"
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.json() == {
        "model": "tokens",
        "messages": [
            {
                "role": "system",
                "content": "What the user told earlier and may matter for this conversation:\n- likes tea",
            },
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "noon", "tool_call_id": "c1"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["END"],
        "tools": [
            {
                "type": "function",
                "function": {"name": "now", "description": "tells the time", "parameters": {"type": "object"}},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "now"}},
        "seed": 3,
    }


async def test_a_prompt_of_two_megabytes(ask: Ask) -> None:
    assert len((await ask("echo", text="x" * 2_000_000)).text) == 2_000_000


async def test_models(provider: OpenAIProvider, upstream: Upstream) -> None:
    first, second = await provider.models()
    assert (first.id, first.context_length, first.capabilities) == ("tokens", 4096, ("chat", "streaming"))
    assert second.capabilities == ("embeddings",)
    for wrong in ("error", "page"):
        upstream.models = wrong
        with pytest.raises(UpstreamError):
            await provider.models()


async def test_embeddings(provider: OpenAIProvider) -> None:
    answer = await provider.embed("text-embedding-mock", ["one", "three"])
    assert answer.vectors == ((3.0, 0.5, -1.0), (5.0, 0.5, -1.0))
    assert answer.usage.prompt_tokens == 6


async def test_an_answer_without_end_is_ended(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uait.llm.stream.MAX_STREAM_BYTES", 100_000)
    with pytest.raises(UpstreamError, match="more than any answer"):
        await ask("tokens?count=100000")


async def test_many_at_once(ask: Ask, provider: OpenAIProvider, upstream: Upstream) -> None:
    provider._http.timeouts = Timeouts()  # how long it takes says how busy the machine is

    async def one() -> None:
        assert (await ask("tokens?count=20")).usage == Usage(11, 20)

    start = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(one)
    assert time.monotonic() - start < 30
    assert upstream.open_requests == 0
