"""The official SDKs, with nothing but their base URL changed, before every kind of provider: each dialect says the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
import sdks
from mock_upstream import KINDS, Upstream

# The SDKs stop reading at the last event, and leave the generators of their HTTP client to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(httpcore2|httpx2|openai|anthropic)\.:ResourceWarning"
)

TEXT = "Hello from the mock model."
PNG = "data:image/png;base64,AA=="
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


@pytest.fixture(params=KINDS)
def kind(request: Any) -> str:
    found: str = request.param
    return found


@pytest.fixture
async def running(
    kind: str, upstream: Upstream, run_chat: Callable[..., AbstractAsyncContextManager[Any]]
) -> AsyncIterator[Any]:
    # What is tried again, and after which pause, has tests of its own.
    async with run_chat(providers={"mock": upstream.provider(kind, key="k")}, routing={"attempts": 1}) as chat:
        yield chat
    assert upstream.open_requests == 0
    await upstream.until(lambda server: server.connections == 0)


@attrs.define
class Said:
    """An answer, whatever dialect it came in."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = attrs.field(factory=list)
    finish: str = ""
    prompt: int = 0
    completion: int = 0
    id: str = ""
    model: str = ""


class Chat:
    """The `openai` SDK, Chat Completions."""

    finishes = ("stop", "length", "tool_calls")

    def __init__(self, url: str) -> None:
        self.error: Any = sdks.openai
        self.client: Any = sdks.openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=2)

    async def ask(
        self, model: str, stream: bool, *, image: bool = False, tools: bool = False, schema: bool = False, **more: Any
    ) -> Said:
        content: Any = "Hello"
        if image:
            content = [{"type": "text", "text": "Hello"}, {"type": "image_url", "image_url": {"url": PNG}}]
        if tools:
            function = {"name": "weather", "description": "tells", "parameters": SCHEMA}
            more["tools"] = [{"type": "function", "function": function}]
        if schema:
            more["response_format"] = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
        messages: Any = [{"role": "user", "content": content}]
        if not stream:
            answer = await self.client.chat.completions.create(model=model, messages=messages, **more)
            message = answer.choices[0].message
            return Said(
                message.content or "",
                getattr(message, "reasoning_content", None) or "",
                [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []],
                answer.choices[0].finish_reason,
                answer.usage.prompt_tokens,
                answer.usage.completion_tokens,
                answer.id,
                answer.model,
            )
        said = Said()
        calls: dict[int, list[str]] = {}
        options = {"include_usage": True}
        async for chunk in await self.client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options=options, **more
        ):
            said.id, said.model = chunk.id, chunk.model
            if chunk.usage:
                said.prompt, said.completion = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
            for choice in chunk.choices:
                said.text += choice.delta.content or ""
                said.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                said.finish = choice.finish_reason or said.finish
                for delta in choice.delta.tool_calls or []:
                    known = calls.setdefault(delta.index, [delta.function.name, ""])
                    known[1] += delta.function.arguments or ""
        said.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
        return said


class Responses:
    """The `openai` SDK, Responses."""

    finishes = ("completed", "incomplete", "completed")

    def __init__(self, url: str) -> None:
        self.error: Any = sdks.openai
        self.client: Any = sdks.openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=2)

    async def ask(
        self, model: str, stream: bool, *, image: bool = False, tools: bool = False, schema: bool = False, **more: Any
    ) -> Said:
        content: list[Any] = [{"type": "input_text", "text": "Hello"}]
        if image:
            content.append({"type": "input_image", "image_url": PNG})
        if tools:
            more["tools"] = [{"type": "function", "name": "weather", "description": "tells", "parameters": SCHEMA}]
        if schema:
            more["text"] = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
        items: Any = [{"role": "user", "content": content}]
        said = Said()
        if stream:
            final = None
            async for event in await self.client.responses.create(model=model, input=items, stream=True, **more):
                if event.type == "error":
                    raise sdks.openai.APIError(event.message, request=None, body=None)  # type: ignore[arg-type]
                if event.type == "response.output_text.delta":
                    said.text += event.delta
                if event.type in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
                    said.reasoning += event.delta
                if event.type in ("response.completed", "response.incomplete"):
                    final = event.response
            assert final is not None
            assert final.output_text == said.text
        else:
            final = await self.client.responses.create(model=model, input=items, **more)
            said.text = final.output_text
            for item in final.output:
                if item.type == "reasoning":
                    said.reasoning += "".join(part.text for part in [*(item.summary or []), *(item.content or [])])
        said.calls = [
            (item.name, json.loads(item.arguments or "{}")) for item in final.output if item.type == "function_call"
        ]
        said.finish, said.id, said.model = final.status, final.id, final.model
        said.prompt, said.completion = final.usage.input_tokens, final.usage.output_tokens
        return said


class Messages:
    """The `anthropic` SDK."""

    finishes = ("end_turn", "max_tokens", "tool_use")

    def __init__(self, url: str) -> None:
        self.error: Any = sdks.anthropic
        self.client: Any = sdks.anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=2)

    async def ask(
        self, model: str, stream: bool, *, image: bool = False, tools: bool = False, schema: bool = False, **more: Any
    ) -> Said:
        content: list[Any] = [{"type": "text", "text": "Hello"}]
        if image:
            source = {"type": "base64", "media_type": "image/png", "data": "AA=="}
            content.append({"type": "image", "source": source})
        if tools:
            more["tools"] = [{"name": "weather", "description": "tells", "input_schema": SCHEMA}]
        if schema:
            more["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        question: Any = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": content}], **more}
        if stream:
            async with self.client.messages.stream(**question) as events:
                async for _ in events:
                    pass
                final = await events.get_final_message()
        else:
            final = await self.client.messages.create(**question)
        usage = final.usage
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return Said(
            "".join(block.text for block in final.content if block.type == "text"),
            "".join(block.thinking for block in final.content if block.type == "thinking"),
            [(block.name, block.input) for block in final.content if block.type == "tool_use"],
            final.stop_reason,
            usage.input_tokens + cached,
            usage.output_tokens,
            final.id,
            final.model,
        )


@pytest.fixture(params=[Chat, Responses, Messages], ids=["chat", "responses", "messages"])
async def sdk(request: Any, running: Any) -> AsyncIterator[Any]:
    sdk = request.param(running.url)
    async with contextlib.aclosing(_Closing(sdk.client)):
        yield sdk


class _Closing:
    def __init__(self, client: Any) -> None:
        self.aclose = client.close


@STREAM
async def test_chat(sdk: Any, kind: str, running: Any, stream: bool) -> None:
    said = await sdk.ask("mock/tokens", stream)
    assert (said.text, said.finish) == ("tok0 tok1 tok2 tok3 tok4 ", sdk.finishes[0])
    assert said.model == "mock/tokens", "the name that the client knows, also where the answer is handed on"
    assert (said.prompt, said.completion) == (11, 5 if kind == "openai" else 7)
    report = (await running.client.get("/usage", headers={"X-User-ID": "local"})).json()["usage"]
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in report] == [(said.prompt, said.completion)]


@STREAM
async def test_tools(sdk: Any, kind: str, running: Any, stream: bool) -> None:
    said = await sdk.ask("mock/parallel-tools", stream, tools=True)
    assert said.calls == [("weather", {"city": "Oslo"}), ("time", {"zone": "CET"})]
    assert said.finish == sdk.finishes[2]
    assert "weather" in json.dumps(running.upstream.requests[-1].json()["tools"])


@STREAM
async def test_tools_without_arguments(sdk: Any, kind: str, stream: bool) -> None:
    if kind == "openai" and not stream:
        pytest.skip("that mock only streams it")
    assert (await sdk.ask("mock/tool-args-empty", stream, tools=True)).calls == [("now", {})]


@STREAM
async def test_reasoning(sdk: Any, kind: str, stream: bool) -> None:
    if kind == "openai" and not stream:
        pytest.skip("that mock only streams it")
    said = await sdk.ask("mock/reasoning", stream)
    assert (said.reasoning, said.text) == ("Let me think. ", TEXT)


@STREAM
async def test_images_and_structured_output(sdk: Any, kind: str, running: Any, stream: bool) -> None:
    await sdk.ask("mock/tokens", stream, image=True, schema=True)
    asked = json.dumps(running.upstream.requests[-1].json())
    assert "AA==" in asked
    assert '"city"' in asked


@STREAM
@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("nobody-knows-it", "NotFoundError"),
        ("rate-limited", "RateLimitError"),
        ("http-error?status=500", "InternalServerError"),
        ("http-error?status=401", "InternalServerError"),
        ("http-error?status=400&body=json", "BadRequestError"),
        ("overloaded", "InternalServerError"),
    ],
)
async def test_errors(sdk: Any, kind: str, running: Any, scenario: str, error: str, stream: bool) -> None:
    with pytest.raises(getattr(sdk.error, error)) as caught:
        await sdk.ask(f"mock/{scenario}", stream)
    assert isinstance(caught.value.body, dict)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "secret" not in str(caught.value)


async def test_an_error_in_the_middle_of_a_stream(sdk: Any, kind: str) -> None:
    with pytest.raises(sdk.error.APIError, match="overloaded"):
        await sdk.ask("mock/error-frame-later", True)


async def test_an_answer_that_breaks_off_is_an_error(sdk: Any, kind: str) -> None:
    with pytest.raises(sdk.error.APIError, match="before it"):
        await sdk.ask("mock/cut-mid-content", True)


@pytest.mark.parametrize("sdk", [Messages], indirect=True)
async def test_tokens_are_counted(sdk: Any, kind: str) -> None:
    question: Any = {"model": "mock/tokens", "messages": [{"role": "user", "content": "x" * 400}]}
    assert (await sdk.client.messages.count_tokens(**question)).input_tokens == (42 if kind == "anthropic" else 103)


async def test_models_in_each_form(running: Any, kind: str) -> None:
    expected = ["mock/tokens", "mock/text-embedding-mock", "offline/retrieval"]
    async with sdks.openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="x") as gpt:
        assert [model.id async for model in gpt.models.list()] == expected
        assert (await gpt.models.retrieve("mock/tokens")).owned_by == "mock"
    async with sdks.anthropic.AsyncAnthropic(base_url=running.url, api_key="x") as claude:
        assert [model.id async for model in claude.models.list(limit=1)] == expected
        assert (await claude.models.retrieve("mock/tokens")).display_name == "tokens"


async def test_embeddings(running: Any, kind: str) -> None:
    """The SDK asks for base64 by itself."""
    async with sdks.openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="x") as gpt:
        asking: Any = {"model": "mock/text-embedding-mock", "input": ["one", "three"]}
        if kind == "anthropic":
            with pytest.raises(sdks.openai.BadRequestError, match="cannot make embeddings"):
                await gpt.embeddings.create(**asking)
            return
        answer = await gpt.embeddings.create(**asking)
        assert [row.embedding for row in answer.data] == [[3.0, 0.5, -1.0], [5.0, 0.5, -1.0]]
        plain = await gpt.embeddings.create(**asking, encoding_format="float")
        assert plain.data[0].embedding == [3.0, 0.5, -1.0]
