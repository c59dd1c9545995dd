"""Where client and provider speak the same dialect, both get the other's own words, apart from the model's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from mock_upstream import Upstream, scenarios, wired, wires

Run = Callable[..., AbstractAsyncContextManager[Any]]

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "responses": "/v1/responses"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "openai": {"messages": [{"role": "user", "content": "Hello"}]},
    "anthropic": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50},
    "responses": {"input": "Hello"},
}


@pytest.fixture
def run(run_chat: Run, upstream: Upstream) -> Run:
    def run(kind: str) -> AbstractAsyncContextManager[Any]:
        return run_chat(providers={"mock": upstream.provider(kind)})

    return run


async def ask(
    running: Any, kind: str, model: str, *, headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    body = {"model": model, **QUESTIONS[kind], **more}
    response: httpx.Response = await running.client.post(PATHS[kind], json=body, headers=headers)
    return response


def renamed(data: bytes, model: str) -> bytes:
    for name in ("mock", "claude-mock", "gpt-mock"):
        data = data.replace(f'"model": "{name}"'.encode(), f'"model": "{model}"'.encode())
    return data


@pytest.mark.parametrize("kind", ["anthropic", "responses"])
async def test_a_stream_is_the_providers_own(run: Run, upstream: Upstream, kind: str) -> None:
    upstream.models = ["parallel-tools"]
    wire = wires.WIRES[kind]()
    sent = wire.begin() + wire.thought("Hm.") + wire.calls(wired.CALLS) + wire.finish("tool_calls") + wire.done()
    async with run(kind) as running:
        for name in ("mock/parallel-tools", "parallel-tools"):
            response = await ask(running, kind, name, stream=True)
            assert response.content == renamed(sent, name)


@pytest.mark.parametrize("kind", ["anthropic", "responses"])
async def test_an_answer_in_one_piece_is_the_providers_own(run: Run, kind: str) -> None:
    sent = json.dumps(wires.WIRES[kind]().whole("", "Hm.", wired.CALLS, "tool_calls")).encode()
    async with run(kind) as running:
        response = await ask(running, kind, "mock/parallel-tools")
        assert response.content == renamed(sent, "mock/parallel-tools")
        assert response.headers["content-type"] == "application/json"


async def test_chat_completions_too(run: Run) -> None:
    frames = [scenarios.ROLE, *scenarios.words("x" * 1_000_000), scenarios.STOP]
    async with run("openai") as running:
        response = await ask(running, "openai", "mock/big-event", stream=True)
        assert response.content == renamed(b"".join(frames) + scenarios.DONE, "mock/big-event")
        options = {"include_usage": True}
        response = await ask(running, "openai", "mock/big-event", stream=True, stream_options=options)
        assert response.content == renamed(b"".join([*frames, scenarios.USED, scenarios.DONE]), "mock/big-event")
        whole = await ask(running, "openai", "mock/parallel-tools")
        assert (whole.json()["id"], whole.json()["model"]) == ("chatcmpl-1", "mock/parallel-tools")


async def test_the_default_model_is_shown_by_its_name(run: Run) -> None:
    async with run("anthropic") as running:
        assert (await ask(running, "anthropic", "auto")).json()["model"] == "mock/tokens"


async def test_the_client_s_own_words_reach_the_provider(run: Run, upstream: Upstream) -> None:
    """Also those that nobody here knows, and headers that belong to them."""
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]},
            {"role": "user", "content": "Go on"},
        ],
        "system": system,
        "tools": tools,
        "brand_new": {"a": [1, 2.5, None]},
        "max_tokens": 7,
    }
    headers = {"anthropic-beta": "one,two", "anthropic-version": "2026-10-21", "x-api-key": "theirs"}
    async with run("anthropic") as running:
        response = await ask(running, "anthropic", "mock/tokens", headers=headers, **body)
        assert response.status_code == 200
        count = {"model": "mock/tokens", **{key: body[key] for key in ("messages", "tools")}}
        await running.client.post("/v1/messages/count_tokens", json=count, headers=headers)
    asked, counted = [seen for seen in upstream.requests if seen.method == "POST"]
    assert asked.json() == {**body, "model": "tokens", "stream": False}
    assert (asked.headers["anthropic-beta"], asked.headers["anthropic-version"]) == ("one,two", "2026-10-21")
    assert asked.headers.get("x-api-key") is None, "a client's key is for us"
    assert counted.json() == {**count, "model": "tokens"}


async def test_responses_are_stored_nowhere(run: Run, upstream: Upstream) -> None:
    """All users share the provider's account: what it kept, one could ask for by another's id."""
    tools = [{"type": "web_search"}]
    async with run("responses") as running:
        assert (await ask(running, "responses", "mock/tokens", tools=tools, store=True)).status_code == 200
        refused = await ask(running, "responses", "mock/tokens", previous_response_id="resp_1")
        assert refused.status_code == 400
    asked = [seen.json() for seen in upstream.requests if seen.method == "POST"]
    assert asked == [{"model": "tokens", "input": "Hello", "tools": tools, "store": False, "stream": False}]


NEEDY: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    ("anthropic", {"mcp_servers": [{"type": "url", "url": "https://x"}]}, "mcp_servers"),
    (
        "anthropic",
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
        "container_upload",
    ),
    ("responses", {"tools": [{"type": "web_search"}]}, "web_search"),
    ("responses", {"truncation": "auto"}, "truncation"),
    ("responses", {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
]


@pytest.mark.parametrize("kind", ["openai", "gemini", "ollama"])
@pytest.mark.parametrize(("dialect", "more", "named"), NEEDY)
async def test_what_has_no_translation_is_refused_by_others(
    run: Run, upstream: Upstream, kind: str, dialect: str, more: dict[str, Any], named: str
) -> None:
    async with run(kind) as running:
        response = await ask(running, dialect, "mock/tokens", **more)
    assert response.status_code == 400
    assert named in response.text
    assert not any(seen.method == "POST" for seen in upstream.requests)


@pytest.mark.parametrize(
    ("scenario", "calls"),
    [
        ("tools-all-zero?ids=1", [("weather", '{"a": 1}'), ("time", '{"b": 2}')]),
        ("tools-all-zero?nothing=1", [("weather", '{"a": 1}'), ("time", '{"b": 2}')]),
        ("tool-args-object", [("weather", '{"city":"Oslo"}')]),
        ("tools-finish-stop", [("now", "{}")]),
        ("tool-args-empty", [("now", "")]),
    ],
)
async def test_what_servers_do_wrong_is_put_right_on_the_way(
    run: Run, scenario: str, calls: list[tuple[str, str]]
) -> None:
    async with run("openai") as running:
        response = await ask(running, "openai", f"mock/{scenario}", stream=True)
    found: dict[int, list[str]] = {}
    ids, finishes, answers = set(), [], set()
    for line in response.text.splitlines():
        if line.startswith("data: {"):
            chunk = json.loads(line[6:])
            answers.add(chunk["id"])
            for choice in chunk["choices"]:
                finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
                for delta in choice["delta"].get("tool_calls", []):
                    ids |= {delta["id"]} if delta.get("id") else set()
                    known = found.setdefault(delta["index"], [delta["function"].get("name", ""), ""])
                    known[1] += delta["function"]["arguments"]
    assert [(name, arguments) for name, arguments in found.values()] == calls
    assert (len(ids), finishes, answers) == (len(calls), ["tool_calls"], {"chatcmpl-1"})


@pytest.mark.parametrize("scenario", ["finish-without-done", "done-without-finish"])
async def test_what_is_added_at_the_end_is_of_the_same_answer(run: Run, scenario: str) -> None:
    async with run("openai") as running:
        options = {"include_usage": True}
        response = await ask(running, "openai", f"mock/{scenario}", stream=True, stream_options=options)
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    assert {(each["id"], each["created"], each["model"]) for each in chunks} == {("chatcmpl-1", 1, f"mock/{scenario}")}
    assert chunks[-1]["usage"]["estimated"]


async def test_content_in_parts_becomes_text(run: Run) -> None:
    async with run("openai") as running:
        response = await ask(running, "openai", "mock/reasoning", stream=True)
    assert '"content":"Hello from the mock model."' in response.text
    assert '"reasoning_content": "Let me think. "' in response.text, "the rest is as it was"


async def test_a_name_inside_the_answer_stays(run: Run) -> None:
    text = '"model": "mock" {"model":"mock"}'
    async with run("openai") as running:
        messages = [{"role": "user", "content": text}]
        for stream in (True, False):
            response = await ask(running, "openai", "mock/echo", messages=messages, stream=stream)
            if stream:
                chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
                said = "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])
                assert {each["model"] for each in chunks} == {"mock/echo"}
            else:
                said = response.json()["choices"][0]["message"]["content"]
            assert said == text


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("openai", "data: [DONE]"),
        ("anthropic", '"type":"overloaded_error"'),
        ("responses", "event: response.failed"),
    ],
)
async def test_an_error_in_the_middle_ends_the_stream_in_the_dialect(run: Run, kind: str, end: str) -> None:
    async with run(kind) as running:
        response = await ask(running, kind, "mock/error-frame-later", stream=True)
    assert response.status_code == 200
    assert "Hello" in response.text
    assert "overloaded" in response.text
    assert end in response.text
