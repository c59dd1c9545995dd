"""Asking in OpenAI's Chat Completions dialect: our request in its words, its answers in ours.

It has many speakers, and this reads what they really send (WIRE 8.2, 8.5, 8.7): a finish reason that is missing or empty, tool calls without an index or id, arguments as an object, content as a list, usage
anywhere, errors beside choices.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from uait.llm import upstream
from uait.llm.dialects.reading import child, count, load
from uait.llm.messages import (
    Chunk,
    FinishReason,
    GenerateRequest,
    Image,
    Message,
    OtherPart,
    Part,
    Text,
    Tool,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from uait.llm.sse import ServerSentEvent

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def render_request(request: GenerateRequest, *, max_tokens_field: str = "max_tokens") -> dict[str, Any]:
    """The body of `POST /chat/completions`.

    Args:
        max_tokens_field: OpenAI itself wants `max_completion_tokens`, everybody else knows only `max_tokens`.
    """
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_render_message(turn) for turn in request.turns],
        "stream": request.stream,
    }
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.max_tokens is not None:
        body[max_tokens_field] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = [render_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _render_choice(request.tool_choice)
    if request.response_format is not None:
        body["response_format"] = request.response_format
    return {**request.extra, **body}


def _render_message(turn: Message) -> dict[str, Any]:
    turn = turn.plain
    body: dict[str, Any] = {"role": turn.role}
    if turn.name is not None:
        body["name"] = turn.name
    if turn.tool_call_id is not None:
        body["tool_call_id"] = turn.tool_call_id
    if turn.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.tool_calls
        ]
    if all(isinstance(part, Text) for part in turn.parts):
        # Plain text wherever it can be: not every server takes a list of parts.
        body["content"] = turn.text if turn.parts or not turn.tool_calls else None
    else:
        body["content"] = [_render_part(part) for part in turn.parts]
    return body


def _render_part(part: Part) -> Mapping[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url, detail):
            return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
        case OtherPart(data):
            return data


def render_tool(tool: Tool) -> dict[str, Any]:
    """A tool as Chat Completions has it."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _render_choice(choice: ToolChoice) -> Any:
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


class AnswerReader:
    """Reads one answer, as a stream's events or as one body.

    Args:
        provider: the provider's name, for errors.

    Attributes:
        done: nothing more is to come: `[DONE]` was read.
        finish: why the answer ended, once that is known.
    """

    def __init__(self, provider: str) -> None:
        self.done = False
        self.finish: FinishReason | None = None
        self._provider = provider
        self._calls: list[str] = []  # the id of each call, by our own index
        self._named_here: set[int] = set()  # the calls whose id is ours, because the server gave none
        self._index_of: dict[int, int] = {}  # the server's index -> ours

    def event(self, event: ServerSentEvent) -> Chunk | None:
        """Read one event of a stream; None where it says nothing.

        Raises:
            APIError: it is an error, or cannot be read.
        """
        if event.data.startswith(b"[DONE]"):
            self.done = True
            if self.finish is None:
                return self._finished("stop")
            return None
        if not event.data:
            return None
        payload = load(self._provider, event.data)
        # Before anything else: an error frame may have choices and content beside it.
        self._raise_error(payload, named_error=event.event == "error")
        return self._chunk(payload, "delta")

    def end(self) -> Chunk | None:
        """The stream has ended; what is to be said yet.

        Raises:
            APIError: the answer had not come to its end.
        """
        if self.finish is None:
            raise upstream.broken(self._provider, "ended its answer before it was complete")
        return None

    def whole(self, body: bytes) -> Chunk:
        """Read an answer that came in one piece.

        Raises:
            APIError: it is an error, or no answer.
        """
        payload = load(self._provider, body)
        self._raise_error(payload)
        if not payload.get("choices"):
            raise upstream.broken(self._provider, "sent an answer without choices")
        chunk = self._chunk(payload, "message") or Chunk()
        if chunk.finish is None:
            chunk.finish = self._finished("stop").finish
        return chunk

    def _raise_error(self, payload: dict[str, Any], *, named_error: bool = False) -> None:
        error = payload.get("error")
        if error:
            raise upstream.from_frame(self._provider, error)
        if named_error:
            raise upstream.from_frame(self._provider, payload)

    def _chunk(self, payload: dict[str, Any], field: str) -> Chunk | None:
        usage = payload.get("usage")
        chunk = Chunk(usage=read_usage(usage) if usage else None)
        choices = payload.get("choices")
        if not choices or not isinstance(choices, list) or not isinstance(choices[0], dict):
            return chunk if usage else None
        choice = choices[0]
        reason = choice.get("finish_reason")
        if choice.get("error") or reason == "error":
            raise upstream.from_frame(self._provider, choice.get("error") or "the answer failed")
        delta = choice.get(field)
        if isinstance(delta, dict):
            content = delta.get("content")
            if content:
                chunk.text = content if isinstance(content, str) else _text_of(content)
            if len(delta) > 1 or not content:
                self._read_rest(delta, chunk)
        chunk.logprobs = choice.get("logprobs")
        if reason and isinstance(reason, str):
            chunk.finish = self._finished(_FINISH.get(reason, "stop")).finish
        return chunk if chunk.text or chunk.meaningful or chunk.usage or chunk.logprobs else None

    def _read_rest(self, delta: dict[str, Any], chunk: Chunk) -> None:
        """What a token of plain text does not have."""
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str):
            chunk.reasoning = reasoning
        refusal = delta.get("refusal")
        if isinstance(refusal, str):
            chunk.refusal = refusal
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            chunk.tool_calls = tuple(self._tool_calls(calls))

    def _finished(self, reason: FinishReason) -> Chunk:
        # Some servers say "stop" after tool calls, and whoever asked would not run them.
        self.finish = "tool_calls" if reason == "stop" and self._calls else reason
        return Chunk(finish=self.finish)

    def _tool_calls(self, fragments: list[Any]) -> Iterator[ToolCallDelta]:
        for fragment in fragments:
            if not isinstance(fragment, dict):
                continue
            function = fragment.get("function")
            function = function if isinstance(function, dict) else {}
            arguments = function.get("arguments")
            if isinstance(arguments, dict | list):
                arguments = orjson.dumps(arguments).decode()
            text = arguments if isinstance(arguments, str) else ""
            name = function.get("name")
            name = name if isinstance(name, str) else ""
            known, index, call_id = self._place(fragment, name)
            if known:
                yield ToolCallDelta(index, arguments=text)
            else:
                yield ToolCallDelta(index, call_id, name, text)

    def _place(self, fragment: dict[str, Any], name: str) -> tuple[bool, int, str]:
        """Which call a fragment belongs to: whether it is one we know, our index of it, its id."""
        theirs, call_id = fragment.get("index"), fragment.get("id")
        call_id = call_id if isinstance(call_id, str) else ""
        if call_id and not name and call_id in self._calls:
            return True, self._calls.index(call_id), call_id  # whatever its index: each fragment has its call's id
        index = self._index_of.get(theirs) if isinstance(theirs, int) else None
        if index is None and theirs is None and self._calls and not call_id and not name:
            index = len(self._calls) - 1
        if index is not None:
            # A new id under an index that is taken is another call: some servers number every call 0. Where they give no ids either, a name begins a call.
            begins = call_id != self._calls[index] if call_id else bool(name) and index in self._named_here
            if not begins:
                return True, index, call_id
        index = len(self._calls)
        if not call_id:
            call_id = f"call_{secrets.token_hex(12)}"
            self._named_here.add(index)
        self._calls.append(call_id)
        if isinstance(theirs, int):
            self._index_of[theirs] = index
        return False, index, call_id


def read_usage(usage: Any) -> Usage | None:
    """Read a `usage` object; None where it is not one."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = child(usage.get("prompt_tokens_details")), child(usage.get("completion_tokens_details"))
    return Usage(
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        cached_tokens=count(prompt.get("cached_tokens")),
        reasoning_tokens=count(completion.get("reasoning_tokens")),
    )


def _text_of(content: Any) -> str:
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "".join(text for text in texts if isinstance(text, str))
