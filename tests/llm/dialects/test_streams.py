"""Whatever a model says and in whatever order, a dialect's stream adds up to the dialect's whole answer."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from uait.errors import Unavailable
from uait.llm.dialects import anthropic, openai_chat, openai_responses
from uait.llm.dialects.anthropic_upstream import MessageReader
from uait.llm.dialects.openai_upstream import AnswerReader
from uait.llm.messages import Chunk, Collected, ToolCallDelta, Usage
from uait.llm.providers.openai_responses import ResponseReader
from uait.llm.recall import Recall
from uait.llm.sse import SSEParser

USAGE = Usage(11, 7, cached_tokens=3, reasoning_tokens=2)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> list[Chunk]:
    """Chunks of text, thoughts, and tool calls whose fragments may interleave."""
    chunks = []
    begun: set[int] = set()
    for _ in range(draw(st.integers(0, 12))):
        match draw(st.sampled_from(["text", "reasoning", "call", "fragment"])):
            case "text":
                chunks.append(Chunk(draw(TEXT)))
            case "reasoning":
                chunks.append(Chunk(reasoning=draw(TEXT)))
            case "call":
                index = len(begun)
                begun.add(index)
                chunks.append(Chunk(tool_calls=(ToolCallDelta(index, f"call_{index}", f"tool{index}", '{"x": "'),)))
            case _ if begun:
                index = draw(st.sampled_from(sorted(begun)))
                text = orjson.dumps(draw(TEXT))[1:-1].decode()
                chunks.append(Chunk(tool_calls=(ToolCallDelta(index, arguments=text),)))
    chunks += [Chunk(tool_calls=(ToolCallDelta(index, arguments='"}'),)) for index in sorted(begun)]
    finish: Any = "tool_calls" if begun else draw(st.sampled_from(["stop", "length", "content_filter"]))
    return [*chunks, Chunk(finish=finish)]


def collect(chunks: list[Chunk]) -> Collected:
    whole = Collected()
    for chunk in chunks:
        whole.add(chunk)
    return whole


def rendered(stream: Any, chunks: list[Chunk]) -> bytes:
    return b"".join([stream.start(), *(stream.chunk(chunk) for chunk in chunks), stream.end(USAGE)])


def events(data: bytes) -> list[tuple[str, Any]]:
    return [(event.event, orjson.loads(event.data)) for event in SSEParser().feed(data) if event.data != b"[DONE]"]


def read_back(reader: Any, stream: Any, chunks: list[Chunk]) -> Collected:
    """By our own reader of the same dialect."""
    again = Collected()
    for event in SSEParser().feed(rendered(stream, chunks)):
        chunk = reader.event(event)
        if chunk is not None:
            again.add(chunk)
    assert reader.done
    return again


@settings(deadline=None)
@given(answers())
def test_openai_chat(chunks: list[Chunk]) -> None:
    """Read back by our own reader of the same dialect."""
    again = read_back(AnswerReader("test"), openai_chat.ChatStream("m", include_usage=True), chunks)
    whole = collect(chunks)
    assert (again.text, again.reasoning, again.tool_calls) == (whole.text, whole.reasoning, whole.tool_calls)
    assert (again.finish, again.usage) == (whole.finish, USAGE)
    body = openai_chat.render_answer(whole, USAGE, "m")
    back = AnswerReader("test").whole(orjson.dumps(body))
    assert (back.text, back.finish, back.usage) == (whole.text, whole.finish, USAGE)


@settings(deadline=None)
@given(answers())
def test_anthropic(chunks: list[Chunk]) -> None:
    """Blocks follow one another, are numbered without gaps, and none is taken up again."""
    blocks: list[dict[str, Any]] = []
    closed = True
    stop = None
    for name, data in events(rendered(anthropic.MessageStream("m", 5), chunks)):
        assert data["type"] == name
        match name:
            case "content_block_start":
                assert closed
                assert data["index"] == len(blocks)
                closed = False
                blocks.append({**data["content_block"], "json": ""})
            case "content_block_delta":
                assert not closed
                assert data["index"] == len(blocks) - 1
                delta = data["delta"]
                key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[
                    delta["type"]
                ]
                blocks[-1]["json" if key == "partial_json" else key] += delta[key]
            case "content_block_stop":
                assert data["index"] == len(blocks) - 1
                closed = True
            case "message_delta":
                stop = data["delta"]["stop_reason"]
                assert data["usage"]["output_tokens"] == 7
    assert closed
    again = read_back(MessageReader("test", Recall(), None, streamed=True), anthropic.MessageStream("m", 5), chunks)
    whole = collect(chunks)
    assert (again.text, again.reasoning, again.finish) == (whole.text, whole.reasoning, whole.finish)
    assert [(call.id, call.name, call.input) for call in again.tool_calls] == [
        (call.id, call.name, call.input) for call in whole.tool_calls
    ]
    expected = anthropic.render_answer(whole, USAGE, "m")
    assert stop == expected["stop_reason"]
    texts = "".join(block["text"] for block in blocks if block["type"] == "text")
    thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    calls = [
        {"type": "tool_use", "id": block["id"], "name": block["name"], "input": orjson.loads(block["json"])}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    assert (texts, thoughts) == (whole.text, whole.reasoning)
    assert calls == [block for block in expected["content"] if block["type"] == "tool_use"]


@settings(deadline=None)
@given(answers())
def test_openai_responses(chunks: list[Chunk]) -> None:
    """Deltas add up to what `done` says, and the last event has the whole response."""
    asked = openai_responses.parse_request({"model": "m", "input": "x"})
    found = events(rendered(openai_responses.ResponseWriter(asked, "m"), chunks))
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    deltas: dict[str, str] = {}
    done: dict[str, str] = {}
    items: dict[str, Any] = {}
    for name, data in found:
        assert data["type"] == name
        if name.endswith(".delta"):
            deltas[data["item_id"]] = deltas.get(data["item_id"], "") + data["delta"]
        elif name in ("response.output_text.done", "response.reasoning_text.done"):
            done[data["item_id"]] = data["text"]
        elif name == "response.function_call_arguments.done":
            done[data["item_id"]] = data["arguments"]
        elif name == "response.output_item.done":
            items[data["item"]["id"]] = data["item"]
    assert deltas == done
    final = found[-1][1]["response"]
    assert [item["id"] for item in final["output"]] == list(
        dict.fromkeys(final_id["id"] for final_id in final["output"])
    )
    assert {item["id"]: item for item in final["output"]} == items
    again = read_back(ResponseReader("test", None, streamed=True), openai_responses.ResponseWriter(asked, "m"), chunks)
    whole = collect(chunks)
    assert (again.text, again.reasoning, again.tool_calls) == (whole.text, whole.reasoning, whole.tool_calls)
    assert (again.finish, again.usage) == (whole.finish, USAGE)
    texts = [item["content"][0]["text"] for item in final["output"] if item["type"] == "message"]
    assert "".join(texts) == whole.text
    calls = [
        (item["call_id"], item["name"], item["arguments"])
        for item in final["output"]
        if item["type"] == "function_call"
    ]
    assert calls == [(call.id, call.name, call.arguments) for call in whole.tool_calls]
    expected = "incomplete" if whole.finish in ("length", "content_filter") else "completed"
    assert (final["status"], found[-1][0]) == (expected, f"response.{expected}")
    assert final["usage"]["total_tokens"] == 18


def test_a_stream_that_fails_says_so_in_each_dialect() -> None:
    error = Unavailable("It is down.")
    chat = openai_chat.render_stream_error(error)
    assert events(chat)[0][1]["error"] == {
        "message": "It is down.",
        "type": "api_error",
        "param": None,
        "code": "unavailable",
    }
    assert chat.endswith(b"data: [DONE]\n\n")
    assert events(anthropic.render_stream_error(error))[0][1]["error"]["type"] == "overloaded_error"
    writer = openai_responses.ResponseWriter(openai_responses.parse_request({"model": "m", "input": "x"}), "m")
    writer.start()
    writer.chunk(Chunk("half"))
    (_, told), (name, failed) = events(writer.failed(error))
    assert (told["type"], told["code"], name) == ("error", "unavailable", "response.failed")
    assert failed["response"]["output"][0]["content"][0]["text"] == "half"
