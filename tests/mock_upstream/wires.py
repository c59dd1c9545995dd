"""How the answers of the native dialects look on the wire, event by event. The scenarios in `wired.py` are made of these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import attrs

Body: TypeAlias = dict[str, Any]


@attrs.frozen
class Call:
    """A tool call, its arguments in fragments where the dialect streams them."""

    id: str
    name: str
    arguments: tuple[str, ...] = ()

    @property
    def input(self) -> Any:
        return json.loads("".join(self.arguments) or "{}")


def sse(value: Any, name: str = "") -> bytes:
    """One server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


class Wire:
    """One answer in one dialect. Every method gives bytes of a stream; `whole` an answer in one piece."""

    media_type = "text/event-stream"
    status_overloaded = 503
    prompt, completion = 11, 7

    def begin(self) -> bytes:
        """What comes before the first token."""
        return b""

    def thought(self, text: str) -> bytes:
        raise NotImplementedError

    def text(self, text: str) -> bytes:
        raise NotImplementedError

    def calls(self, calls: Sequence[Call]) -> bytes:
        raise NotImplementedError

    def finish(self, reason: str = "stop", *, usage: bool = True) -> bytes:
        """Says why the answer ended, and what it used."""
        raise NotImplementedError

    def done(self) -> bytes:
        """The last event, where there is one after `finish`."""
        return b""

    def ping(self) -> bytes:
        return b": ping\n\n"

    def error(self, message: str) -> bytes:
        """That the model is overloaded, in the middle of a stream."""
        raise NotImplementedError

    def error_body(self, status: int, message: str) -> Any:
        raise NotImplementedError

    def whole(self, text: str, thought: str = "", calls: Sequence[Call] = (), reason: str = "stop") -> Body:
        raise NotImplementedError


class Anthropic(Wire):
    """Messages."""

    status_overloaded = 529
    _REASONS: ClassVar[dict[str, str]] = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }

    def __init__(self) -> None:
        self._blocks = 0
        self._open = ""

    def _usage(self) -> Body:
        return {
            "input_tokens": self.prompt - 3,
            "cache_creation_input_tokens": 1,
            "cache_read_input_tokens": 2,
            "output_tokens": 1,
        }

    def begin(self) -> bytes:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-mock", "content": []}
        message |= {"stop_reason": None, "stop_sequence": None, "usage": self._usage()}
        return self._event("message_start", message=message) + self.ping()

    def ping(self) -> bytes:
        return self._event("ping")

    def thought(self, text: str) -> bytes:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        return self._delta("thinking", block, {"type": "thinking_delta", "thinking": text})

    def text(self, text: str) -> bytes:
        return self._delta("text", {"type": "text", "text": ""}, {"type": "text_delta", "text": text})

    def calls(self, calls: Sequence[Call]) -> bytes:
        data = b""
        for call in calls:
            data += self._close()
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            data += self._delta(call.id, block, {"type": "input_json_delta", "partial_json": ""})
            for fragment in call.arguments:
                data += self._delta(call.id, {}, {"type": "input_json_delta", "partial_json": fragment})
        return data

    def finish(self, reason: str = "stop", *, usage: bool = True) -> bytes:
        delta = {"stop_reason": self._REASONS[reason], "stop_sequence": None}
        counted = {"usage": {"output_tokens": self.completion}} if usage else {}
        return self._close() + self._event("message_delta", delta=delta, **counted)

    def done(self) -> bytes:
        return self._event("message_stop")

    def error(self, message: str) -> bytes:
        return self._event("error", error={"type": "overloaded_error", "message": message})

    def error_body(self, status: int, message: str) -> Any:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        kinds |= {413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}
        error = {"type": kinds.get(status, "api_error"), "message": message}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def whole(self, text: str, thought: str = "", calls: Sequence[Call] = (), reason: str = "stop") -> Body:
        content: list[Body] = []
        if thought:
            content.append({"type": "thinking", "thinking": thought, "signature": "signed"})
        if text:
            content.append({"type": "text", "text": text})
        content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input} for call in calls]
        body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-mock", "content": content}
        usage = {**self._usage(), "output_tokens": self.completion}
        return body | {"stop_reason": self._REASONS[reason], "stop_sequence": None, "usage": usage}

    def _delta(self, kind: str, block: Body, delta: Body) -> bytes:
        data = b""
        if self._open != kind:
            data += self._close()
            self._open = kind
            data += self._event("content_block_start", index=self._blocks, content_block=block)
        return data + self._event("content_block_delta", index=self._blocks, delta=delta)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        data = b""
        if self._open == "thinking":
            signature = {"type": "signature_delta", "signature": "signed"}
            data = self._event("content_block_delta", index=self._blocks, delta=signature)
        self._open = ""
        self._blocks += 1
        return data + self._event("content_block_stop", index=self._blocks - 1)

    def _event(self, name: str, **fields: Any) -> bytes:
        return sse({"type": name, **fields}, name)


class Gemini(Wire):
    """`generateContent`."""

    _REASONS: ClassVar[dict[str, str]] = {
        "stop": "STOP",
        "length": "MAX_TOKENS",
        "tool_calls": "STOP",
        "content_filter": "SAFETY",
    }

    def _frame(self, parts: list[Body], reason: str = "", usage: bool = True) -> Body:
        candidate: Body = {"content": {"role": "model", "parts": parts}, "index": 0}
        if reason:
            candidate["finishReason"] = self._REASONS[reason]
        counted = {"promptTokenCount": self.prompt, "candidatesTokenCount": self.completion - 2}
        counted |= {"thoughtsTokenCount": 2, "cachedContentTokenCount": 2, "totalTokenCount": 18}
        body = {"candidates": [candidate], "modelVersion": "gemini-mock", "responseId": "r1"}
        return body | ({"usageMetadata": counted} if usage else {})

    def thought(self, text: str) -> bytes:
        return sse(self._frame([{"text": text, "thought": True}], usage=False))

    def text(self, text: str) -> bytes:
        return sse(self._frame([{"text": text}], usage=False))

    def calls(self, calls: Sequence[Call]) -> bytes:
        return b"".join(sse(self._frame([part], usage=False)) for part in self._call_parts(calls))

    def _call_parts(self, calls: Sequence[Call]) -> list[Body]:
        parts = [{"functionCall": {"id": call.id, "name": call.name, "args": call.input}} for call in calls]
        return [{**parts[0], "thoughtSignature": "signed"}, *parts[1:]]

    def finish(self, reason: str = "stop", *, usage: bool = True) -> bytes:
        return sse(self._frame([{"text": ""}], reason, usage))

    def error(self, message: str) -> bytes:
        # Not even an event.
        return json.dumps(self.error_body(503, message), indent=1).encode() + b"\n"

    def error_body(self, status: int, message: str) -> Any:
        words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        words |= {500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
        return [{"error": {"code": status, "message": message, "status": words.get(status, "UNKNOWN")}}]

    def whole(self, text: str, thought: str = "", calls: Sequence[Call] = (), reason: str = "stop") -> Body:
        parts: list[Body] = [{"text": thought, "thought": True}] if thought else []
        parts += [{"text": text}] if text else []
        return self._frame([*parts, *(self._call_parts(calls) if calls else [])], reason)


class Ollama(Wire):
    """`/api/chat`."""

    media_type = "application/x-ndjson"

    def __init__(self) -> None:
        self._called = False

    def _line(self, **message: Any) -> Body:
        said = {"role": "assistant", "content": "", **message}
        return {"model": "mock", "created_at": "2026-01-02T03:04:05.123456789Z", "message": said, "done": False}

    def _bytes(self, value: Body) -> bytes:
        return json.dumps(value).encode() + b"\n"

    def thought(self, text: str) -> bytes:
        return self._bytes(self._line(thinking=text))

    def text(self, text: str) -> bytes:
        return self._bytes(self._line(content=text))

    def calls(self, calls: Sequence[Call]) -> bytes:
        return self._bytes(self._line(tool_calls=self._rendered(calls)))

    def _rendered(self, calls: Sequence[Call]) -> list[Body]:
        return [{"function": {"index": 0, "name": call.name, "arguments": call.input}} for call in calls]

    def _last(self, line: Body, reason: str, usage: bool) -> Body:
        counted = {"prompt_eval_count": self.prompt, "eval_count": self.completion} if usage else {}
        # After tool calls it says "stop", too.
        said = "length" if reason == "length" else "stop"
        return line | {"done": True, "done_reason": said, "total_duration": 5, "load_duration": 1, **counted}

    def finish(self, reason: str = "stop", *, usage: bool = True) -> bytes:
        return self._bytes(self._last(self._line(), reason, usage))

    def ping(self) -> bytes:
        return b"\n"

    def error(self, message: str) -> bytes:
        return self._bytes({"error": message})

    def error_body(self, status: int, message: str) -> Any:
        return {"error": message}

    def whole(self, text: str, thought: str = "", calls: Sequence[Call] = (), reason: str = "stop") -> Body:
        more: Body = {"thinking": thought} if thought else {}
        more |= {"tool_calls": self._rendered(calls)} if calls else {}
        return self._last(self._line(content=text, **more), reason, True)


class Responses(Wire):
    """OpenAI's Responses."""

    def __init__(self) -> None:
        self._sequence = 0
        self._items: list[Body] = []

    def _response(self, status: str, **more: Any) -> Body:
        body = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-mock", "status": status}
        body |= {"error": None, "incomplete_details": None, "output": self._items, "usage": None, "tools": []}
        return body | {"tool_choice": "auto", "parallel_tool_calls": True, "metadata": {}} | more

    def begin(self) -> bytes:
        return self._event("response.created", response=self._response("in_progress")) + self._event(
            "response.in_progress", response=self._response("in_progress")
        )

    def thought(self, text: str) -> bytes:
        data = b""
        if not self._items or self._items[-1]["type"] != "reasoning":
            self._items.append({"id": "rs_1", "type": "reasoning", "summary": [], "status": "in_progress"})
            data = self._event("response.output_item.added", output_index=len(self._items) - 1, item=self._items[-1])
        return data + self._at("response.reasoning_summary_text.delta", summary_index=0, delta=text)

    def text(self, text: str) -> bytes:
        data = b""
        if not self._items or self._items[-1]["type"] != "message":
            part: Body = {"type": "output_text", "text": "", "annotations": []}
            self._items.append(
                {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
            )
            data = self._event("response.output_item.added", output_index=len(self._items) - 1, item=self._items[-1])
            data += self._at("response.content_part.added", content_index=0, part=part)
            self._items[-1]["content"] = [part]
        self._items[-1]["content"][0]["text"] += text
        return data + self._at("response.output_text.delta", content_index=0, delta=text, logprobs=[])

    def calls(self, calls: Sequence[Call]) -> bytes:
        data = b""
        for call in calls:
            item = {"id": f"fc_{call.id}", "type": "function_call", "call_id": call.id, "name": call.name}
            self._items.append({**item, "arguments": "", "status": "in_progress"})
            data += self._event("response.output_item.added", output_index=len(self._items) - 1, item=self._items[-1])
            for fragment in call.arguments:
                data += self._at("response.function_call_arguments.delta", delta=fragment)
            self._items[-1] = {**self._items[-1], "arguments": "".join(call.arguments)}
            data += self._at("response.function_call_arguments.done", arguments=self._items[-1]["arguments"])
            self._items[-1]["status"] = "completed"
            data += self._event("response.output_item.done", output_index=len(self._items) - 1, item=self._items[-1])
        return data

    def _finished(self, reason: str, usage: bool) -> Body:
        counted: Body = {"input_tokens": self.prompt, "output_tokens": self.completion, "total_tokens": 18}
        counted |= {"input_tokens_details": {"cached_tokens": 2}, "output_tokens_details": {"reasoning_tokens": 2}}
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reason)
        return self._response(
            "incomplete" if why else "completed",
            incomplete_details={"reason": why} if why else None,
            usage=counted if usage else None,
        )

    def finish(self, reason: str = "stop", *, usage: bool = True) -> bytes:
        response = self._finished(reason, usage)
        data = b""
        if self._items and self._items[-1]["type"] == "message":
            self._items[-1]["status"] = "completed"
            text = self._items[-1]["content"][0]["text"]
            data += self._at("response.output_text.done", content_index=0, text=text, logprobs=[])
            data += self._at("response.content_part.done", content_index=0, part=self._items[-1]["content"][0])
            data += self._event("response.output_item.done", output_index=len(self._items) - 1, item=self._items[-1])
        return data + self._event(f"response.{response['status']}", response=response)

    def error(self, message: str) -> bytes:
        return self._event("error", code="overloaded_error", message=message, param=None)

    def error_body(self, status: int, message: str) -> Any:
        return {"error": {"message": message, "type": "api_error", "code": None, "param": None}}

    def whole(self, text: str, thought: str = "", calls: Sequence[Call] = (), reason: str = "stop") -> Body:
        if thought:
            self.thought("")
            self._items[-1]["summary"] = [{"type": "summary_text", "text": thought}]
        if text:
            self.text(text)
        self.calls(calls)
        return self._finished(reason, True)

    def _at(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self._items[-1]["id"], output_index=len(self._items) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = sse({"type": kind, "sequence_number": self._sequence, **fields}, kind)
        self._sequence += 1
        return data


WIRES: dict[str, type[Wire]] = {
    "anthropic": Anthropic,
    "gemini": Gemini,
    "ollama": Ollama,
    "responses": Responses,
}
