"""Being asked in Anthropic's Messages dialect: our answers, streams, models and errors in its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from uait.errors import APIError
from uait.llm.catalog import ListedModel
from uait.llm.messages import (
    Chunk,
    Collected,
    Usage,
)
from uait.llm.upstream import CONTEXT_LENGTH
from uait.storage.ids import new_id

_STOP: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
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


TOO_LONG = "prompt is too long"
"""What clients look for in the message, to shorten the conversation and ask again: this dialect has no code for it."""


def render_count(tokens: int, *, estimated: bool) -> dict[str, Any]:
    """The answer of `count_tokens`. Where nobody has the model's tokenizer, it says so."""
    return {"input_tokens": tokens} | ({"estimated": True} if estimated else {})


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
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input} for call in answer.tool_calls
    ]
    return _message(model, content, _STOP[answer.finish or "stop"], usage)


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
        self._passed = False

    def start(self) -> bytes:
        """The first event."""
        message = _message(self._model, [], None, Usage(prompt_tokens=self._prompt_tokens))
        return _event("message_start", {"message": message}) + _event("ping", {})

    def chunk(self, chunk: Chunk) -> bytes:
        """The events of one step; b"" where it says nothing."""
        if chunk.raw is not None:
            self._passed = True
            return chunk.raw
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
        if self._passed:
            return b""
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
    message = error.text
    if error.error_code == CONTEXT_LENGTH and TOO_LONG not in message.lower():
        message = f"{TOO_LONG}: {message}"
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


LAST_EVENTS = (b"event: message_stop", b"event: error")
"""What the last event of a stream begins with."""


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
