"""Anthropic, Gemini, Ollama and Responses over real sockets: what they answer well arrives whole, what they do wrong is an error that says so, and nothing stays open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from mock_upstream import Upstream

from uait.errors import APIError, BadRequest, DeadlineExceeded, NotFound, TooManyRequests, Unavailable, UpstreamError
from uait.llm.find import find_providers
from uait.llm.kinds import ProviderSettings
from uait.llm.messages import Chunk, Collected, GenerateRequest, Image, Message, Tool, ToolCall, ToolChoice, Usage
from uait.llm.messages import message as turn
from uait.llm.provider import CountsTokens
from uait.llm.providers.anthropic import AnthropicProvider
from uait.llm.providers.gemini import GeminiProvider
from uait.llm.providers.ollama import OllamaProvider
from uait.llm.providers.openai_responses import ResponsesProvider
from uait.llm.upstream import Timeouts

Ask = Callable[..., Awaitable[Collected]]
Question = Callable[..., GenerateRequest]
KINDS = ["anthropic", "gemini", "ollama", "responses"]
TEXT = "Hello from the mock model."
STREAM = [True, False]


def make(kind: str, upstream: Upstream, **more: Any) -> Any:
    timeouts = Timeouts(**{"connect": 5, "first_token": 30, "idle": 30, "total": 60, **more})
    match kind:
        case "anthropic":
            return AnthropicProvider("mock", upstream.root, "sk-secret", timeouts=timeouts)
        case "gemini":
            return GeminiProvider("mock", upstream.root, "sk-secret", timeouts=timeouts)
        case "ollama":
            return OllamaProvider("mock", upstream.root, timeouts=timeouts)
        case _:
            return ResponsesProvider("mock", upstream.url, "sk-secret", always=True, timeouts=timeouts)


@pytest.fixture(params=KINDS)
def kind(request: Any) -> str:
    found: str = request.param
    return found


@pytest.fixture
async def provider(kind: str, upstream: Upstream) -> AsyncIterator[Any]:
    provider = make(kind, upstream)
    yield provider
    await provider.aclose()


@pytest.mark.parametrize(
    "scenario",
    [
        "whole",
        "finish-then-cut",
        "finish-then-silence",
        "last-line-unended",
        "crlf",
        "pings?seconds=0.3",
        "gzipped",
        "ignores-stream",
        "no-usage",
        "reasoning",
    ],
)
async def test_whole_answers(
    ask: Ask, kind: str, upstream: Upstream, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uait.llm.stream.TAIL_TIMEOUT", 0.2)
    answer = await ask(scenario)
    assert (answer.text, answer.finish) == (TEXT, "stop")
    await upstream.until(lambda server: server.open_requests == 0)


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


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_why_it_ended(ask: Ask, kind: str, reason: str, stream: bool) -> None:
    if (kind, reason) == ("ollama", "content_filter"):
        pytest.skip("it filters nothing")
    assert (await ask(f"whole?reason={reason}", stream=stream)).finish == reason


async def test_tokens_come_as_they_are_made(provider: Any, question: Question) -> None:
    async with provider.stream(question("stall")) as chunks:
        with trio.fail_after(5):
            assert await anext(chunks) == Chunk("Hello")


@pytest.mark.parametrize("stream", STREAM)
async def test_usage_is_the_providers(ask: Ask, kind: str, stream: bool) -> None:
    """Anthropic's parts are added up and the last count is the whole, Gemini's thoughts belong to the answer."""
    usage = {"ollama": Usage(11, 7), "anthropic": Usage(11, 7, cached_tokens=2)}
    assert (await ask("whole", stream=stream)).usage == usage.get(kind, Usage(11, 7, 2, 2))


@pytest.mark.parametrize("stream", STREAM)
async def test_tool_calls(ask: Ask, kind: str, stream: bool) -> None:
    answer = await ask("parallel-tools", stream=stream)
    assert [(call.name, call.input) for call in answer.tool_calls] == [
        ("weather", {"city": "Oslo"}),
        ("time", {"zone": "CET"}),
    ]
    assert (answer.finish, answer.reasoning) == ("tool_calls", "Hm.")
    ids = [call.id for call in answer.tool_calls]
    assert len(set(ids)) == 2
    if kind != "ollama":
        assert ids == ["call_a", "call_b"]


@pytest.mark.parametrize("stream", STREAM)
async def test_a_call_without_arguments(ask: Ask, stream: bool) -> None:
    (call,) = (await ask("tool-args-empty", stream=stream)).tool_calls
    assert (call.name, call.input) == ("now", {})


@pytest.mark.parametrize("stream", STREAM)
async def test_reasoning_is_kept_apart(ask: Ask, stream: bool) -> None:
    answer = await ask("reasoning", stream=stream)
    assert (answer.reasoning, answer.text) == ("Let me think. ", TEXT)


@pytest.mark.parametrize(
    "scenario",
    ["cut-after-headers", "cut-after-role", "cut-mid-content", "reset-mid-content", "end-mid-content", "not-json"],
)
async def test_an_answer_cut_short_is_an_error(ask: Ask, upstream: Upstream, scenario: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask(scenario)
    assert caught.value.http_status == 502
    assert caught.value.headers["x-should-retry"] == "false"
    # An orderly end leaves a connection that can be used again.
    await upstream.until(
        lambda server: server.open_requests == 0 and server.connections <= (scenario[:3] in ("end", "not"))
    )


async def test_what_an_interrupted_answer_used_is_not_known(ask: Ask, provider: Any, question: Question) -> None:
    """The count in Anthropic's first event is not what was used."""
    answer = Collected()
    with pytest.raises(UpstreamError):
        async with provider.stream(question("cut-mid-content")) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
    assert (answer.text, answer.usage) == ("Hello from the", None)


async def test_an_event_without_end_is_ended(ask: Ask, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamError, match="more than any answer"):
        await ask("endless-event")
    await upstream.until(lambda server: server.connections == 0)


async def test_what_came_before_an_error_is_handed_out_first(provider: Any, question: Question) -> None:
    answer = Collected()
    with pytest.raises(APIError, match="overloaded"):
        async with provider.stream(question("error-frame-later")) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
    assert answer.text == "Hello from"


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize(
    ("scenario", "error", "words"),
    [
        ("http-error?status=502&body=html", UpstreamError, "answered 502"),
        ("http-error?status=500&body=empty", UpstreamError, "answered 500"),
        ("http-error?status=500", UpstreamError, "It is broken"),
        ("http-error?status=400", BadRequest, "It is broken"),
        ("http-error?status=504", DeadlineExceeded, "It is broken"),
        ("overloaded", Unavailable, "Overloaded"),
        ("unknown-model", NotFound, "no model unknown-model"),
    ],
)
async def test_errors_keep_their_meaning(
    ask: Ask, scenario: str, error: type[APIError], words: str, stream: bool
) -> None:
    with pytest.raises(error, match=words) as caught:
        await ask(scenario, stream=stream)
    assert caught.value.headers["x-should-retry"] == "false"
    assert "secret" not in caught.value.text


async def test_an_error_in_place_of_an_answer(ask: Ask, kind: str) -> None:
    for stream in STREAM:
        with pytest.raises(APIError, match="overloaded") as caught:
            await ask("error-frame-first", stream=stream)
        assert caught.value.http_status == (502 if kind == "ollama" or (kind == "responses" and not stream) else 503)


async def test_a_refused_key_is_our_fault_and_never_quoted(ask: Ask) -> None:
    with pytest.raises(UpstreamError) as caught:
        await ask("http-error?status=401")
    assert caught.value.error_code == "PROVIDER_REFUSED_KEY"


@pytest.mark.parametrize(("wait", "low", "high"), [("seconds", 7, 7), ("date", 25, 31), ("ms", 2, 3)])
async def test_retry_after_is_understood_in_every_form(ask: Ask, wait: str, low: int, high: int) -> None:
    with pytest.raises(TooManyRequests) as caught:
        await ask(f"rate-limited?wait={wait}")
    assert low <= int(caught.value.headers["Retry-After"]) <= high


@pytest.mark.parametrize("kind", ["gemini"])
async def test_googles_own_ways_to_say_when(ask: Ask, kind: str) -> None:
    with pytest.raises(TooManyRequests) as caught:
        await ask("rate-limited?wait=google")
    assert (caught.value.error_code, caught.value.headers["Retry-After"]) == ("RATE_LIMITED", "46")
    with pytest.raises(TooManyRequests) as caught:
        await ask("rate-limited?wait=daily")
    assert caught.value.error_code == "INSUFFICIENT_QUOTA"


@pytest.mark.parametrize("scenario", ["silent", "silent-after-headers", "stall", "pings?seconds=60"])
async def test_silence_has_an_end(ask: Ask, provider: Any, upstream: Upstream, scenario: str) -> None:
    provider._http.timeouts = Timeouts(first_token=0.5, idle=0.5)
    with pytest.raises(DeadlineExceeded) as caught, trio.fail_after(10):
        await ask(scenario)
    assert caught.value.error_code == "UPSTREAM_TIMEOUT"
    await upstream.until(lambda server: server.connections == 0)


@pytest.mark.parametrize("scenario", ["silent", "silent-after-headers", "stall", "tokens?count=1000&delay=0.01"])
@pytest.mark.parametrize("stream", STREAM)
async def test_cancelling_ends_the_question_at_the_server(
    provider: Any, upstream: Upstream, question: Question, scenario: str, stream: bool
) -> None:
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            async with provider.stream(question(scenario, stream=stream)) as chunks:
                async for _ in chunks:
                    pass

        nursery.start_soon(ask)
        await upstream.until(lambda server: server.open_requests == 1)
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel(reason="the test has seen enough")
    await upstream.until(lambda server: server.connections == 0)
    assert (upstream.open_requests, upstream.left) == (0, 1)


@pytest.mark.parametrize("stream", STREAM)
async def test_a_whole_answer_gives_its_connection_back(ask: Ask, upstream: Upstream, stream: bool) -> None:
    for _ in range(5):
        await ask("whole", stream=stream)
    assert (upstream.accepted, len(upstream.requests)) == (1, 5)


@pytest.mark.parametrize("stream", STREAM)
async def test_a_pooled_connection_closed_meanwhile_is_replaced_once(
    ask: Ask, upstream: Upstream, stream: bool
) -> None:
    for _ in range(3):
        assert (await ask("close-idle", stream=stream)).text == TEXT
    assert (upstream.accepted, len(upstream.requests)) == (3, 3)


async def test_models(provider: Any, kind: str, upstream: Upstream) -> None:
    first, *more = await provider.models()
    assert (first.id, first.context_length) == ("tokens", 4096)
    assert "chat" in first.capabilities
    assert [model.id for model in more] == ["text-embedding-mock"], "every page, and nothing that cannot answer"
    if kind != "anthropic":
        assert more[0].capabilities == ("embeddings",)
    if kind != "gemini":
        assert first.created == 5
    paged = ["second"] if kind in ("anthropic", "gemini") else []
    for wrong in ("error", "page", *paged):
        upstream.models = wrong
        with pytest.raises(UpstreamError):
            await provider.models()


async def test_embeddings(provider: Any, kind: str) -> None:
    if kind == "anthropic":
        with pytest.raises(BadRequest, match="cannot make embeddings"):
            await provider.embed("text-embedding-mock", ["one"])
        return
    answer = await provider.embed("text-embedding-mock", ["one", "three"])
    assert answer.vectors == ((3.0, 0.5, -1.0), (5.0, 0.5, -1.0))
    assert answer.usage.prompt_tokens == (3 if kind == "gemini" else 6)


PNG = "data:image/png;base64,AA=="


def everything(**more: Any) -> GenerateRequest:
    settings: dict[str, Any] = {
        "model": "whole",
        "messages": (
            turn("system", "Be brief."),
            Message("user", (Image(PNG), *turn("user", "What time?").parts)),
            Message("assistant", tool_calls=(ToolCall("c1", "now", '{"in":"Oslo"}'), ToolCall("c2", "now", "oops"))),
            Message("tool", turn("tool", "noon").parts, tool_call_id="c1"),
            Message("tool", turn("tool", '{"hour": 1}').parts, tool_call_id="c2"),
        ),
        "memories": ("likes tea",),
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "tools": (Tool("now", "tells the time", {"type": "object"}),),
        "tool_choice": ToolChoice("auto"),
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    }
    return GenerateRequest(**{**settings, **more})


REMEMBERED = "What the user told earlier and may matter for this conversation:\n- likes tea"


async def test_what_anthropic_is_asked(upstream: Upstream) -> None:
    provider = make("anthropic", upstream)
    async with provider.stream(everything(stop=("END",), extra={"top_k": 3, "user": "u", "store": True})) as chunks:
        async for _ in chunks:
            pass
    seen = upstream.requests[0]
    assert (seen.path, seen.headers["x-api-key"]) == ("/v1/messages", "sk-secret")
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.json() == {
        "model": "whole",
        "system": [{"type": "text", "text": REMEMBERED}, {"type": "text", "text": "Be brief."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                    {"type": "text", "text": "What time?"},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "c1", "name": "now", "input": {"in": "Oslo"}},
                    {"type": "tool_use", "id": "c2", "name": "now", "input": {"invalid_arguments": "oops"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "noon"}]},
                    {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": '{"hour": 1}'}]},
                ],
            },
        ],
        "max_tokens": 7,
        "stream": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "tools": [{"name": "now", "description": "tells the time", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    }
    await provider.aclose()


async def test_what_gemini_is_asked(upstream: Upstream) -> None:
    provider = make("gemini", upstream)
    extra = {"seed": 3, "logprobs": True, "top_logprobs": 2, "reasoning_effort": "low"}
    async with provider.stream(everything(stop=("END",), extra=extra)) as chunks:
        async for _ in chunks:
            pass
    seen = upstream.requests[0]
    assert seen.path == "/v1beta/models/whole:streamGenerateContent?alt=sse"
    assert seen.headers["x-goog-api-key"] == "sk-secret"
    first = {"name": "now", "args": {"in": "Oslo"}}
    second = {"name": "now", "args": {"invalid_arguments": "oops"}}
    assert seen.json() == {
        "systemInstruction": {"parts": [{"text": REMEMBERED}, {"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}, {"text": "What time?"}],
            },
            {"role": "model", "parts": [{"functionCall": first}, {"functionCall": second}]},
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "now", "response": {"output": "noon"}}},
                    {"functionResponse": {"name": "now", "response": {"hour": 1}}},
                ],
            },
        ],
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "maxOutputTokens": 7,
            "stopSequences": ["END"],
            "seed": 3,
            "responseLogprobs": True,
            "logprobs": 2,
            "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
        },
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "now", "description": "tells the time", "parametersJsonSchema": {"type": "object"}}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    }
    await provider.aclose()


async def test_what_ollama_is_asked(upstream: Upstream) -> None:
    provider = make("ollama", upstream)
    async with provider.stream(everything(stop=("END",), extra={"seed": 3, "reasoning_effort": "none"})) as chunks:
        async for _ in chunks:
            pass
    calls = [
        {"id": "c1", "function": {"name": "now", "arguments": {"in": "Oslo"}}},
        {"id": "c2", "function": {"name": "now", "arguments": {"invalid_arguments": "oops"}}},
    ]
    assert upstream.requests[0].path == "/api/chat"
    assert upstream.requests[0].json() == {
        "model": "whole",
        "messages": [
            {"role": "system", "content": REMEMBERED},
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What time?", "images": ["AA=="]},
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "content": "noon", "tool_call_id": "c1", "tool_name": "now"},
            {"role": "tool", "content": '{"hour": 1}', "tool_call_id": "c2", "tool_name": "now"},
        ],
        "stream": True,
        "think": False,
        "format": {"type": "object"},
        "options": {"temperature": 0.5, "top_p": 0.9, "num_predict": 7, "stop": ["END"], "seed": 3},
        "tools": [
            {
                "type": "function",
                "function": {"name": "now", "description": "tells the time", "parameters": {"type": "object"}},
            }
        ],
    }
    await provider.aclose()


async def test_what_responses_is_asked(upstream: Upstream) -> None:
    provider = make("responses", upstream)
    extra = {"reasoning_effort": "low", "logprobs": True, "verbosity": "low"}
    async with provider.stream(everything(extra=extra)) as chunks:
        async for _ in chunks:
            pass
    image = {"type": "input_image", "image_url": PNG, "detail": "auto"}
    assert upstream.requests[0].path == "/v1/responses"
    assert upstream.requests[0].json() == {
        "model": "whole",
        "input": [
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": REMEMBERED}]},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [image, {"type": "input_text", "text": "What time?"}]},
            {"type": "function_call", "call_id": "c1", "name": "now", "arguments": '{"in":"Oslo"}'},
            {"type": "function_call", "call_id": "c2", "name": "now", "arguments": "oops"},
            {"type": "function_call_output", "call_id": "c1", "output": "noon"},
            {"type": "function_call_output", "call_id": "c2", "output": '{"hour": 1}'},
        ],
        "stream": True,
        "store": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 7,
        "include": ["message.output_text.logprobs"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "tools": [
            {
                "type": "function",
                "name": "now",
                "description": "tells the time",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "tool_choice": "auto",
    }
    await provider.aclose()


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
async def test_signed_thoughts_are_returned_with_their_call(
    ask: Ask, provider: Any, kind: str, upstream: Upstream, question: Question
) -> None:
    """No other dialect has a place for them, and the provider refuses the tool's result without."""
    for stream in STREAM:
        answer = await ask("parallel-tools", stream=stream)
        messages = (
            turn("user", "Hello"),
            Message("assistant", tool_calls=answer.tool_calls),
            Message("tool", turn("tool", "rain").parts, tool_call_id="call_a"),
            Message("tool", turn("tool", "noon").parts, tool_call_id="call_b"),
        )
        async with provider.stream(GenerateRequest(model="whole", messages=messages)) as chunks:
            async for _ in chunks:
                pass
        asked = upstream.requests[-1].json()
        if kind == "anthropic":
            thought = asked["messages"][1]["content"][0]
            assert thought == {"type": "thinking", "thinking": "Hm.", "signature": "signed"}
        else:
            parts = asked["contents"][1]["parts"]
            assert [part.get("thoughtSignature") for part in parts] == ["signed", None]
            assert [part["functionCall"]["id"] for part in parts] == ["call_a", "call_b"]
            results = [part["functionResponse"]["id"] for part in asked["contents"][2]["parts"]]
            assert results == ["call_a", "call_b"]


async def test_what_one_key_was_told_is_known_under_the_others(upstream: Upstream) -> None:
    """A tool's result may go to another key than its call came from, and is refused without the thoughts; so is an answer that may be longer than its model can write."""
    settings = ProviderSettings(kind="anthropic", base_url=upstream.root, keys=("one", "two"))
    entry = find_providers({}, {"mock": settings}, local=False)[0]
    one, two = entry.keys
    upstream.models = ["whole"]
    await one.models()
    answer = Collected()
    async with one.stream(GenerateRequest(model="parallel-tools", messages=(turn("user", "Hello"),))) as chunks:
        async for chunk in chunks:
            answer.add(chunk)
    messages = (turn("user", "Hello"), Message("assistant", tool_calls=answer.tool_calls))
    async with two.stream(GenerateRequest(model="whole", messages=messages)):
        pass
    assert upstream.requests[-1].headers["x-api-key"] == "two"
    asked = upstream.requests[-1].json()
    assert asked["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "signed"}
    assert asked["max_tokens"] == 512
    for key in entry.keys:
        await key.aclose()


async def test_a_call_of_another_models_is_marked_as_unsigned(upstream: Upstream) -> None:
    provider = make("gemini", upstream)
    request = everything(model="gemini-3-pro")
    with pytest.raises(NotFound):
        async with provider.stream(request):
            pass
    first, second = upstream.requests[0].json()["contents"][1]["parts"]
    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second
    await provider.aclose()


ELSEWHERE = Image("https://example.org/a.png")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("anthropic", {"extra": {"seed": 3}}),
        ("anthropic", {"extra": {"logprobs": True}}),
        ("anthropic", {"temperature": 1.5}),
        ("anthropic", {"response_format": {"type": "json_object"}}),
        ("gemini", {"extra": {"parallel_tool_calls": False}}),
        ("gemini", {"messages": (Message("user", (ELSEWHERE,)),)}),
        ("gemini", {"messages": (Message("tool", turn("tool", "x").parts, tool_call_id="nobody"),)}),
        ("ollama", {"tool_choice": ToolChoice("required")}),
        ("ollama", {"extra": {"logit_bias": {"5": 1}}}),
        ("ollama", {"messages": (Message("user", (ELSEWHERE,)),)}),
        ("responses", {"stop": ("END",)}),
        ("responses", {"extra": {"seed": 3}}),
        *[
            (kind, {"messages": (Message("user", (Image(url),)),)})
            for kind in ("anthropic", "gemini", "ollama")
            for url in ("file:///etc/passwd", "data:image/png;base64,A", "data:text/html;base64,AA==", "data:,x")
        ],
    ],
)
async def test_what_a_provider_cannot_do_is_refused_before_anything_is_sent(
    upstream: Upstream, kind: str, more: dict[str, Any]
) -> None:
    provider = make(kind, upstream)
    with pytest.raises(BadRequest):
        async with provider.stream(everything(**more)):
            pass
    assert upstream.accepted == 0
    await provider.aclose()


async def test_what_goes_without_saying_may_be_said(ask: Ask) -> None:
    extra = {
        "frequency_penalty": 0,
        "logprobs": False,
        "parallel_tool_calls": True,
        "user": "u",
        "metadata": {"a": "b"},
    }
    assert (await ask("whole", extra=extra)).text == TEXT


async def test_an_image_that_is_too_large(ask: Ask, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "responses":
        pytest.skip("it fetches and measures images itself")
    monkeypatch.setattr("uait.llm.attachments.MAX_BYTES", 30)
    with pytest.raises(BadRequest, match="must not be larger than 30 bytes"):
        await ask("whole", messages=(Message("user", (Image(PNG.replace("AA==", "A" * 48)),)),))


async def test_anthropic_counts_tokens(upstream: Upstream) -> None:
    provider = make("anthropic", upstream)
    assert isinstance(provider, CountsTokens)
    assert await provider.count_tokens(everything()) == 42
    asked = upstream.requests[0].json()
    assert "max_tokens" not in asked
    assert asked["tools"]
    await provider.aclose()


async def test_a_models_own_limit_is_kept(upstream: Upstream, question: Question) -> None:
    """Anthropic wants a limit; where the request has none it is not above the model's."""
    provider = make("anthropic", upstream)
    await provider.models()
    async with provider.stream(question("tokens")) as chunks:
        async for _ in chunks:
            pass
    assert upstream.requests[-1].json()["max_tokens"] == 512
    await provider.aclose()


async def test_a_models_name_cannot_lead_elsewhere(upstream: Upstream, question: Question) -> None:
    provider = make("gemini", upstream)
    with pytest.raises(NotFound):
        async with provider.stream(question("../../v1/files?x=1#")):
            pass
    assert upstream.requests[0].path.startswith("/v1beta/models/..%2F..%2Fv1%2Ffiles%3Fx%3D1%23:stream")
    await provider.aclose()
