"""Google's Gemini API: `generateContent` and its relatives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

from uait.llm import upstream
from uait.llm.dialects.gemini_upstream import Call, ContentReader, render_request
from uait.llm.dialects.reading import children, first_of, text, vectors
from uait.llm.messages import Chunk, GenerateRequest, Usage, estimate_tokens
from uait.llm.provider import Capability, Embeddings, Model, check_capabilities
from uait.llm.providers.base import HTTPProvider
from uait.llm.recall import Recall
from uait.llm.stream import ask_for_answer
from uait.llm.upstream import Timeouts

MAX_PAGES = 20
"""Of the list of models, a thousand each."""

_CHAT = tuple(capability for capability in Capability if capability is not Capability.EMBEDDINGS)


class GeminiProvider(HTTPProvider):
    """One account; `base_url` is what `/v1beta/models` is put after."""

    capabilities = frozenset(Capability)
    own_paths = ("/v1beta", "/v1")

    def __init__(self, name: str, base_url: str, key: str = "", *, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(name, base_url, key, timeouts=timeouts)
        self._calls: Recall[Call] = Recall()

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        # Never in the address, which others may log.
        return {"x-goog-api-key": key} if key else {}

    async def models(self) -> Sequence[Model]:
        found: list[Model] = []
        after = ""
        for _ in range(MAX_PAGES):
            page = await self._http.json("GET", f"/v1beta/models?pageSize=1000{after}")
            data = page.get("models") if isinstance(page, dict) else None
            if not isinstance(data, list):
                raise upstream.broken(self.name, "sent no list of models")
            found += [model for item in children(data) if (model := _model(item)) is not None]
            if not isinstance(page.get("nextPageToken"), str) or not page["nextPageToken"]:
                break
            after = f"&pageToken={quote(page['nextPageToken'], safe='')}"
        return tuple(found)

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        check_capabilities(self, request)
        body = render_request(self.name, request, self._calls)
        method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        reader = ContentReader(self.name, self._calls)
        return ask_for_answer(self._http, f"{_path(request.model)}:{method}", body, request, reader)

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        more = {} if dimensions is None else {"outputDimensionality": dimensions}
        requests = [{"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **more} for text in texts]
        answer = await self._http.json("POST", f"{_path(model)}:batchEmbedContents", {"requests": requests})
        rows = [row.get("values") for row in children(answer.get("embeddings"))] if isinstance(answer, dict) else None
        found = vectors(self.name, rows, texts)
        guess = sum(estimate_tokens(len(text)) for text in texts)
        return Embeddings(found, Usage(prompt_tokens=guess, estimated=True))


def _path(model: str) -> str:
    return f"/v1beta/models/{quote(model, safe='')}"


def _model(item: Mapping[str, Any]) -> Model | None:
    """None for what neither answers nor embeds."""
    name, methods = text(item.get("name")), item.get("supportedGenerationMethods")
    methods = methods if isinstance(methods, list) else []
    capabilities: tuple[Capability, ...] = _CHAT if "generateContent" in methods else ()
    if "embedContent" in methods or "batchEmbedContents" in methods:
        capabilities += (Capability.EMBEDDINGS,)
    if not name or not capabilities:
        return None
    return Model(
        name.removeprefix("models/"),
        capabilities=capabilities,
        context_length=first_of(item, "inputTokenLimit"),
        owned_by="google",
    )
