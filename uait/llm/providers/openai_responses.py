"""OpenAI's Responses API: OpenAI itself, which speaks Chat Completions as well, and servers that are to be asked in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from uait.llm import upstream
from uait.llm.dialects.reading import child, children, count, load, text
from uait.llm.messages import (
    Chunk,
    Dialect,
    GenerateRequest,
    Image,
    Message,
    Original,
    OtherPart,
    Part,
    Text,
    Tool,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from uait.llm.passing import EventReader, Passed
from uait.llm.provider import Extras, check_capabilities, unsupported
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.sse import ServerSentEvent
from uait.llm.stream import ask_for_answer
from uait.llm.upstream import Timeouts

_PARAMETERS = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "top_logprobs",
    "user",
)


class ResponsesProvider(OpenAIProvider):
    """One server at one base URL, which has `/responses` beside `/chat/completions`. Whoever asks in either dialect is handed on.

    Args:
        always: put every question to `/responses`; else only those go there that were asked in this dialect.

    The others are those of `OpenAIProvider`.
    """

    dialects: frozenset[Dialect] = frozenset({"openai-chat", "openai-responses"})

    def __init__(
        self,
        name: str,
        base_url: str,
        key: str = "",
        *,
        always: bool = False,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        super().__init__(name, base_url, key, timeouts=timeouts)
        self._always = always
        if always:
            self.dialects = frozenset({"openai-responses"})

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        original = request.original
        passed = None
        if original is not None and original.dialect == "openai-responses":
            body = _pass(original, request)
            passed = Passed(original, self.name, request.model)
        elif self._always:
            check_capabilities(self, request)
            body = render_request(self.name, request)
        else:
            return super().stream(request)
        reader = ResponseReader(self.name, passed, streamed=request.stream)
        return ask_for_answer(self._http, "/responses", body, request, reader)


def _pass(original: Original, request: GenerateRequest) -> dict[str, Any]:
    """Nothing is stored there for clients: all of them share the key, and could ask for what others said by its id."""
    return {**original.body, "model": request.model, "stream": request.stream, "store": False}


def render_request(provider: str, request: GenerateRequest) -> dict[str, Any]:
    """The body of `POST /responses`.

    Raises:
        BadRequest: it asks for something that the dialect does not have.
    """
    extras = Extras(provider, request)
    turns = request.turns
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for turn in turns for item in _render_turn(provider, turn)],
        "stream": request.stream,
        "store": False,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.stop:
        raise unsupported(provider, "cannot be told where to stop")
    if request.tools:
        body["tools"] = [_render_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _render_choice(request.tool_choice)
    written = extras.take_all({"verbosity": "verbosity"})
    if request.response_format is not None:
        written["format"] = _render_format(request.response_format)
    if written:
        body["text"] = written
    effort = extras.take("reasoning_effort")
    if effort is not None:
        body["reasoning"] = {"effort": effort, "summary": "auto"}
    if extras.take("logprobs"):
        body["include"] = ["message.output_text.logprobs"]
    body |= extras.take_all({name: name for name in _PARAMETERS})
    extras.check()
    return body


def _render_turn(provider: str, turn: Message) -> list[dict[str, Any]]:
    turn = turn.plain
    if turn.role == "tool":
        output: Any = turn.text
        if not all(isinstance(part, Text) for part in turn.parts):
            output = [_render_part(provider, part, "input_text") for part in turn.parts]
        return [{"type": "function_call_output", "call_id": turn.tool_call_id or "", "output": output}]
    kind = "output_text" if turn.role == "assistant" else "input_text"
    items: list[dict[str, Any]] = []
    if turn.parts:
        content = [_render_part(provider, part, kind) for part in turn.parts]
        items.append({"type": "message", "role": turn.role, "content": content})
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in turn.tool_calls
    ]
    return items


def _render_part(provider: str, part: Part, kind: str) -> dict[str, Any]:
    match part:
        case Text(said):
            return {"type": kind, "text": said}
        case Image(url, detail):
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case OtherPart({"type": "file", "file": dict(file)}):
            return {"type": "input_file", **file}
        case _:
            raise unsupported(provider, "reads no other attachments than images and files")


def _render_tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": bool(tool.strict),
    }


def _render_choice(choice: ToolChoice) -> Any:
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _render_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    schema = wanted.get("json_schema")
    return {"type": wanted.get("type"), **(schema if isinstance(schema, Mapping) else {})}


class ResponseReader(EventReader):
    """Reads one response, as a stream's events or as one body."""

    def __init__(self, provider: str, passed: Passed | None, *, streamed: bool) -> None:
        super().__init__(provider, passed, streamed=streamed)
        self._calls: dict[int, int] = {}  # their index of an item -> ours of a call

    def event(self, event: ServerSentEvent) -> Chunk | None:
        if event.data.startswith(b"[DONE]"):
            self.done = self.done or self.finish is not None
            return None
        return super().event(event)

    def whole(self, body: bytes) -> Chunk:
        payload = self._load(body)
        if not isinstance(payload.get("output"), list):
            raise upstream.broken(self._provider, "sent a response without output")
        chunk = Chunk()
        for place, item in enumerate(children(payload["output"])):
            self._item(place, item, chunk)
        self._finished(payload, chunk)
        return self._with_body(chunk, body)

    def _load(self, data: bytes) -> dict[str, Any]:
        payload = load(self._provider, data)
        if payload.get("error") and "type" not in payload and "status" not in payload:
            raise upstream.from_frame(self._provider, payload["error"])
        return payload

    def _chunk(self, payload: dict[str, Any]) -> Chunk | None:
        kind = payload.get("type")
        delta = payload.get("delta")
        place = payload.get("output_index")
        place = place if isinstance(place, int) else 0
        match kind:
            case "response.output_text.delta" if isinstance(delta, str):
                logprobs = payload.get("logprobs")
                return Chunk(delta, logprobs={"content": logprobs, "refusal": None} if logprobs else None)
            case "response.refusal.delta" if isinstance(delta, str):
                return Chunk(refusal=delta)
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" if isinstance(delta, str):
                return Chunk(reasoning=delta)
            case "response.output_item.added":
                item = child(payload.get("item"))
                if item.get("type") == "function_call":
                    return Chunk(tool_calls=(self._call(place, item),))
            case "response.function_call_arguments.delta" if isinstance(delta, str) and place in self._calls:
                return Chunk(tool_calls=(ToolCallDelta(self._calls[place], arguments=delta),))
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                chunk = Chunk()
                self._finished(child(payload.get("response")), chunk)
                self.done = True
                return chunk
            case "error" | "response.error":
                raise upstream.from_frame(self._provider, payload.get("error") or payload)
        return None

    def _call(self, place: int, item: dict[str, Any]) -> ToolCallDelta:
        ours = self._calls[place] = len(self._calls)
        call_id = text(item.get("call_id")) or text(item.get("id"))
        return ToolCallDelta(ours, call_id, text(item.get("name")), text(item.get("arguments")))

    def _item(self, place: int, item: dict[str, Any], chunk: Chunk) -> None:
        """An item as it is in a whole response."""
        if item.get("type") == "function_call":
            chunk.tool_calls += (self._call(place, item),)
            return
        for part in [*children(item.get("summary")), *children(item.get("content"))]:
            match part:
                case {"type": "output_text", "text": str(said)}:
                    chunk.text += said
                    if part.get("logprobs"):
                        chunk.logprobs = {"content": part["logprobs"], "refusal": None}
                case {"type": "refusal", "refusal": str(said)}:
                    chunk.refusal += said
                case {"type": "summary_text" | "reasoning_text", "text": str(said)}:
                    chunk.reasoning += said

    def _finished(self, response: dict[str, Any], chunk: Chunk) -> None:
        if response.get("status") == "failed" or response.get("error"):
            raise upstream.from_frame(self._provider, response.get("error") or "the answer failed")
        if response.get("status") == "cancelled":
            raise upstream.broken(self._provider, "cancelled its answer")
        if child(response.get("incomplete_details")).get("reason") == "content_filter":
            self.finish = "content_filter"
        elif response.get("status") == "incomplete":
            self.finish = "length"
        else:
            self.finish = "tool_calls" if self._calls else "stop"
        chunk.finish = self.finish
        chunk.usage = _usage(response.get("usage"))


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    read, thought = child(usage.get("input_tokens_details")), child(usage.get("output_tokens_details"))
    return Usage(
        prompt_tokens=count(usage.get("input_tokens")),
        completion_tokens=count(usage.get("output_tokens")),
        cached_tokens=count(read.get("cached_tokens")),
        reasoning_tokens=count(thought.get("reasoning_tokens")),
    )
