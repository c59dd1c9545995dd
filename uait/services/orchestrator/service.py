"""Orchestration: one request, several services, one answer.

How a service is chosen stands in `select.py`, how it is asked in `adapters.py` (there is the convention for authors of services, too).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Response

from uait.calls.context import current_call
from uait.errors import APIError, BadRequest, InvalidJSON
from uait.kernel.service import Context, service
from uait.server.asgi import ASGIApp
from uait.services.orchestrator.conductor import Conductor
from uait.services.orchestrator.model import (
    Answer,
    ExplainAnswer,
    Metadata,
    Mode,
    OrchestrateRequest,
    OrchestratorSettings,
)
from uait.storage.ids import utc_now
from uait.web import Event, accepts, describe, event_stream, json_body, structure
from uait.web.sse import encode

BASE = "/api/v1"


@service(
    name="orchestrator",
    title="orchestration-service",
    summary="Runs the services that a request needs, at once, and makes one answer of theirs",
    port=8080,
    port_variable="ORCHESTRATION_PORT",
    settings=OrchestratorSettings,
)
async def orchestrator(ctx: Context) -> ASGIApp:
    conductor = Conductor(ctx)
    ctx.add_health_fact("services", conductor.health)
    app = ctx.app()
    app.errors_for("/", _error_body)

    @app.post("/orchestrate")
    @app.post(f"{BASE}/orchestrate")
    @describe(body=OrchestrateRequest, returns=Answer, streams=True)
    async def orchestrate() -> Any:
        """Run the services that the request needs and answer with all they say; where server-sent events are accepted, with each result as it comes."""
        asked = await _asked()
        if not accepts("text/event-stream"):
            return await conductor.run(asked)
        return _stream(conductor, asked)

    @app.post("/orchestrate/explain")
    @app.post(f"{BASE}/orchestrate/explain")
    @describe(body=OrchestrateRequest)
    async def explain() -> ExplainAnswer:
        """Say which services would be run, and why, without running them."""
        return await conductor.explain(await _asked())

    return app


async def _asked() -> OrchestrateRequest:
    try:
        data = await json_body()
    except InvalidJSON as error:
        raise BadRequest(error.text) from error
    if isinstance(data, dict):
        request = data.get("userRequest")
        if request is None or (isinstance(request, str) and not request.strip()):
            raise BadRequest("Say in 'userRequest' what is wanted.", code="MISSING_REQUEST")
    return structure(data, OrchestrateRequest)


def _stream(conductor: Conductor, asked: OrchestrateRequest) -> Response:
    async def produce(send: Callable[[Event], Awaitable[None]]) -> None:
        answer = await conductor.run(asked, tell=lambda event, data: send(Event(data, event=event)))
        await send(Event(answer, event="done"))

    call = current_call()
    request_id = call.request_id if call is not None else ""

    def last_words(error: APIError) -> bytes:
        return encode(Event(_error_body(error, request_id), event="error"))

    return event_stream(produce, farewell=last_words)


def _error_body(error: APIError, request_id: str) -> dict[str, Any]:
    metadata = Metadata(timestamp=utc_now(), requestId=request_id, executionMode=Mode.NONE)
    return {"success": False, **error.as_dict(request_id), "metadata": metadata}
