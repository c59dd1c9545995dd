"""What routing does and has done, over HTTP: what was used, what would be done with a question, what became of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart import request

from uait.errors import APIError, Forbidden, NotFound
from uait.llm.dialects import openai_chat
from uait.llm.routing import Asked, Explanation, Router, Trace
from uait.services.chat.ledger import Ledger
from uait.services.chat.model import ChatSettings, ExplainRequest, TraceList, TracesQuery, UsageQuery, UsageReport
from uait.services.chat.usage import UsageRecorder
from uait.web import App, body, describe, query, user_id
from uait.web.exchange import current_exchange

EVERYBODY = "*"


def route_headers(asked: Asked, seconds: float | None = None) -> dict[str, str]:
    """What an answer's headers say of its way here, as far as it has come.

    Args:
        seconds: since the request came, for the part of it that is our own; the current request's where left out.
    """
    upstream = asked.upstream_seconds
    if seconds is None:
        seconds = current_exchange().age
    provider = asked.address.partition("/")[0]
    left_out = asked.trace.attempts[-1].left_out if asked.trace.attempts else []
    return {
        "X-Route-Provider": _printable(provider),
        "X-Route-Model": _printable(asked.address),
        "X-Route-Attempts": str(len(asked.trace.attempts)),
        "X-Route-Upstream-Ms": f"{upstream * 1000:.1f}",
        "X-Route-Added-Ms": f"{max(0.0, seconds - upstream) * 1000:.1f}",
        "X-Route-Trace": asked.trace.id,
        **({"X-Route-Left-Out": ", ".join(left_out)} if left_out else {}),
    }


def label(error: APIError, asked: Asked) -> APIError:
    """`error` with the headers of its way here."""
    error.headers.update(route_headers(asked))
    return error


def _printable(text: str) -> str:
    """A client can name a model as it likes; a header holds only so much of it."""
    text = text[:200]
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if " " <= each <= "~" else "?" for each in text)


def add_routing(app: App, router: Router, recorder: UsageRecorder, ledger: Ledger, settings: ChatSettings) -> None:
    """Give `app` the routes `/usage`, `/v1/route/explain` and `/v1/route/traces`."""

    @app.get("/usage")
    async def get_usage() -> UsageReport:
        """The tokens used, and what they cost: the user's own, or for operators anybody's, added up by day and model, or as `group` says."""
        asked = query(UsageQuery)
        user: str | None = user_id()
        if asked.user is not None and asked.user != user:
            if user not in settings.operators:
                raise Forbidden("Only operators may see what others have used.")
            user = None if asked.user == EVERYBODY else asked.user
        await recorder.stored()
        return await ledger.report(user, asked)

    @app.post("/v1/route/explain")
    @describe(hidden=True)  # its messages are OpenAI's, as those of the dialects
    async def explain_route() -> Explanation:
        """Which models would be asked for a question, in which order, and why. Nobody is asked."""
        asked = await body(ExplainRequest)
        raw: dict[str, Any] = {"model": asked.model, "messages": asked.messages or [{"role": "user", "content": ""}]}
        if asked.max_tokens is not None:
            raw["max_tokens"] = asked.max_tokens
        question = openai_chat.parse_request(raw).question
        return router.explain(await router.plan(question.model), question, asked.conversation_id)

    @app.get("/v1/route/traces")
    async def list_traces() -> TraceList:
        """What became of the user's latest questions to models."""
        return TraceList(router.traces.newest(user_id(), query(TracesQuery).limit))

    @app.get("/v1/route/traces/<trace_id>")
    async def get_trace(trace_id: str) -> Trace:
        """What became of a question: who was asked, why, how long it took, what it cost. Its id is in the answer's `X-Route-Trace`; the newest are kept, in memory."""
        found = router.traces.find(user_id(), trace_id)
        if found is None:
            raise NotFound("There is no trace with this id; only the newest are kept, until the service stops.")
        return found


def conversation_of(extra: Mapping[str, Any]) -> str | None:
    """The conversation that the current request's question in a dialect belongs to, as its client says it."""
    said = request.headers.get("X-Conversation-ID") or extra.get("prompt_cache_key")
    return said[:128] if isinstance(said, str) else None
