"""The dialects that tools already speak: `/v1/chat/completions`, `/v1/responses`, `/v1/messages`, `/v1/embeddings`, `/v1/models`.

They are stateless: nothing is stored but what was used. The gateway hands `/v1/*` through to here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from quart import Response, request

from uait.errors import APIError, NotFound
from uait.llm.catalog import DEFAULT_NAMES, Catalog
from uait.llm.dialects import anthropic, anthropic_request, openai_chat, openai_responses
from uait.llm.messages import Chunk, Collected, GenerateRequest, Usage, estimate_prompt_tokens
from uait.llm.provider import Capability, CountsTokens
from uait.llm.routing import Asked, Router
from uait.services.chat.routing import conversation_of, label, route_headers
from uait.storage import new_id
from uait.web import App, describe, event_stream, json_body, query, user_id

SPECIFIED_ELSEWHERE = {
    "/v1/chat/completions": "https://platform.openai.com/docs/api-reference/chat",
    "/v1/responses": "https://platform.openai.com/docs/api-reference/responses",
    "/v1/embeddings": "https://platform.openai.com/docs/api-reference/embeddings",
    "/v1/messages": "https://docs.anthropic.com/en/api/messages",
    "/v1/messages/count_tokens": "https://docs.anthropic.com/en/api/messages-count-tokens",
}
"""Paths whose bodies their vendors specify; `/openapi.json` points there instead of repeating half of it."""

WITH_A_DIFFERENCE = {
    "/v1/chat/completions": "`n` is 1.",
    "/v1/responses": "Nothing is stored: no `previous_response_id`, `conversation`, `prompt` or `background`; `store` is false. Tools that OpenAI runs, and items by reference, are for providers that speak this dialect themselves; with others they are refused (400).",
    "/v1/embeddings": "`input` is text, not tokens.",
    "/v1/messages": "Tools that Anthropic runs, files by reference and `mcp_servers` are for providers that speak this dialect themselves; with others they are refused (400).",
    "/v1/messages/count_tokens": "Where the provider does not count, `estimated` is true beside the number.",
}
"""What is not as the vendors specify it."""


class Stream(Protocol):
    """Renders an answer in some dialect, as events ready for the wire."""

    def start(self) -> bytes: ...
    def chunk(self, chunk: Chunk) -> bytes: ...
    def end(self, usage: Usage) -> bytes: ...


class Answering:
    """Asks models, and counts what they used whatever becomes of the answer."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def _ask(self, question: GenerateRequest, *, whole: bool) -> Asked:
        plan = await self._router.plan(question.model)
        conversation = conversation_of(question.extra)
        return self._router.ask(plan, question, user_id(), new_id(), whole=whole, conversation=conversation)

    async def whole(self, question: GenerateRequest, render: Callable[[Collected, Usage, str], Any]) -> Any:
        """Ask for a whole answer; with headers that tell its way.

        Args:
            render: makes the body of the answer, what it used, and the name of the model to answer with; not asked where a provider of the dialect has given one.
        """
        asked = await self._ask(question, whole=True)
        answer = Collected()
        try:
            await asked.open()
            async for chunk in asked:
                answer.add(chunk)
        except APIError as error:
            raise label(error, asked) from error.__cause__
        finally:
            usage = answer.counted(question)
            asked.used(usage)
            await asked.aclose()
        headers = route_headers(asked)
        if answer.body is not None:
            return Response(answer.body, headers=headers, content_type="application/json")
        return render(answer, usage, _shown(question.model, asked)), 200, headers

    async def stream(
        self,
        question: GenerateRequest,
        render: Callable[[str], Stream],
        last_events: tuple[bytes, ...],
        farewell: Callable[[APIError], bytes] | None = None,
    ) -> Response:
        """Ask; the answer as an event stream. A provider's refusal is raised before the stream begins.

        Args:
            render: makes the renderer from the name of the model to answer with.
            last_events, farewell: see `event_stream`.
        """
        asked = await self._ask(question, whole=False)
        events = _Events(asked, question)
        try:
            await asked.open()
            events.stream = stream = render(_shown(question.model, asked))
            headers = route_headers(asked)
        except BaseException as error:
            await events.aclose()
            if isinstance(error, APIError):
                label(error, asked)
            raise
        last_words = farewell or getattr(stream, "failed", None)
        return event_stream(events, headers=headers, farewell=last_words, last_events=last_events)


class _Events:
    """One streamed answer. Whoever has opened it closes it, also where it was never iterated."""

    stream: Stream

    def __init__(self, asked: Asked, question: GenerateRequest) -> None:
        self._asked: Asked = asked
        self._question = question
        self._collected = Collected()
        self._ready = asked.ready
        self._started = self._ended = self._closed = False

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> bytes:
        if self._ended or self._closed:
            raise StopAsyncIteration
        async for chunk in self._asked:
            data = self._take(chunk)
            # What came in one piece goes on in one piece.
            for more in self._ready():
                data += self._take(more)
            if data:
                return data
        self._ended = True
        last = b"" if self._started else self.stream.start()
        last += self.stream.end(self._collected.counted(self._question))
        if not last:
            raise StopAsyncIteration
        return last

    def _take(self, chunk: Chunk) -> bytes:
        self._collected.add(chunk)
        if not self._started:
            self._started = True
            if chunk.raw is None:  # else the provider itself has begun
                return self.stream.start() + self.stream.chunk(chunk)
        return self.stream.chunk(chunk)

    async def aclose(self) -> None:
        """End the question at the provider, and count. Idempotent; bounded also where the caller is cancelled."""
        if not self._closed:
            self._closed = True
            self._asked.used(self._collected.counted(self._question))
            await self._asked.aclose()


def _shown(name: str, asked: Asked) -> str:
    """The model's name in an answer: as the client said it, or the real one where the client had no wish."""
    return asked.address if name in DEFAULT_NAMES else name


def _dialects() -> dict[str, dict[str, str]]:
    return {path: {"specified": url, "differs": WITH_A_DIFFERENCE[path]} for path, url in SPECIFIED_ELSEWHERE.items()}


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


@attrs.frozen(kw_only=True)
class ModelsQuery:
    """Anthropic's paging of models."""

    limit: int = attrs.field(
        default=20, validator=attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(1000))
    )
    after_id: str | None = None
    before_id: str | None = None


def add_dialects(app: App, catalog: Catalog, router: Router) -> None:
    """Give `app` the routes under `/v1`, with errors in each one's dialect."""
    answering = Answering(router)
    app.errors_for("/v1", openai_chat.render_error)
    app.errors_for("/v1/messages", anthropic.render_error)
    app.openapi_extensions.append(lambda document: document.update({"x-dialects": _dialects()}))

    @app.post("/v1/chat/completions")
    @describe(hidden=True)
    async def chat_completions() -> Any:
        """OpenAI's Chat Completions."""
        asked = openai_chat.parse_request(await json_body())
        if asked.question.stream:
            return await answering.stream(
                asked.question,
                lambda model: openai_chat.ChatStream(model, include_usage=asked.include_usage),
                openai_chat.LAST_EVENTS,
                openai_chat.render_stream_error,
            )
        return await answering.whole(asked.question, openai_chat.render_answer)

    @app.post("/v1/responses")
    @describe(hidden=True)
    async def responses() -> Any:
        """OpenAI's Responses, without storage."""
        asked = openai_responses.parse_request(await json_body())
        if asked.question.stream:
            return await answering.stream(
                asked.question,
                lambda model: openai_responses.ResponseWriter(asked, model),
                openai_responses.LAST_EVENTS,
            )
        return await answering.whole(
            asked.question,
            lambda answer, usage, model: openai_responses.ResponseWriter(asked, model).answer(answer, usage),
        )

    @app.post("/v1/messages")
    @describe(hidden=True)
    async def messages() -> Any:
        """Anthropic's Messages."""
        question = anthropic_request.parse_request(await json_body(), _headers())
        if question.stream:
            tokens = estimate_prompt_tokens(question.messages, question.tools)
            return await answering.stream(
                question,
                lambda model: anthropic.MessageStream(model, tokens),
                anthropic.LAST_EVENTS,
                anthropic.render_stream_error,
            )
        return await answering.whole(question, anthropic.render_answer)

    @app.post("/v1/messages/count_tokens")
    @describe(hidden=True)
    async def count_tokens() -> Any:
        """Anthropic's count of a prompt's tokens: the provider's own where it has one, else an estimate."""
        question = anthropic_request.parse_request(await json_body(), _headers(), counting=True)
        target = await catalog.resolve(question.model)
        asked = attrs.evolve(question, model=target.model)
        if isinstance(target.provider, CountsTokens):
            return anthropic.render_count(await target.provider.count_tokens(asked), estimated=False)
        return anthropic.render_count(estimate_prompt_tokens(asked.messages, asked.tools), estimated=True)

    @app.post("/v1/embeddings")
    @describe(hidden=True)
    async def embeddings() -> Any:
        """OpenAI's embeddings, by providers that make some."""
        asked = openai_chat.parse_embeddings(await json_body())
        plan = await router.plan(asked.model, Capability.EMBEDDINGS)
        answer, routed = await router.embed(plan, asked.texts, asked.dimensions, user_id(), new_id())
        return openai_chat.render_embeddings(answer, asked, _shown(asked.model, routed)), 200, route_headers(routed)

    @app.get("/v1/models")
    @describe(returns=dict[str, Any], tags=("openai", "anthropic"))
    async def models() -> Any:
        """All models, as OpenAI lists them, or as Anthropic does for a client that sends `anthropic-version`."""
        page = query(ModelsQuery)
        found = (await catalog.listing()).models
        if "anthropic-version" in request.headers:
            return anthropic.render_models(found, page.limit, page.after_id, page.before_id)
        return openai_chat.render_models(found)

    @app.get("/v1/models/<path:model_id>")
    @describe(returns=dict[str, Any], tags=("openai", "anthropic"))
    async def model(model_id: str) -> Any:
        """One model, by its id or its name."""
        for found in (await catalog.listing()).models:
            if model_id in (found.id, found.name):
                render = anthropic.render_model if "anthropic-version" in request.headers else openai_chat.render_model
                return render(found)
        raise NotFound(f"There is no model {model_id[:200]!r}.", code="MODEL_NOT_FOUND")
