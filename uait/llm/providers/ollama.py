"""Ollama's own API. Its OpenAI layer loses errors in the middle of an answer, and does not tell what a model can do."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson

from uait.llm import upstream
from uait.llm.attachments import read_image
from uait.llm.dialects.openai_upstream import render_tool
from uait.llm.dialects.reading import child, children, first_of, load, seconds, text, vectors
from uait.llm.messages import (
    Chunk,
    GenerateRequest,
    Image,
    Message,
    Text,
    ToolCallDelta,
    Usage,
    estimate_tokens,
)
from uait.llm.ndjson import LineParser
from uait.llm.passing import EventReader
from uait.llm.provider import Capability, Embeddings, Extras, Model, check_capabilities, unsupported
from uait.llm.providers.base import HTTPProvider
from uait.llm.sse import ServerSentEvent
from uait.llm.stream import ask_for_answer

_OPTIONS = {
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_penalty": "repeat_penalty",
    "num_ctx": "num_ctx",
}
_BESIDE = {"logprobs": "logprobs", "top_logprobs": "top_logprobs", "keep_alive": "keep_alive"}
_CAN = {
    "completion": Capability.CHAT,
    "tools": Capability.TOOLS,
    "vision": Capability.VISION,
    "embedding": Capability.EMBEDDINGS,
}


class OllamaProvider(HTTPProvider):
    """One server; `base_url` is what `/api/chat` is put after."""

    capabilities = frozenset(Capability) - {Capability.ATTACHMENTS}
    own_paths = ("/v1", "/api")
    reads_thoughts = True

    async def models(self) -> Sequence[Model]:
        answer = await self._http.json("GET", "/api/tags")
        data = answer.get("models") if isinstance(answer, dict) else None
        if not isinstance(data, list):
            raise upstream.broken(self.name, "sent no list of models")
        return tuple(_model(item) for item in children(data) if _name(item))

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        check_capabilities(self, request)
        body = render_request(self.name, request)
        reader = ChatReader(self.name)
        return ask_for_answer(
            self._http, "/api/chat", body, request, reader, framer=LineParser, media_type="application/x-ndjson"
        )

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        body: dict[str, Any] = {"model": model, "input": list(texts)}
        if dimensions is not None:
            body["dimensions"] = dimensions
        answer = await self._http.json("POST", "/api/embed", body)
        found = vectors(self.name, answer.get("embeddings") if isinstance(answer, dict) else None, texts)
        counted = answer.get("prompt_eval_count")
        if isinstance(counted, int):
            return Embeddings(found, Usage(prompt_tokens=counted))
        guess = sum(estimate_tokens(len(text)) for text in texts)
        return Embeddings(found, Usage(prompt_tokens=guess, estimated=True))


def render_request(provider: str, request: GenerateRequest) -> dict[str, Any]:
    """The body of `POST /api/chat`.

    Raises:
        BadRequest: it asks for something that the dialect does not have.
    """
    extras = Extras(provider, request)
    messages = request.turns
    names = {call.id: call.name for turn in messages for call in turn.tool_calls}
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_render_message(provider, turn, names) for turn in messages],
        "stream": request.stream,
        **extras.take_all(_BESIDE),
    }
    options = extras.take_all(_OPTIONS)
    if request.temperature is not None:
        options["temperature"] = request.temperature
    if request.top_p is not None:
        options["top_p"] = request.top_p
    if request.max_tokens is not None:
        options["num_predict"] = request.max_tokens
    if request.stop:
        options["stop"] = list(request.stop)
    if options:
        body["options"] = options
    choice = request.tool_choice.mode if request.tool_choice is not None else "auto"
    if choice not in ("auto", "none"):
        raise unsupported(provider, "cannot be made to use a tool")
    if request.tools and choice == "auto":
        body["tools"] = [render_tool(tool) for tool in request.tools]
    wanted = request.response_format or {}
    if wanted.get("type") == "json_object":
        body["format"] = "json"
    elif wanted.get("type") == "json_schema":
        schema = wanted.get("json_schema")
        body["format"] = (schema.get("schema") if isinstance(schema, Mapping) else None) or "json"
    effort = extras.take("reasoning_effort")
    if effort is not None:
        body["think"] = False if effort == "none" else effort if effort in ("low", "medium", "high") else True
    extras.check()
    return body


def _render_message(provider: str, turn: Message, names: Mapping[str, str]) -> dict[str, Any]:
    turn = turn.plain
    body: dict[str, Any] = {"role": turn.role, "content": turn.text}
    if thinking := "".join(text(thought.get("thinking")) for thought in turn.thoughts):
        body["thinking"] = thinking
    images = []
    for part in turn.parts:
        if isinstance(part, Image):
            image = read_image(part)
            if isinstance(image, str):
                raise unsupported(provider, "does not fetch images; send them as 'data:' addresses")
            images.append(image.data)
        elif not isinstance(part, Text):
            raise unsupported(provider, "cannot read attachments")
    if images:
        body["images"] = images
    if turn.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": call.input}} for call in turn.tool_calls
        ]
    if turn.tool_call_id is not None:
        body["tool_call_id"] = turn.tool_call_id
        if turn.tool_call_id in names:
            body["tool_name"] = names[turn.tool_call_id]
    return body


class ChatReader(EventReader):
    """Reads one answer, as a stream's lines or as one body."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._calls = 0

    def _load(self, data: bytes) -> dict[str, Any]:
        payload = load(self._provider, data)
        if payload.get("error"):
            raise upstream.from_frame(self._provider, payload["error"])
        return payload

    def _chunk(self, payload: dict[str, Any]) -> Chunk | None:
        chunk = Chunk()
        self._message(child(payload.get("message")), chunk)
        tokens = payload.get("logprobs")
        if isinstance(tokens, list) and tokens:
            chunk.logprobs = {"content": tokens, "refusal": None}
        if payload.get("done") is True:
            self.done = True
            if self._calls:
                # It says "stop" then, and whoever asked would not run them.
                self.finish = "tool_calls"
            else:
                self.finish = "length" if payload.get("done_reason") == "length" else "stop"
            chunk.finish = self.finish
            chunk.usage = _usage(payload)
        return chunk if chunk.meaningful or chunk.logprobs else None

    def whole(self, body: bytes) -> Chunk:
        chunk = self.event(ServerSentEvent(body))
        if chunk is None or not self.done:
            raise upstream.broken(self._provider, "sent an answer that is not complete")
        return chunk

    def _message(self, message: dict[str, Any], chunk: Chunk) -> None:
        chunk.text, chunk.reasoning = text(message.get("content")), text(message.get("thinking"))
        for call in children(message.get("tool_calls")):
            function = child(call.get("function"))
            arguments = function.get("arguments")
            if not isinstance(arguments, str):
                arguments = orjson.dumps(arguments or {}).decode()
            call_id = text(call.get("id")) or f"call_{secrets.token_hex(12)}"
            # Their index is missing, or always 0: they come whole, so ours is their order.
            chunk.tool_calls += (ToolCallDelta(self._calls, call_id, text(function.get("name")), arguments),)
            self._calls += 1


def _usage(payload: Mapping[str, Any]) -> Usage | None:
    """The prompt's count is left out where all of it was cached; the answer's never is."""
    prompt, answer = payload.get("prompt_eval_count"), payload.get("eval_count")
    if not isinstance(answer, int):
        return None
    return Usage(prompt if isinstance(prompt, int) else 0, answer)


def _name(item: Mapping[str, Any]) -> str:
    return text(item.get("model")) or text(item.get("name"))


def _model(item: Mapping[str, Any]) -> Model:
    name, details = _name(item), child(item.get("details"))
    told = item.get("capabilities")
    capabilities: tuple[Capability, ...]
    if isinstance(told, list):
        capabilities = tuple(_CAN[word] for word in told if isinstance(word, str) and word in _CAN)
    else:
        # An older server does not tell.
        families = str(details.get("families") or details.get("family") or "")
        capabilities = (Capability.EMBEDDINGS,) if "bert" in families or "embed" in name else (Capability.CHAT,)
    if Capability.CHAT in capabilities:
        capabilities += (Capability.STREAMING, Capability.JSON)
    return Model(
        name,
        capabilities=capabilities,
        context_length=first_of(details, "context_length"),
        created=seconds(item.get("modified_at")),
        owned_by="ollama",
    )
