"""Being asked in Anthropic's Messages dialect: its requests in our words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from uait.llm.dialects.fields import Fields, original
from uait.llm.messages import (
    GenerateRequest,
    Image,
    Message,
    OtherPart,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)

_KNOWN = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "metadata", "stop_sequences", "stream", "temperature", "top_p"),
        *("top_k", "tools", "tool_choice", "thinking", "output_config"),
        # Of these an answer says nothing else, it only comes sooner, cheaper or from elsewhere.
        *("cache_control", "service_tier", "inference_geo", "speed", "context_management", "diagnostics"),
        *("user_profile_id", "workspace_id"),
    }
)
_HEADERS = ("anthropic-beta", "anthropic-version")
_MODES: Mapping[str, ToolChoice] = {
    "auto": ToolChoice("auto"),
    "any": ToolChoice("required"),
    "none": ToolChoice("none"),
}


def parse_request(data: Any, headers: Mapping[str, str] = {}, *, counting: bool = False) -> GenerateRequest:
    """Read a request's JSON; its `model` is as the client named it.

    Args:
        headers: the request's.
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
    extra: dict[str, Any] = ({"user": user} if user else {}) | ({"top_k": top_k} if top_k else {})
    config = fields.child("output_config")
    effort = _effort(fields, config)
    if effort is not None:
        extra["reasoning_effort"] = effort
    for key in fields.data.keys() - _KNOWN:
        if key in fields:
            fields.only_here(key)
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
        response_format=_format(config),
        extra=extra | _parallel(fields),
    )
    fields.check()
    sent = {name: headers[name] for name in _HEADERS if name in headers}
    return attrs.evolve(request, original=original("anthropic", fields, sent))


def _effort(fields: Fields, config: Fields | None) -> str | None:
    """How much to think: nobody else has a budget of tokens for that, but levels."""
    effort = config.text("effort") if config else None
    thinking = fields.child("thinking")
    match thinking.required_text("type") if thinking else None:
        case "disabled":
            return "none"
        case "enabled" if effort is None and thinking is not None:
            budget = thinking.count("budget_tokens") or 0
            return "low" if budget < 4096 else "medium" if budget < 16384 else "high"
    return effort


def _format(config: Fields | None) -> dict[str, Any] | None:
    wanted = config.child("format") if config else None
    if wanted is None:
        return None
    if wanted.required_text("type") != "json_schema":
        wanted.only_here(f"the format {wanted.text('type')!r}")
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": wanted.data.get("schema"), "strict": True},
    }


def _parallel(fields: Fields) -> dict[str, Any]:
    choice = fields.data.get("tool_choice")
    disabled = isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True
    return {"parallel_tool_calls": False} if disabled else {}


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
        case "document":
            return _document(fields)
        case kind:
            fields.only_here(f"blocks of the type {kind!r}")
            return None


def _image(fields: Fields) -> Part:
    source = fields.child("source")
    if source is None:
        fields.wrong("source", "is required")
        return Text("")
    if source.text("type") == "url":
        return Image(source.required_text("url"))
    if source.text("type") == "file":
        source.only_here("files kept there")
        return Text("")
    return Image(f"data:{source.required_text('media_type')};base64,{source.required_text('data')}")


def _document(fields: Fields) -> Part:
    source = fields.child("source") or Fields({}, f"{fields.path}.source", fields)
    match source.required_text("type"):
        case "text":
            return Text(source.required_text("data"))
        case "base64":
            data = f"data:{source.required_text('media_type')};base64,{source.required_text('data')}"
            return OtherPart({"type": "file", "file": {"filename": fields.text("title", "file"), "file_data": data}})
        case kind:
            source.only_here(f"documents by {kind!r}")
            return Text("")


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
    thoughts: list[Mapping[str, Any]] = []
    for block in fields.items("content", required=role == "user"):
        match block.text("type"):
            case "tool_use":
                arguments = orjson.dumps(block.data.get("input") or {}).decode()
                calls.append(ToolCall(block.required_text("id"), block.required_text("name"), arguments))
            case "tool_result":
                call_id = block.required_text("tool_use_id")
                content = _parts(block, "content") or (Text(""),)
                results.append(Message("tool", content, tool_call_id=call_id, failed=block.flag("is_error")))
            case "thinking" | "redacted_thinking" if role == "assistant":
                thoughts.append(block.data)
            case _:
                part = _part(block)
                if part is not None:
                    parts.append(part)
    if role == "assistant":
        return (Message("assistant", tuple(parts), tuple(calls), thoughts=tuple(thoughts)),)
    return (*results, Message("user" if role == "user" else "system", tuple(parts))) if parts else results


def _tool(fields: Fields) -> Tool:
    kind = fields.text("type", "custom")
    if kind != "custom":
        fields.only_here(f"tools of the type {kind!r}")
        return Tool(fields.text("name") or "")
    fields.child("input_schema")
    strict = True if fields.flag("strict") else None
    return Tool(fields.required_text("name"), fields.text("description"), fields.data.get("input_schema"), strict)


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
