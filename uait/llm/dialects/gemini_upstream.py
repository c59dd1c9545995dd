"""Asking in Gemini's dialect: our request in its words, its answers in ours."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from uait.errors import BadRequest
from uait.llm import upstream
from uait.llm.attachments import read_attachment, read_image
from uait.llm.dialects.reading import children, count, load
from uait.llm.messages import (
    Chunk,
    FinishReason,
    GenerateRequest,
    Image,
    Message,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from uait.llm.provider import Extras, unsupported
from uait.llm.recall import Recall
from uait.llm.sse import ServerSentEvent

UNSIGNED = "skip_thought_signature_validator"
"""What Google says to send for a call whose signature is lost: an earlier call of another provider's, or of before a restart."""

_FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "OTHER": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
}
_FAILED = frozenset(
    {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"}
)
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE", "named": "ANY"}
_PARAMETERS = {
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
"""Thinking tokens, for models that are told a number and not a level."""


@attrs.frozen
class Call:
    """What Gemini wants back of a call of its: its own id, if any, and the signature of the thoughts before it."""

    id: str
    signature: str


def render_request(provider: str, request: GenerateRequest, calls: Recall[Call]) -> dict[str, Any]:
    """The body of `generateContent`.

    Args:
        calls: what is to be returned with calls, by their ids.

    Raises:
        BadRequest: it asks for something that the dialect does not have.
    """
    extras = Extras(provider, request)
    turns = request.turns
    config = extras.take_all(_PARAMETERS)
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.top_p is not None:
        config["topP"] = request.top_p
    if request.max_tokens is not None:
        config["maxOutputTokens"] = request.max_tokens
    if request.stop:
        config["stopSequences"] = list(request.stop)
    effort = extras.take("reasoning_effort")
    if effort is not None:
        config["thinkingConfig"] = _render_effort(request.model, str(effort))
    wanted = request.response_format or {}
    if wanted.get("type") in ("json_object", "json_schema"):
        config["responseMimeType"] = "application/json"
        given = wanted.get("json_schema")
        if isinstance(given, Mapping) and "schema" in given:
            config["responseJsonSchema"] = given["schema"]
    body: dict[str, Any] = {"contents": _Contents(provider, request.model, calls).render(turns)}
    system = [{"text": turn.text} for turn in turns if turn.role == "system" and turn.text]
    if system:
        body["systemInstruction"] = {"parts": system}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_render_tool(tool) for tool in request.tools]}]
        if request.tool_choice is not None:
            calling: dict[str, Any] = {"mode": _MODES[request.tool_choice.mode]}
            if request.tool_choice.name is not None:
                calling["allowedFunctionNames"] = [request.tool_choice.name]
            body["toolConfig"] = {"functionCallingConfig": calling}
    if config:
        body["generationConfig"] = config
    extras.check()
    return body


def _render_effort(model: str, effort: str) -> dict[str, Any]:
    if model.startswith("gemini-2"):
        return {"thinkingBudget": _BUDGETS.get(effort, -1), "includeThoughts": effort != "none"}
    if effort == "none":
        return {"thinkingLevel": "minimal"}
    return {"thinkingLevel": "high" if effort in ("xhigh", "max") else effort, "includeThoughts": True}


def _render_tool(tool: Tool) -> dict[str, Any]:
    body: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        body["description"] = tool.description
    if tool.parameters is not None:
        # Not `parameters`, whose own kind of schema knows only a part of JSON Schema.
        body["parametersJsonSchema"] = tool.parameters
    return body


class _Contents:
    """Renders a conversation. Roles alternate there, and a tool's result names the function instead of the call."""

    def __init__(self, provider: str, model: str, calls: Recall[Call]) -> None:
        self._provider = provider
        self._signed = model.startswith("gemini") and not model.startswith(("gemini-1", "gemini-2"))
        self._calls = calls
        self._names: dict[str, str] = {}

    def render(self, turns: Sequence[Message]) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = []
        for turn in turns:
            if turn.role == "system":
                continue
            role = "model" if turn.role == "assistant" else "user"
            if turn.role == "tool":
                parts = [self._result(turn)]
            else:
                # A text that is empty is refused there.
                given = (part for part in turn.parts if not (isinstance(part, Text) and not part.text))
                parts = [self._part(part) for part in given]
                parts += [self._call(n, call) for n, call in enumerate(turn.tool_calls)]
            if parts and contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            elif parts:
                contents.append({"role": role, "parts": parts})
        return contents

    def _part(self, part: Part) -> dict[str, Any]:
        if isinstance(part, Text):
            return {"text": part.text}
        found = read_image(part) if isinstance(part, Image) else read_attachment(part)
        if isinstance(found, str):
            raise unsupported(self._provider, "does not fetch images; send them as 'data:' addresses")
        if found is None:
            raise unsupported(self._provider, "reads only attachments that are sent along")
        return {"inlineData": {"mimeType": found.media_type, "data": found.data}}

    def _call(self, place: int, call: ToolCall) -> dict[str, Any]:
        self._names[call.id] = call.name
        known = self._calls.get(call.id)
        function: dict[str, Any] = {"name": call.name, "args": call.input}
        if known is not None and known.id:
            function["id"] = known.id
        part: dict[str, Any] = {"functionCall": function}
        if known is not None and known.signature:
            part["thoughtSignature"] = known.signature
        elif known is None and place == 0 and self._signed:
            part["thoughtSignature"] = UNSIGNED
        return part

    def _result(self, turn: Message) -> dict[str, Any]:
        call_id = turn.tool_call_id or ""
        if call_id not in self._names:
            raise BadRequest(f"There is no tool call {call_id[:100]!r} before its result.", code="UNKNOWN_TOOL_CALL")
        if not all(isinstance(part, Text) for part in turn.parts):
            raise unsupported(self._provider, "takes only text as a tool's result")
        known = self._calls.get(call_id)
        result = {"error": turn.text} if turn.failed else _result_object(turn.text)
        response: dict[str, Any] = {"name": self._names[call_id], "response": result}
        if known is not None and known.id:
            response["id"] = known.id
        return {"functionResponse": response}


def _result_object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    return value if isinstance(value, dict) else {"output": value}


class ContentReader:
    """Reads one answer, as a stream's events or as one body; see `AnswerReader` of OpenAI's dialect.

    There is no last event but the end of the stream. Until then the finish reason is kept back.
    """

    done = False

    def __init__(self, provider: str, calls: Recall[Call]) -> None:
        self.finish: FinishReason | None = None
        self._provider = provider
        self._recall = calls
        self._calls = 0

    def event(self, event: ServerSentEvent) -> Chunk | None:
        return self._read(self._checked(load(self._provider, event.data))) if event.data else None

    def end(self) -> Chunk | None:
        if self.finish is None:
            raise upstream.broken(self._provider, "ended its answer before it was complete")
        return Chunk(finish="tool_calls" if self.finish == "stop" and self._calls else self.finish)

    def whole(self, body: bytes) -> Chunk:
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            payload = None
        # A stream that nobody asked for as events is one list.
        pieces = payload if isinstance(payload, list) else [payload]
        whole = Chunk()
        for piece in pieces:
            chunk = self._read(self._checked(piece))
            if chunk is not None:
                whole.text += chunk.text
                whole.reasoning += chunk.reasoning
                whole.tool_calls += chunk.tool_calls
                whole.usage = chunk.usage or whole.usage
                whole.logprobs = chunk.logprobs or whole.logprobs
        last = self.end()
        whole.finish = last.finish if last is not None else None
        return whole

    def _checked(self, payload: Any) -> dict[str, Any]:
        if not isinstance(payload, dict):
            raise upstream.broken(self._provider, "sent something that is not a JSON object")
        if payload.get("error"):
            raise upstream.from_frame(self._provider, payload["error"])
        return payload

    def _read(self, payload: dict[str, Any]) -> Chunk | None:
        usage = payload.get("usageMetadata")
        chunk = Chunk(usage=_usage(usage) if isinstance(usage, dict) else None)
        candidates = payload.get("candidates")
        feedback = payload.get("promptFeedback")
        if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
            if isinstance(feedback, dict) and feedback.get("blockReason"):
                self.finish = "content_filter"
            return chunk if chunk.usage else None
        candidate = candidates[0]
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict):
                self._part(part, chunk)
        chunk.logprobs = _logprobs(candidate.get("logprobsResult"))
        reason = candidate.get("finishReason")
        if isinstance(reason, str) and reason in _FAILED:
            raise upstream.broken(self._provider, f"could not finish its answer: {reason}")
        if isinstance(reason, str) and reason:
            self.finish = _FINISH.get(reason, "content_filter" if reason.startswith("IMAGE_") else "stop")
        return chunk if chunk.meaningful or chunk.usage or chunk.logprobs else None

    def _part(self, part: dict[str, Any], chunk: Chunk) -> None:
        function = part.get("functionCall")
        text = part.get("text")
        if isinstance(function, dict):
            theirs, signature = function.get("id"), part.get("thoughtSignature")
            call = Call(theirs if isinstance(theirs, str) else "", signature if isinstance(signature, str) else "")
            call_id = call.id or f"call_{secrets.token_hex(12)}"
            self._recall.put(call_id, call, len(call_id) + len(call.signature))
            arguments = orjson.dumps(function.get("args") or {}).decode()
            chunk.tool_calls += (ToolCallDelta(self._calls, call_id, str(function.get("name") or ""), arguments),)
            self._calls += 1
        elif isinstance(text, str) and part.get("thought"):
            chunk.reasoning += text
        elif isinstance(text, str):
            chunk.text += text


def _usage(usage: dict[str, Any]) -> Usage:
    thoughts = count(usage.get("thoughtsTokenCount"))
    return Usage(
        prompt_tokens=count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount")),
        completion_tokens=count(usage.get("candidatesTokenCount")) + thoughts,
        cached_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def _logprobs(result: Any) -> Any:
    """In OpenAI's form."""
    chosen = result.get("chosenCandidates") if isinstance(result, dict) else None
    if not isinstance(chosen, list):
        return None
    others = result.get("topCandidates")
    others = others if isinstance(others, list) else []
    content = []
    for n, token in enumerate(chosen):
        near = others[n].get("candidates") if n < len(others) and isinstance(others[n], dict) else None
        tops = [_token(each) for each in children(near)]
        if isinstance(token, dict):
            content.append({**_token(token), "top_logprobs": tops})
    return {"content": content, "refusal": None}


def _token(token: dict[str, Any]) -> dict[str, Any]:
    text = str(token.get("token") or "")
    return {"token": text, "logprob": token.get("logProbability") or 0.0, "bytes": list(text.encode())}
