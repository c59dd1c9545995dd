"""The official SDKs of OpenAI and Anthropic work with only their base URL changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sdks

from uait.llm.routing import RoutingSettings

# The SDKs stop reading at the last event, and leave the generators of their HTTP client to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(httpcore2|httpx2|openai|anthropic)\.:ResourceWarning"
)

TEXT = "Hello from the mock model."
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "description": "tells", "parameters": {"type": "object", "properties": {}}},
}
USER: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def gpt(running: Any) -> AsyncIterator[sdks.openai.AsyncOpenAI]:
    async with sdks.openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="x") as client:
        yield client


@pytest.fixture
async def claude(running: Any) -> AsyncIterator[sdks.anthropic.AsyncAnthropic]:
    async with sdks.anthropic.AsyncAnthropic(base_url=running.url, api_key="x") as client:
        yield client


async def test_openai_chat(gpt: sdks.openai.AsyncOpenAI) -> None:
    answer = await gpt.chat.completions.create(model="mock/tokens", messages=USER)
    assert answer.choices[0].message.content == "tok0 tok1 tok2 tok3 tok4 "
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "mock/tokens")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (11, 16)


@pytest.mark.parametrize("usage", [True, False])
async def test_openai_stream(gpt: sdks.openai.AsyncOpenAI, usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    stream = await gpt.chat.completions.create(model="mock/tokens", messages=USER, stream=True, **options)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "tok0 tok1 tok2 tok3 tok4 "
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    counted = [chunk for chunk in chunks if chunk.usage]
    assert len(counted) == usage
    if usage:
        assert counted[0].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 16


@pytest.mark.parametrize("stream", [True, False])
async def test_openai_tools(gpt: sdks.openai.AsyncOpenAI, running: Any, stream: bool) -> None:
    if stream:
        calls: dict[int, list[str]] = {}
        async for chunk in await gpt.chat.completions.create(
            model="mock/parallel-tools", messages=USER, tools=[TOOL], stream=True
        ):
            for delta in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
                assert delta.function is not None
                known = calls.setdefault(delta.index, [delta.id or "", delta.function.name or "", ""])
                known[2] += delta.function.arguments or ""
        found = [tuple(known) for known in calls.values()]
    else:
        answer = await gpt.chat.completions.create(model="mock/parallel-tools", messages=USER, tools=[TOOL])
        assert answer.choices[0].finish_reason == "tool_calls"
        found = [
            (call.id, call.function.name, call.function.arguments)  # type: ignore[union-attr]
            for call in answer.choices[0].message.tool_calls or []
        ]
    assert found == [("call_a", "weather", '{"city": "Oslo"}'), ("call_b", "time", '{"zone": "CET"}')]
    assert running.upstream.requests[-1].json()["tools"] == [TOOL]


async def test_openai_passes_on_what_it_does_not_know(gpt: sdks.openai.AsyncOpenAI, running: Any) -> None:
    await gpt.chat.completions.create(
        model="mock/tokens", messages=USER, seed=7, logit_bias={"5": 1}, extra_body={"top_k": 3}
    )
    asked = running.upstream.requests[-1].json()
    assert (asked["seed"], asked["logit_bias"], asked["top_k"], asked["stream"]) == (7, {"5": 1}, 3, False)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("nobody/knows", "NotFoundError"),
        ("mock/rate-limited?wait=seconds", "RateLimitError"),
        ("mock/http-error", "InternalServerError"),
        ("mock/http-error?status=400&body=json", "BadRequestError"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_openai_errors(gpt: sdks.openai.AsyncOpenAI, running: Any, model: str, kind: str, stream: bool) -> None:
    with pytest.raises(getattr(sdks.openai, kind)) as caught:
        await gpt.chat.completions.create(model=model, messages=USER, stream=stream)
    assert isinstance(caught.value.body, dict)
    assert {"message", "type", "param", "code"} <= caught.value.body.keys()
    # Whoever is nearest to the provider repeats; the SDK does not do so as well.
    assert sum(seen.method == "POST" for seen in running.upstream.requests) <= RoutingSettings().attempts


async def test_openai_error_in_the_middle_of_a_stream(gpt: sdks.openai.AsyncOpenAI) -> None:
    stream = await gpt.chat.completions.create(model="mock/error-frame-later", messages=USER, stream=True)
    texts = []
    with pytest.raises(sdks.openai.APIError, match="overloaded"):
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)  # noqa: PERF401  what came before the error counts
    assert "".join(text or "" for text in texts) == "Hello from"


async def test_openai_validation(gpt: sdks.openai.AsyncOpenAI) -> None:
    with pytest.raises(sdks.openai.BadRequestError, match="messages") as caught:
        await gpt.chat.completions.create(model="mock/tokens", messages=[], temperature=9)
    assert caught.value.param == "messages"


async def test_openai_models(gpt: sdks.openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in gpt.models.list()]
    assert listed == ["mock/tokens", "mock/text-embedding-mock", "offline/retrieval"]
    assert (await gpt.models.retrieve("mock/tokens")).owned_by == "mock"
    with pytest.raises(sdks.openai.NotFoundError):
        await gpt.models.retrieve("nobody/knows")


async def test_openai_embeddings(gpt: sdks.openai.AsyncOpenAI) -> None:
    answer = await gpt.embeddings.create(model="mock/text-embedding-mock", input=["one", "three"])
    assert [row.embedding for row in answer.data] == [[3.0, 0.5, -1.0], [5.0, 0.5, -1.0]]
    plain = await gpt.embeddings.create(model="mock/text-embedding-mock", input="one", encoding_format="float")
    assert plain.data[0].embedding == [3.0, 0.5, -1.0]
    with pytest.raises(sdks.openai.BadRequestError, match="cannot make embeddings"):
        await gpt.embeddings.create(model="offline/retrieval", input="one")


async def test_openai_responses(gpt: sdks.openai.AsyncOpenAI) -> None:
    answer = await gpt.responses.create(model="mock/tokens", input="Hello", instructions="Be brief.")
    assert (answer.output_text, answer.status) == ("tok0 tok1 tok2 tok3 tok4 ", "completed")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 16


async def test_openai_responses_stream(gpt: sdks.openai.AsyncOpenAI) -> None:
    events = [event async for event in await gpt.responses.create(model="mock/tokens", input="Hello", stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    final = events[-1]
    assert final.type == "response.completed"
    assert final.response.output_text == "tok0 tok1 tok2 tok3 tok4 "


async def test_openai_responses_stream_helper(gpt: sdks.openai.AsyncOpenAI) -> None:
    """The SDK's accumulator is strict about the order of events."""
    async with gpt.responses.stream(model="mock/parallel-tools", input="Hello") as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert [(item.name, item.arguments) for item in final.output if item.type == "function_call"] == [
        ("weather", '{"city": "Oslo"}'),
        ("time", '{"zone": "CET"}'),
    ]


async def test_openai_responses_with_tools_and_images(gpt: sdks.openai.AsyncOpenAI, running: Any) -> None:
    items: Any = [
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "function_call_output", "call_id": "c2", "output": "sun"},
    ]
    await gpt.responses.create(model="mock/tokens", input=items, reasoning={"effort": "low"})
    asked = running.upstream.requests[-1].json()
    assert [turn["role"] for turn in asked["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in asked["messages"][1]["tool_calls"]] == ["c1", "c2"]
    assert asked["reasoning_effort"] == "low"


async def test_openai_responses_failure(gpt: sdks.openai.AsyncOpenAI) -> None:
    stream = await gpt.responses.create(model="mock/error-frame-later", input="Hello", stream=True)
    events = [event async for event in stream]
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    with pytest.raises(sdks.openai.NotFoundError):
        await gpt.responses.create(model="nobody/knows", input="Hello")
    with pytest.raises(sdks.openai.BadRequestError, match="previous_response_id"):
        await gpt.responses.create(model="mock/tokens", input="Hello", previous_response_id="resp_1")


async def test_anthropic_messages(claude: sdks.anthropic.AsyncAnthropic, running: Any) -> None:
    answer = await claude.messages.create(
        model="mock/tokens",
        max_tokens=50,
        system="Be brief.",
        stop_sequences=["END"],
        messages=[{"role": "user", "content": "Hello"}],
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "tok0 tok1 tok2 tok3 tok4 "
    assert (answer.stop_reason, answer.role, answer.model) == ("end_turn", "assistant", "mock/tokens")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 5)
    asked = running.upstream.requests[-1].json()
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert (asked["max_tokens"], asked["stop"]) == (50, ["END"])


async def test_anthropic_stream(claude: sdks.anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(
        model="mock/reasoning", max_tokens=50, messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[1].type == "text"
    assert final.content[1].text == TEXT
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 7)


@pytest.mark.parametrize("stream", [True, False])
async def test_anthropic_tools(claude: sdks.anthropic.AsyncAnthropic, running: Any, stream: bool) -> None:
    messages: Any = [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
                {"type": "text", "text": "And Oslo?"},
            ],
        },
    ]
    tools: Any = [{"name": "weather", "description": "tells", "input_schema": {"type": "object"}}]
    question: Any = {"model": "mock/parallel-tools", "max_tokens": 50, "messages": messages, "tools": tools}
    if stream:
        async with claude.messages.stream(**question) as events:
            final = await events.get_final_message()
    else:
        final = await claude.messages.create(**question)
    assert final.stop_reason == "tool_use"
    assert [(block.id, block.name, block.input) for block in final.content if block.type == "tool_use"] == [
        ("call_a", "weather", {"city": "Oslo"}),
        ("call_b", "time", {"zone": "CET"}),
    ]
    assert running.upstream.requests[-1].json()["messages"][1:] == [
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
            ],
        },
        {"role": "tool", "content": "sun", "tool_call_id": "t1"},
        {"role": "user", "content": "And Oslo?"},
    ]


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("nobody/knows", "NotFoundError"),
        ("mock/rate-limited", "RateLimitError"),
        ("mock/http-error", "InternalServerError"),
    ],
)
async def test_anthropic_errors(claude: sdks.anthropic.AsyncAnthropic, running: Any, model: str, kind: str) -> None:
    with pytest.raises(getattr(sdks.anthropic, kind)) as caught:
        await claude.messages.create(model=model, max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert sum(seen.method == "POST" for seen in running.upstream.requests) <= RoutingSettings().attempts


async def test_anthropic_error_in_the_middle_of_a_stream(claude: sdks.anthropic.AsyncAnthropic) -> None:
    with pytest.raises(sdks.anthropic.APIStatusError, match="overloaded"):
        async with claude.messages.stream(
            model="mock/error-frame-later", max_tokens=5, messages=[{"role": "user", "content": "x"}]
        ) as stream:
            async for _ in stream:
                pass


async def test_anthropic_count_and_models(claude: sdks.anthropic.AsyncAnthropic) -> None:
    count = await claude.messages.count_tokens(model="mock/tokens", messages=[{"role": "user", "content": "x" * 400}])
    assert count.input_tokens == 103
    listed = [model.id async for model in claude.models.list(limit=1)]
    assert listed == ["mock/tokens", "mock/text-embedding-mock", "offline/retrieval"]
    assert (await claude.models.retrieve("mock/tokens")).display_name == "tokens"


async def test_offline_speaks_all_dialects(gpt: sdks.openai.AsyncOpenAI, claude: sdks.anthropic.AsyncAnthropic) -> None:
    chat = await gpt.chat.completions.create(model="offline", messages=USER)
    responses = await gpt.responses.create(model="offline", input="Hello")
    message = await claude.messages.create(model="offline", max_tokens=500, messages=USER)
    assert message.content[0].type == "text"
    assert chat.choices[0].message.content == responses.output_text == message.content[0].text
    with pytest.raises(sdks.openai.BadRequestError, match="cannot call tools"):
        await gpt.chat.completions.create(model="offline", messages=USER, tools=[TOOL])
