"""Asking in Anthropic's Messages dialect: our request in its words, its answers in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from uait.llm import upstream
from uait.llm.attachments import read_attachment, read_image
from uait.llm.dialects.reading import child, count, load, text
from uait.llm.messages import (
    Chunk,
    FinishReason,
    GenerateRequest,
    Image,
    Message,
    Part,
    Text,
    Tool,
    ToolCallDelta,
    Usage,
)
from uait.llm.passing import EventReader, Passed
from uait.llm.provider import Extras, unsupported
from uait.llm.recall import Recall

Thoughts = list[dict[str, Any]]

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}


def render_request(
    provider: str, request: GenerateRequest, thoughts: Recall[Thoughts], max_tokens: int
) -> dict[str, Any]:
    """The body of `POST /v1/messages`.

    Args:
        thoughts: by the id of the first call that followed them; they are returned as they came.
        max_tokens: where the request does not say.

    Raises:
        BadRequest: it asks for something that the dialect does not have.
    """
    extras = Extras(provider, request)
    if request.temperature is not None and request.temperature > 1:
        raise unsupported(provider, "takes a temperature from 0 to 1")
    turns = request.turns
    body: dict[str, Any] = {
        "model": request.model,
        "messages": _render_turns(provider, turns, thoughts),
        "max_tokens": request.max_tokens or max_tokens,
        "stream": request.stream,
    }
    system = [{"type": "text", "text": turn.text} for turn in turns if turn.role == "system" and turn.text]
    if system:
        body["system"] = system
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [_render_tool(tool) for tool in request.tools]
    choice: dict[str, Any] = {}
    if request.tool_choice is not None:
        choice = {"type": _CHOICES[request.tool_choice.mode]}
        if request.tool_choice.name is not None:
            choice["name"] = request.tool_choice.name
    if extras.take("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    if choice and request.tools:
        body["tool_choice"] = choice
    body |= extras.take_all({"top_k": "top_k", "thinking": "thinking"})
    user = extras.take("user")
    if isinstance(user, str):
        body["metadata"] = {"user_id": user}
    config = _render_format(provider, request)
    effort = extras.take("reasoning_effort")
    if effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort is not None:
        body.setdefault("thinking", {"type": "adaptive"})
        config["effort"] = "low" if effort == "minimal" else effort
    if config:
        body["output_config"] = config
    extras.check()
    return body


def _render_format(provider: str, request: GenerateRequest) -> dict[str, Any]:
    wanted = request.response_format or {}
    match wanted.get("type"):
        case None | "text":
            return {}
        case "json_schema":
            schema = wanted.get("json_schema")
            schema = schema.get("schema") if isinstance(schema, Mapping) else None
            return {"format": {"type": "json_schema", "schema": schema or {"type": "object"}}}
        case _:
            raise unsupported(provider, "answers in JSON only to a 'json_schema'")


def _render_turns(provider: str, turns: Sequence[Message], thoughts: Recall[Thoughts]) -> list[dict[str, Any]]:
    """Their turns alternate: tools' results are the user's, and stand together."""
    rendered: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "system":
            continue
        role = "assistant" if turn.role == "assistant" else "user"
        blocks: list[dict[str, Any]] = []
        if turn.role == "tool":
            content = _render_parts(provider, turn)
            result = {"type": "tool_result", "tool_use_id": turn.tool_call_id or "", "content": content}
            blocks.append(result | {"is_error": True} if turn.failed else result)
        else:
            signed = [dict(thought) for thought in turn.thoughts if is_signed(thought)]
            if not signed and turn.tool_calls:
                signed = thoughts.get(turn.tool_calls[0].id) or []
            blocks += signed
            blocks += _render_parts(provider, turn)
            blocks += [
                {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input} for call in turn.tool_calls
            ]
        if not blocks:
            continue
        if rendered and rendered[-1]["role"] == role:
            rendered[-1]["content"] += blocks
        else:
            rendered.append({"role": role, "content": blocks})
    return rendered


def is_signed(block: Any) -> bool:
    """Whether a block of thoughts is Anthropic's own. Those of other models are given to clients with an empty signature, come back with it, and would be refused."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    return kind == "redacted_thinking" or (kind == "thinking" and bool(block.get("signature")))


def without_unsigned(messages: Any) -> Any:
    """A conversation in the dialect, without thoughts that the provider would refuse; the same object where there are none."""
    if not isinstance(messages, list):
        return messages
    kept, changed = [], False
    for turn in messages:
        content = turn.get("content") if isinstance(turn, dict) else None
        if isinstance(content, list):
            blocks = [block for block in content if not _is_unsigned(block)]
            if len(blocks) < len(content):
                changed = True
                if not blocks:
                    continue
                turn = {**turn, "content": blocks}
        kept.append(turn)
    return kept if changed else messages


def _is_unsigned(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")


def _render_parts(provider: str, turn: Message) -> list[dict[str, Any]]:
    # An empty text is refused there.
    return [_render_part(provider, part) for part in turn.parts if not (isinstance(part, Text) and not part.text)]


def _render_part(provider: str, part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        image = read_image(part)
        if isinstance(image, str):
            return {"type": "image", "source": {"type": "url", "url": image}}
        return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}
    file = read_attachment(part)
    if file is None or file.media_type != "application/pdf":
        raise unsupported(provider, "reads no other attachments than images and PDF files sent along")
    source = {"type": "base64", "media_type": file.media_type, "data": file.data}
    return {"type": "document", "source": source} | ({"title": file.name} if file.name else {})


def _render_tool(tool: Tool) -> dict[str, Any]:
    body: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters or {"type": "object", "properties": {}}}
    if tool.description is not None:
        body["description"] = tool.description
    return body | {"strict": True} if tool.strict else body


class MessageReader(EventReader):
    """Reads one answer, as a stream's events or as one body."""

    def __init__(self, provider: str, thoughts: Recall[Thoughts], passed: Passed | None, *, streamed: bool) -> None:
        super().__init__(provider, passed, streamed=streamed)
        self._recall = thoughts
        self._calls: dict[int, int] = {}  # their index of a block -> ours of a call
        self._wordless: set[int] = set()  # calls whose arguments have not begun
        self._thoughts: Thoughts = []
        self._thinking: list[str] = []  # of the last of the thoughts, as far as it has come
        self._prompt: Mapping[str, Any] = {}

    def whole(self, body: bytes) -> Chunk:
        payload = self._load(body)
        content = payload.get("content")
        if not isinstance(content, list):
            raise upstream.broken(self._provider, "sent an answer without content")
        chunk = Chunk(usage=self._usage(payload.get("usage")))
        for index, block in enumerate(content):
            if isinstance(block, dict):
                found = self._block(index, block)
                if found is not None:
                    chunk.text += found.text
                    chunk.reasoning += found.reasoning
                    chunk.tool_calls += found.tool_calls
        chunk.finish = self._finished(payload.get("stop_reason"))
        return self._with_body(chunk, body)

    def _load(self, data: bytes) -> dict[str, Any]:
        payload = load(self._provider, data)
        if payload.get("error") or payload.get("type") == "error":
            raise upstream.from_frame(self._provider, payload.get("error") or "the answer failed")
        return payload

    def _chunk(self, payload: dict[str, Any]) -> Chunk | None:
        index = payload.get("index")
        index = index if isinstance(index, int) else 0
        match payload.get("type"):
            case "content_block_delta":
                return self._delta(index, child(payload.get("delta")))
            case "content_block_start":
                return self._block(index, child(payload.get("content_block")))
            case "content_block_stop" if self._calls.get(index) in self._wordless:
                # Not every client takes no arguments for an empty object.
                self._wordless.discard(self._calls[index])
                return Chunk(tool_calls=(ToolCallDelta(self._calls[index], arguments="{}"),))
            case "message_start":
                # Not yet said to anybody: an answer that breaks off has used more than this, and nobody knows what.
                self._prompt = child(child(payload.get("message")).get("usage"))
            case "message_delta":
                reason = child(payload.get("delta")).get("stop_reason")
                usage = self._usage(payload.get("usage"))
                return Chunk(finish=self._finished(reason) if reason else None, usage=usage)
            case "message_stop":
                self.done = True
                if self.finish is None:
                    return Chunk(finish=self._finished(None))
        return None

    def _block(self, index: int, block: dict[str, Any]) -> Chunk | None:
        """A block as it begins, or whole."""
        match block.get("type"):
            case "text" if isinstance(block.get("text"), str) and block["text"]:
                return Chunk(block["text"])
            case "thinking":
                if self._thoughts:
                    self._thoughts[-1] = self._settled(self._thoughts[-1])
                thinking, signature = text(block.get("thinking")), text(block.get("signature"))
                self._thoughts.append({**block, "thinking": thinking, "signature": signature})
                return Chunk(reasoning=thinking) if thinking else None
            case "redacted_thinking":
                if self._thoughts:
                    self._thoughts[-1] = self._settled(self._thoughts[-1])
                self._thoughts.append(block)
            case "tool_use":
                call_id, ours = str(block.get("id") or ""), len(self._calls)
                self._calls[index] = ours
                if self._thoughts and not ours:
                    self._thoughts[-1] = self._settled(self._thoughts[-1])
                    self._recall.put(call_id, self._thoughts, len(orjson.dumps(self._thoughts)))
                given = block.get("input")
                arguments = orjson.dumps(given).decode() if given else ""
                if not arguments:
                    self._wordless.add(ours)
                return Chunk(tool_calls=(ToolCallDelta(ours, call_id, str(block.get("name") or ""), arguments),))
        return None

    def _settled(self, thought: dict[str, Any]) -> dict[str, Any]:
        """With what has come since it began."""
        pieces, self._thinking = self._thinking, []
        return {**thought, "thinking": text(thought.get("thinking")) + "".join(pieces)} if pieces else thought

    def _delta(self, index: int, delta: dict[str, Any]) -> Chunk | None:
        match delta:
            case {"type": "text_delta", "text": str(more)}:
                return Chunk(more)
            case {"type": "input_json_delta", "partial_json": str(more)} if index in self._calls and more:
                self._wordless.discard(self._calls[index])
                return Chunk(tool_calls=(ToolCallDelta(self._calls[index], arguments=more),))
            case {"type": "thinking_delta", "thinking": str(more)}:
                self._thinking.append(more)
                return Chunk(reasoning=more)
            case {"type": "signature_delta", "signature": str(more)} if self._thoughts:
                self._thoughts[-1]["signature"] = text(self._thoughts[-1].get("signature")) + more
        return None

    def _finished(self, reason: Any) -> FinishReason:
        default: FinishReason = "tool_calls" if self._calls else "stop"
        self.finish = _FINISH.get(reason, default) if isinstance(reason, str) else default
        return self.finish

    def _usage(self, usage: Any) -> Usage | None:
        """Theirs is cumulative; the prompt's part may stand only in the first event."""
        if not isinstance(usage, dict):
            return None
        counted = {**self._prompt, **{key: value for key, value in usage.items() if value is not None}}
        read = count(counted.get("cache_read_input_tokens"))
        written = count(counted.get("cache_creation_input_tokens"))
        prompt = count(counted.get("input_tokens")) + read + written
        return Usage(prompt, count(counted.get("output_tokens")), cached_tokens=read)
