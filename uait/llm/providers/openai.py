"""Any server that speaks OpenAI's HTTP interface: OpenAI itself, vLLM, llama.cpp, LM Studio, Ollama, OpenRouter and many more."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

from uait.llm import upstream
from uait.llm.dialects.openai_upstream import AnswerReader, read_usage, render_request
from uait.llm.messages import Chunk, Dialect, GenerateRequest, Usage, estimate_tokens
from uait.llm.passing import pass_chat
from uait.llm.provider import Capability, Embeddings, Model, check_capabilities, hands_on
from uait.llm.providers.base import HTTPProvider
from uait.llm.servers import OPENAI
from uait.llm.stream import ask_for_answer
from uait.llm.upstream import Timeouts

_NO_CHAT = ("embed", "whisper", "tts", "dall-e", "moderation", "transcribe", "rerank", "image", "sora", "realtime")
"""Words in the names of models that do not chat; the list says nothing of it."""

_CONTEXT_LENGTH = ("context_length", "max_model_len", "context_window", "max_context_length")
"""Where OpenRouter, vLLM, Groq and LM Studio put it."""


class OpenAIProvider(HTTPProvider):
    """One server at one base URL, which is what `/chat/completions` is put after and usually ends in `/v1`."""

    capabilities = frozenset(Capability)
    dialects: frozenset[Dialect] = frozenset({"openai-chat"})

    def __init__(self, name: str, base_url: str, key: str = "", *, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(name, base_url, key, timeouts=timeouts)
        self._max_tokens_field = (
            "max_completion_tokens" if urlsplit(base_url).hostname == urlsplit(OPENAI).hostname else "max_tokens"
        )

    async def models(self) -> Sequence[Model]:
        answer = await self._http.json("GET", "/models")
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list):
            raise upstream.broken(self.name, "sent no list of models")
        return tuple(_model(item) for item in data if isinstance(item, dict) and isinstance(item.get("id"), str))

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        check_capabilities(self, request)
        reader: AnswerReader
        if request.original is not None and hands_on(self, request):
            body, reader = pass_chat(self.name, request.original, request)
        else:
            body, reader = render_request(request, max_tokens_field=self._max_tokens_field), AnswerReader(self.name)
        return ask_for_answer(self._http, "/chat/completions", body, request, reader)

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
        if dimensions is not None:
            body["dimensions"] = dimensions
        answer = await self._http.json("POST", "/embeddings", body)
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list) or len(data) != len(texts):
            raise upstream.broken(self.name, "sent no embeddings, or not as many as asked for")
        try:
            rows = sorted(data, key=lambda row: int(row.get("index", 0)))
            vectors = tuple(_vector(row["embedding"]) for row in rows)
        except (AttributeError, KeyError, TypeError, ValueError, struct.error):
            raise upstream.broken(self.name, "sent embeddings that cannot be read") from None
        guess = Usage(prompt_tokens=sum(estimate_tokens(len(text)) for text in texts), estimated=True)
        return Embeddings(vectors, read_usage(answer.get("usage")) or guess)


def _model(item: Mapping[str, Any]) -> Model:
    name = str(item["id"])
    length = next((item[key] for key in _CONTEXT_LENGTH if isinstance(item.get(key), int)), None)
    created = item.get("created")
    capabilities: tuple[Capability, ...] = (Capability.CHAT, Capability.STREAMING)
    if "embed" in name.lower():
        capabilities = (Capability.EMBEDDINGS,)
    elif any(word in name.lower() for word in _NO_CHAT):
        capabilities = ()
    return Model(
        name,
        capabilities=capabilities,
        context_length=length,
        created=int(created) if isinstance(created, int | float) else 0,
        owned_by=str(item.get("owned_by") or ""),
    )


def _vector(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        data = base64.b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    return tuple(float(number) for number in value)
