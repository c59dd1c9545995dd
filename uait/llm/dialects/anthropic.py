"""Being asked in Anthropic's Messages dialect: its requests in our words, our answers, streams and errors in its."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from uait.errors import APIError
from uait.llm.catalog import ListedModel
from uait.llm.dialects.fields import Fields
from uait.llm.messages import (
    Chunk,
    Collected,
    GenerateRequest,
    Image,
    Message,
    OtherPart,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
    estimate_prompt_tokens,
)
from uait.storage.ids import new_id

_STOP: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_MODES: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "any": ToolChoice("required"),
    "none": ToolChoice("none"),
}
_ERRORS: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def parse_request(data: Any, *, counting: bool = False) -> GenerateRequest:
    """Read a request's JSON; its `model` is as the client named it.

    Args:
        counting: it is for `count_tokens`, which needs no `max_tokens`.

    Raises:
        ValidationFailed: with every problem.
    """
    fields = Fields(data)
    system = _parts(fields, "system")
    turns = [turn for item in fields.items("messages", required=True) for turn in _turns(item)]
    max_tokens = fields.count("max_tokens")
    if max_tokens is None and not counting and "max_tokens" not in fields:
        fields.wrong("max_tokens", "is required")
    metadata = fields.child("metadata")
    user = metadata.text("user_id") if metadata else None
    top_k = fields.count("top_k")
    request = GenerateRequest(
        model=fields.text("model") or "",
        messages=(*((Message("system", system),) if system else ()), *turns),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        max_tokens=max_tokens,
        stop=fields.texts("stop_sequences"),
        tools=fields.each("tools", _tool),
        tool_choice=_tool_choice(fields),
        stream=fields.flag("stream"),
        extra=({"user": user} if user else {}) | ({"top_k": top_k} if top_k else {}),
    )
    fields.check()
    return request


def _parts(fields: Fields, key: str) -> tuple[Part, ...]:
    content = fields.data.get(key)
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(part for item in fields.items(key) if (part := _part(item)) is not None)


def _part(fields: Fields) -> Part | None:
    match fields.required_text("type"):
        case "text":
            return Text(fields.required_text("text"))
        case "image":
            return _image(fields)
        case "thinking" | "redacted_thinking":
            return None  # the model's own notes; only who wrote them could read them
        case _:
            return OtherPart(fields.data)


def _image(fields: Fields) -> Part:
    source = fields.child("source")
    if source is None:
        fields.wrong("source", "is required")
        return Text("")
    if source.text("type") == "url":
        return Image(source.required_text("url"))
    return Image(f"data:{source.required_text('media_type')};base64,{source.required_text('data')}")


def _turns(fields: Fields) -> Sequence[Message]:
    """One of their turns is several of ours: each tool's result is a turn of its own, and stands before what the user adds."""
    role = fields.required_text("role")
    if role not in ("user", "assistant", "system"):
        fields.wrong("role", "must be user or assistant")
        return ()
    if isinstance(fields.data.get("content"), str):
        return (
            Message(
                "assistant" if role == "assistant" else "system" if role == "system" else "user",
                _parts(fields, "content"),
            ),
        )
    results: list[Message] = []
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for block in fields.items("content", required=role == "user"):
        match block.text("type"):
            case "tool_use":
                arguments = orjson.dumps(block.data.get("input") or {}).decode()
                calls.append(ToolCall(block.required_text("id"), block.required_text("name"), arguments))
            case "tool_result":
                call_id = block.required_text("tool_use_id")
                results.append(Message("tool", _parts(block, "content") or (Text(""),), tool_call_id=call_id))
            case _:
                part = _part(block)
                if part is not None:
                    parts.append(part)
    if role == "assistant":
        return (Message("assistant", tuple(parts), tuple(calls)),)
    return (*results, Message("user" if role == "user" else "system", tuple(parts))) if parts else results


def _tool(fields: Fields) -> Tool:
    kind = fields.text("type", "custom")
    if kind != "custom":
        fields.wrong("type", "must be custom: tools that Anthropic runs itself are not here")
    fields.child("input_schema")
    return Tool(fields.required_text("name"), fields.text("description"), fields.data.get("input_schema"))


def _tool_choice(fields: Fields) -> ToolChoice | None:
    choice = fields.child("tool_choice")
    if choice is None:
        return None
    kind = choice.required_text("type")
    if kind == "tool":
        return ToolChoice("named", choice.required_text("name"))
    if kind not in _MODES:
        choice.wrong("type", "must be auto, any, tool or none")
    return _MODES.get(kind)


def count_tokens(request: GenerateRequest) -> dict[str, Any]:
    """The answer of `count_tokens`. Nobody here has the model's tokenizer, and it says so."""
    return {"input_tokens": estimate_prompt_tokens(request.messages, request.tools), "estimated": True}


def render_usage(usage: Usage) -> dict[str, Any]:
    """A `usage` object; what was read from the provider's cache stands apart here, and does not count as input."""
    body: dict[str, Any] = {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    return body | {"estimated": True} if usage.estimated else body


def _message(model: str, content: list[dict[str, Any]], stop: str | None, usage: Usage) -> dict[str, Any]:
    return {
        "id": f"msg_{new_id()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": render_usage(usage),
    }


def render_answer(answer: Collected, usage: Usage, model: str) -> dict[str, Any]:
    """A whole answer."""
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    if text := answer.text or answer.refusal:
        content.append({"type": "text", "text": text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _object(call.arguments)}
        for call in answer.tool_calls
    ]
    return _message(model, content, _STOP[answer.finish or "stop"], usage)


def _object(arguments: str) -> dict[str, Any]:
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        value = None
    # The dialect has no place for arguments that are not an object; the text is kept where somebody can see it.
    return value if isinstance(value, dict) else {"invalid_arguments": arguments}


class MessageStream:
    """Renders one answer as events, each ready for the wire.

    Args:
        prompt_tokens: what the first event says, as far as is known; the last one has the count that is right.

    Blocks follow one another here, and none can be taken up again. So the first tool call is streamed, and what belongs to others, or comes after it, is held back until the end.
    """

    def __init__(self, model: str, prompt_tokens: int) -> None:
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._stop = "end_turn"
        self._blocks = 0
        self._open: str | None = None
        self._call: int | None = None
        self._held = Collected()
        self._holding = False

    def start(self) -> bytes:
        """The first event."""
        message = _message(self._model, [], None, Usage(prompt_tokens=self._prompt_tokens))
        return _event("message_start", {"message": message}) + _event("ping", {})

    def chunk(self, chunk: Chunk) -> bytes:
        """The events of one step; b"" where it says nothing."""
        events = b""
        if chunk.finish:
            self._stop = _STOP[chunk.finish]
        if self._call is not None and (chunk.text or chunk.refusal or chunk.reasoning):
            self._hold(Chunk(chunk.text or chunk.refusal, chunk.reasoning))
        else:
            events += self._texts(chunk.reasoning, chunk.text or chunk.refusal)
        for call in chunk.tool_calls:
            if self._call in (None, call.index):
                self._call = call.index
                events += self._call_delta(call.id, call.name, call.arguments)
            else:
                self._hold(Chunk(tool_calls=(call,)))
        return events

    def end(self, usage: Usage) -> bytes:
        """The last events."""
        events = self._close()
        if self._holding:
            events += self._texts(self._held.reasoning, self._held.text)
            for call in self._held.tool_calls:
                events += self._close()
                events += self._call_delta(call.id, call.name, call.arguments)
            events += self._close()
        delta: dict[str, Any] = {"stop_reason": self._stop, "stop_sequence": None}
        return (
            events
            + _event("message_delta", {"delta": delta, "usage": render_usage(usage)})
            + _event("message_stop", {})
        )

    def _hold(self, chunk: Chunk) -> None:
        self._holding = True
        self._held.add(chunk)

    def _texts(self, thinking: str, text: str) -> bytes:
        events = b""
        if thinking:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            events += self._delta("thinking", block, {"type": "thinking_delta", "thinking": thinking})
        if text:
            events += self._delta("text", {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
        return events

    def _call_delta(self, call_id: str, name: str, arguments: str) -> bytes:
        block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
        return self._delta("tool", block, {"type": "input_json_delta", "partial_json": arguments})

    def _delta(self, kind: str, block: dict[str, Any], delta: dict[str, Any]) -> bytes:
        events = b""
        if self._open != kind:
            events = self._close()
            self._open = kind
            events += _event("content_block_start", {"index": self._blocks, "content_block": block})
        return events + _event("content_block_delta", {"index": self._blocks, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        self._blocks += 1
        return _event("content_block_stop", {"index": self._blocks - 1})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **data}))


def render_error(error: APIError, request_id: str) -> dict[str, Any]:
    """An error's body."""
    kind = _ERRORS.get(error.http_status, "invalid_request_error" if error.http_status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.text}, "request_id": request_id}


def render_stream_error(error: APIError) -> bytes:
    """The last event of a stream that an error ends."""
    return b"event: error\ndata: " + orjson.dumps(render_error(error, "")) + b"\n\n"


def render_model(model: ListedModel) -> dict[str, Any]:
    """One model."""
    return {
        "id": model.id,
        "type": "model",
        "display_name": model.name,
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_input_tokens": model.context_length,
    }


def render_models(models: Sequence[ListedModel], limit: int, after: str | None, before: str | None) -> dict[str, Any]:
    """One page of the list of models."""
    ids = [model.id for model in models]
    start = ids.index(after) + 1 if after in ids else 0
    end = ids.index(before) if before in ids else len(ids)
    if before in ids and after not in ids:
        start = max(start, end - limit)
    found = models[start : min(end, start + limit)]
    return {
        "data": [render_model(model) for model in found],
        "has_more": (start > 0 if before in ids and after not in ids else start + limit < end),
        "first_id": found[0].id if found else None,
        "last_id": found[-1].id if found else None,
    }
