"""Being asked in OpenAI's Chat Completions dialect: its requests in our words, our answers, streams and errors in its."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import orjson

from uait.errors import APIError, ValidationFailed
from uait.llm.catalog import ListedModel
from uait.llm.dialects.fields import Fields, original
from uait.llm.messages import (
    Chunk,
    Collected,
    GenerateRequest,
    Image,
    Message,
    OtherPart,
    Part,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
)
from uait.llm.provider import Embeddings
from uait.storage.ids import new_id

DONE = b"data: [DONE]\n\n"

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_OURS = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "tools",
        "tool_choice",
        "response_format",
        "n",
    }
)


@attrs.frozen
class ChatRequest:
    """A request to `/v1/chat/completions`. Its `question` names the model as the client did."""

    question: GenerateRequest
    include_usage: bool = False


def parse_request(data: Any) -> ChatRequest:
    """Read a request's JSON.

    Raises:
        ValidationFailed: with every problem.
    """
    fields = Fields(data)
    if (fields.count("n") or 1) != 1:
        fields.wrong("n", "must be 1: ask again for another answer")
    stream_options = fields.child("stream_options")
    question = GenerateRequest(
        model=fields.text("model") or "",
        messages=fields.each("messages", _message, required=True),
        temperature=fields.number("temperature", 0, 2),
        top_p=fields.number("top_p", 0, 1),
        max_tokens=fields.count("max_completion_tokens") or fields.count("max_tokens"),
        stop=fields.texts("stop"),
        tools=fields.each("tools", read_tool),
        tool_choice=_tool_choice(fields),
        response_format=fields.data["response_format"] if fields.child("response_format") else None,
        stream=fields.flag("stream"),
        extra={key: value for key, value in fields.data.items() if key not in _OURS and value is not None},
        original=original("openai-chat", fields),
    )
    include_usage = stream_options.flag("include_usage") if stream_options else False
    fields.check()
    return ChatRequest(question, include_usage)


def _message(fields: Fields) -> Message:
    role = _ROLES.get(fields.required_text("role"))
    if role is None and "role" in fields:
        fields.wrong("role", f"must be one of {', '.join(_ROLES)}")
    parts = _content(fields)
    tool_calls = fields.each("tool_calls", _tool_call)
    if not parts and not tool_calls and role != "assistant":
        fields.wrong("content", "is required")
    if role == "tool" and "tool_call_id" not in fields:
        fields.wrong("tool_call_id", "is required")
    return Message(
        role or "user", parts, tool_calls, tool_call_id=fields.text("tool_call_id"), name=fields.text("name")
    )


def _content(fields: Fields) -> tuple[Part, ...]:
    content = fields.data.get("content")
    if isinstance(content, str):
        return (Text(content),)
    return fields.each("content", _part)


def _part(fields: Fields) -> Part:
    match fields.required_text("type"):
        case "text":
            return Text(fields.required_text("text"))
        case "image_url":
            image = fields.child("image_url")
            if image is None:
                fields.wrong("image_url", "is required")
                return Text("")
            return Image(image.required_text("url"), image.text("detail"))
        case "refusal":
            return Text(fields.required_text("refusal"))
        case _:
            return OtherPart(fields.data)


def _tool_call(fields: Fields) -> ToolCall:
    function = fields.child("function") or Fields({}, f"{fields.path}.function", fields)
    return ToolCall(fields.required_text("id"), function.required_text("name"), function.text("arguments") or "{}")


def read_tool(fields: Fields) -> Tool:
    """A tool as Chat Completions has it: everything under `function`."""
    if fields.text("type", "function") != "function":
        fields.wrong("type", "must be function")
    function = fields.child("function")
    if function is None:
        fields.wrong("function", "is required")
        return Tool("")
    return read_function(function)


def read_function(fields: Fields) -> Tool:
    """A function's name, description and schema."""
    fields.child("parameters")  # notes where it is no object
    strict = fields.flag("strict") if "strict" in fields else None
    return Tool(fields.required_text("name"), fields.text("description"), fields.data.get("parameters"), strict=strict)


def _tool_choice(fields: Fields) -> ToolChoice | None:
    match fields.data.get("tool_choice"):
        case None:
            return None
        case "auto" | "none" | "required" as mode:
            return ToolChoice(mode)
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("named", name)
        case _:
            fields.wrong("tool_choice", "must be auto, none, required, or name a function")
            return None


def render_usage(usage: Usage) -> dict[str, Any]:
    """A `usage` object; one that is a guess says so."""
    body: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    return body | {"estimated": True} if usage.estimated else body


def render_answer(answer: Collected, usage: Usage, model: str) -> dict[str, Any]:
    """A whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal or None}
    if not answer.text and not answer.tool_calls and not answer.refusal:
        message["content"] = ""
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.tool_calls
        ]
    return {
        "id": f"chatcmpl-{new_id()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": answer.logprobs,
                "finish_reason": answer.finish or "stop",
            }
        ],
        "usage": render_usage(usage),
    }


class ChatStream:
    """Renders one answer as events, each ready for the wire."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._passed = self._usage_passed = False
        head: dict[str, Any] = {
            "id": f"chatcmpl-{new_id()}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._begin(head)

    def _begin(self, head: dict[str, Any]) -> None:
        """Say of every event from here on what is the same in all."""
        if self._include_usage:
            head["usage"] = None
        self._about = head
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._text = self._head + b'{"index":0,"delta":{"content":'

    def start(self) -> bytes:
        """The first event, which tells the role."""
        return self._event({"role": "assistant", "content": "", "refusal": None})

    def chunk(self, chunk: Chunk) -> bytes:
        """The events of one step; b"" where it says nothing."""
        if chunk.raw is not None:
            self._usage_passed = self._usage_passed or chunk.usage is not None
            if not self._passed and chunk.raw:
                self._passed = True
                self._go_on_from(chunk.raw)
            return chunk.raw
        if chunk.text and not (chunk.tool_calls or chunk.finish or chunk.reasoning or chunk.refusal or chunk.logprobs):
            return self._text + orjson.dumps(chunk.text) + b'},"logprobs":null,"finish_reason":null}]}\n\n'
        delta: dict[str, Any] = {}
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.refusal:
            delta["refusal"] = chunk.refusal
        if chunk.tool_calls:
            delta["tool_calls"] = [
                {"index": call.index}
                | ({"id": call.id, "type": "function"} if call.id else {})
                | {"function": ({"name": call.name} if call.name else {}) | {"arguments": call.arguments}}
                for call in chunk.tool_calls
            ]
        events = self._event(delta, chunk.logprobs) if delta or chunk.logprobs else b""
        return events + self._event({}, finish=chunk.finish) if chunk.finish else events

    def _go_on_from(self, event: bytes) -> None:
        """What the provider leaves out at the end is ours to say, as of the same answer."""
        lines = (line.removeprefix(b"data: ") for line in event.split(b"\n") if line.startswith(b"data: "))
        theirs = orjson.loads(b"".join(lines))
        told = {key: theirs[key] for key in ("id", "created", "model") if key in theirs}
        self._begin({**self._about, **told})

    def end(self, usage: Usage) -> bytes:
        """The last events."""
        if not self._include_usage or self._usage_passed:
            return DONE
        head = self._head.replace(b'"usage":null', b'"usage":' + orjson.dumps(render_usage(usage)), 1)
        return head + b"]}\n\n" + DONE

    def _event(self, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._head + orjson.dumps(choice) + b"]}\n\n"


def render_error(error: APIError, request_id: str) -> dict[str, Any]:
    """An error's body."""
    param = (
        error.problems[0].where.removeprefix("$.") if isinstance(error, ValidationFailed) and error.problems else None
    )
    return {
        "error": {
            "message": error.text,
            "type": _error_type(error.http_status),
            "param": param,
            "code": error.error_code.lower(),
        }
    }


LAST_EVENTS = (DONE.strip(),)
"""What the last event of a stream begins with."""


def render_stream_error(error: APIError) -> bytes:
    """The last event of a stream that an error ends."""
    return b"data: " + orjson.dumps(render_error(error, "")) + b"\n\n" + DONE


def _error_type(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _ if status < 500:
            return "invalid_request_error"
        case 504:
            return "timeout_error"
        case _:
            return "api_error"


def render_model(model: ListedModel) -> dict[str, Any]:
    """One model, with what we know beyond the dialect."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.provider,
        "capabilities": model.capabilities,
        "context_length": model.context_length,
        "stale": model.stale,
    }


def render_models(models: Iterable[ListedModel]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [render_model(model) for model in models]}


@attrs.frozen
class EmbeddingsRequest:
    """A request to `/v1/embeddings`."""

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    base64: bool = False


def parse_embeddings(data: Any) -> EmbeddingsRequest:
    """Read a request's JSON.

    Raises:
        ValidationFailed: with every problem.
    """
    fields = Fields(data)
    texts = fields.texts("input")
    if not texts:
        fields.wrong("input", "must be a string or a list of strings, not empty")
    encoding = fields.text("encoding_format", "float")
    if encoding not in ("float", "base64"):
        fields.wrong("encoding_format", "must be float or base64")
    request = EmbeddingsRequest(fields.text("model") or "", texts, fields.count("dimensions"), encoding == "base64")
    fields.check()
    return request


def render_embeddings(answer: Embeddings, request: EmbeddingsRequest, model: str) -> dict[str, Any]:
    """Vectors, as lists or as base64 of little-endian float32, which is what the official SDK asks for."""

    def vector(values: Sequence[float]) -> Any:
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode() if request.base64 else values

    usage = {"prompt_tokens": answer.usage.prompt_tokens, "total_tokens": answer.usage.prompt_tokens}
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": n, "embedding": vector(values)} for n, values in enumerate(answer.vectors)
        ],
        "model": model,
        "usage": usage | {"estimated": True} if answer.usage.estimated else usage,
    }
