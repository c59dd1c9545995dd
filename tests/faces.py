"""The ways in which clients ask models through the gateway, and what they understand of the answer: for tests that want the same of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

PATHS = {
    "chat": "/api/v1/chat",
    "completions": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
FACES = tuple(PATHS)

_CODES = {
    "api_error": "UPSTREAM_ERROR",
    "overloaded_error": "PROVIDER_OVERLOADED",
    "rate_limit_error": "RATE_LIMITED",
    "timeout_error": "UPSTREAM_TIMEOUT",
}
"""Anthropic's dialect has types of errors in place of codes."""


def question(face: str, model: str, text: str = "Hello", **more: Any) -> dict[str, Any]:
    """The body of a question."""
    if face == "chat":
        return {"model": model, "message": text, **more}
    if face == "responses":
        return {"model": model, "input": text, **more}
    limit = {"max_tokens": 5000} if face == "messages" else {}
    return {"model": model, "messages": [{"role": "user", "content": text}], **limit, **more}


@attrs.define
class Said:
    """An answer, in whatever dialect it came.

    Attributes:
        error: our code of the error that is in place of an answer, or at its end.
        status: of HTTP; a stream that ends with an error has 200.
        ended: it has the end that its dialect wants; `after` how many events came after that.
    """

    text: str = ""
    calls: list[tuple[str, Any]] = attrs.field(factory=list)
    finish: str = ""
    error: str = ""
    status: int = 200
    ended: bool = False
    after: int = 0


def read(face: str, status: int, headers: Mapping[str, str], body: bytes) -> Said:
    """Read an answer as the official clients do: an error before anything else, and only what the dialect has."""
    said = Said(status=status)
    if "event-stream" in headers.get("content-type", ""):
        events = list(_events(body))
        _STREAMS[face](said, events)
        return said
    data = json.loads(body)
    said.ended = True
    if status >= 400:
        said.error = _error(face, data)
    elif face == "chat":
        said.text, said.finish = data["response"], data["finish_reason"]
    elif face == "completions":
        choice = data["choices"][0]
        said.text, said.finish = choice["message"].get("content") or "", choice["finish_reason"]
        said.calls = [_call(call["function"]) for call in choice["message"].get("tool_calls") or []]
    elif face == "responses":
        _response(said, data)
    else:
        for block in data["content"]:
            said.text += block.get("text", "")
            if block["type"] == "tool_use":
                said.calls.append((block["name"], block["input"]))
        said.finish = _STOPS[data["stop_reason"]]
    return said


_STOPS = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter", None: ""}


def _events(body: bytes) -> Iterator[tuple[str, Any]]:
    for block in body.decode().split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        if "data" in fields:
            data = fields["data"]
            yield fields.get("event", ""), data if data == "[DONE]" else json.loads(data)


def _error(face: str, data: Any) -> str:
    error = data["error"]
    return _CODES.get(error["type"], error["type"]) if face == "messages" else error["code"].upper()


def _call(function: Any) -> tuple[str, Any]:
    return function["name"], json.loads(function["arguments"] or "{}")


def _response(said: Said, data: Any) -> None:
    for item in data["output"]:
        if item["type"] == "function_call":
            said.calls.append(_call(item))
        elif item["type"] == "message":
            said.text += "".join(part.get("text", "") for part in item["content"])
    said.finish = {"completed": "tool_calls" if said.calls else "stop", "incomplete": "length"}.get(data["status"], "")


def _read_chat(said: Said, events: list[tuple[str, Any]]) -> None:
    for name, data in events:
        said.after += said.ended
        if name == "error":
            said.error, said.ended = _error("chat", data), True
        elif data == "[DONE]":
            said.ended = True
        elif "chunk" in data:
            said.text += data["chunk"]
        else:
            said.finish = data["finish_reason"]
            assert data["response"] == said.text


def _read_completions(said: Said, events: list[tuple[str, Any]]) -> None:
    calls: dict[int, dict[str, str]] = {}
    for _, data in events:
        said.after += said.ended
        if data == "[DONE]":
            said.ended = True
        elif "error" in data:
            said.error = _error("completions", data)
        else:
            for choice in data["choices"]:
                said.text += choice["delta"].get("content") or ""
                said.finish = choice["finish_reason"] or said.finish
                for delta in choice["delta"].get("tool_calls") or []:
                    call = calls.setdefault(
                        delta["index"], {"name": delta["function"].get("name", ""), "arguments": ""}
                    )
                    call["arguments"] += delta["function"].get("arguments", "")
    said.calls = [_call(call) for call in calls.values()]


def _read_responses(said: Said, events: list[tuple[str, Any]]) -> None:
    deltas = ""
    for name, data in events:
        said.after += said.ended and name != "response.failed"
        match name:
            case "response.output_text.delta":
                deltas += data["delta"]
            case "error":
                said.error, said.ended = data["code"].upper(), True
            case "response.completed" | "response.incomplete" | "response.failed":
                said.ended = True
                if name != "response.failed":
                    _response(said, data["response"])
                    assert said.text == deltas
    said.text = deltas


def _read_messages(said: Said, events: list[tuple[str, Any]]) -> None:
    blocks: dict[int, tuple[str, list[str]]] = {}
    for name, data in events:
        said.after += said.ended
        match name:
            case "content_block_start" if data["content_block"]["type"] == "tool_use":
                blocks[data["index"]] = (data["content_block"]["name"], [])
            case "content_block_delta":
                said.text += data["delta"].get("text", "")
                if "partial_json" in data["delta"]:
                    blocks[data["index"]][1].append(data["delta"]["partial_json"])
            case "message_delta":
                said.finish = _STOPS[data["delta"]["stop_reason"]]
            case "message_stop":
                said.ended = True
            case "error":
                said.error, said.ended = _error("messages", data), True
    said.calls = [(name, json.loads("".join(pieces) or "{}")) for name, pieces in blocks.values()]


_STREAMS = {
    "chat": _read_chat,
    "completions": _read_completions,
    "responses": _read_responses,
    "messages": _read_messages,
}
