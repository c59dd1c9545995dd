"""Anthropic's Messages API, and whoever else speaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

from uait.llm import upstream
from uait.llm.dialects.anthropic_upstream import MessageReader, Thoughts, render_request, without_unsigned
from uait.llm.dialects.reading import children, first_of, seconds, text
from uait.llm.messages import Chunk, Dialect, GenerateRequest
from uait.llm.passing import Passed
from uait.llm.provider import Capability, Embeddings, Model, check_capabilities, hands_on, unsupported
from uait.llm.providers.base import HTTPProvider
from uait.llm.recall import Recall
from uait.llm.stream import ask_for_answer
from uait.llm.upstream import Timeouts

VERSION = "2023-06-01"

MAX_TOKENS = 8192
"""Of an answer where the request does not say: the dialect has no default, and every model of the last years can write so much."""

MAX_PAGES = 20
"""Of the list of models, a thousand each."""

_CAPABILITIES = (
    Capability.CHAT,
    Capability.STREAMING,
    Capability.TOOLS,
    Capability.VISION,
    Capability.ATTACHMENTS,
    Capability.JSON,
)


class AnthropicProvider(HTTPProvider):
    """One account; `base_url` is what `/v1/messages` is put after."""

    capabilities = frozenset(_CAPABILITIES)
    dialects: frozenset[Dialect] = frozenset({"anthropic"})
    own_paths = ("/v1",)
    reads_thoughts = True

    def __init__(self, name: str, base_url: str, key: str = "", *, timeouts: Timeouts = Timeouts()) -> None:
        super().__init__(name, base_url, key, timeouts=timeouts)
        self._thoughts: Recall[Thoughts] = Recall()
        self._limits: dict[str, int] = {}

    def share(self, first: Any) -> None:
        """What its models have thought, and how much they write."""
        if isinstance(first, AnthropicProvider):
            self._thoughts, self._limits = first._thoughts, first._limits

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        return {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})

    async def models(self) -> Sequence[Model]:
        found: list[Model] = []
        after = ""
        for _ in range(MAX_PAGES):
            page = await self._http.json("GET", f"/v1/models?limit=1000{after}")
            data = page.get("data") if isinstance(page, dict) else None
            if not isinstance(data, list):
                raise upstream.broken(self.name, "sent no list of models")
            for item in children(data):
                name, most = text(item.get("id")), first_of(item, "max_tokens")
                found.append(
                    Model(
                        name,
                        capabilities=_CAPABILITIES,
                        context_length=first_of(item, "max_input_tokens"),
                        created=seconds(item.get("created_at")),
                        owned_by="anthropic",
                    )
                )
                if most is not None:
                    self._limits[name] = most
            if not page.get("has_more") or not isinstance(page.get("last_id"), str):
                break
            after = f"&after_id={quote(page['last_id'], safe='')}"
        return tuple(model for model in found if model.id)

    def stream(self, request: GenerateRequest) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        check_capabilities(self, request)
        body, headers = self._body(request)
        passed = None
        if request.original is not None and headers is not None:
            passed = Passed(request.original, self.name, request.model)
        reader = MessageReader(self.name, self._thoughts, passed, streamed=request.stream)
        return ask_for_answer(self._http, "/v1/messages", body, request, reader, headers=headers)

    async def count_tokens(self, request: GenerateRequest) -> int:
        """As the model counts them; without an answer being made."""
        check_capabilities(self, request)
        body, headers = self._body(request)
        counted = {key: value for key, value in body.items() if key in _COUNTED}
        answer = await self._http.json("POST", "/v1/messages/count_tokens", counted, headers)
        tokens = answer.get("input_tokens") if isinstance(answer, dict) else None
        if not isinstance(tokens, int):
            raise upstream.broken(self.name, "sent no count of tokens")
        return tokens

    def _body(self, request: GenerateRequest) -> tuple[dict[str, Any], Mapping[str, str] | None]:
        """The request's body, and the client's own headers where it is its own words."""
        if request.original is not None and hands_on(self, request):
            body = {**request.original.body, "model": request.model, "stream": request.stream}
            body["messages"] = without_unsigned(body.get("messages"))
            return body, request.original.headers
        limit = min(MAX_TOKENS, self._limits.get(request.model, MAX_TOKENS))
        return render_request(self.name, request, self._thoughts, limit), None

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        raise unsupported(self.name, "cannot make embeddings")


_COUNTED = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"}
)
