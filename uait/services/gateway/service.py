"""The front door: one base URL for every service."""

from __future__ import annotations

from typing import Any

import attrs
from quart import Response

from uait.kernel.service import Context, service
from uait.llm.dialects import anthropic, openai_chat, openai_responses
from uait.server.asgi import ASGIApp
from uait.services.gateway import console
from uait.services.gateway.cors import CORS
from uait.services.gateway.health import UP, HealthOfAll
from uait.services.gateway.model import GatewaySettings, Models
from uait.services.gateway.models import Catalog
from uait.services.gateway.proxy import Proxy
from uait.services.gateway.routes import ENDPOINTS
from uait.web import accepts
from uait.web.describe import describe
from uait.web.health import Information, information_of

NOT_ASKED_FOR_MODELS = frozenset({"discovery", "hub"})


@service(
    name="gateway",
    title="api-gateway",
    summary="One base URL for every service: health, models, chat and everything else",
    port=9999,
    port_variable="GATEWAY_PORT",
    settings=GatewaySettings,
)
async def gateway(ctx: Context) -> ASGIApp:
    settings: GatewaySettings = ctx.settings
    app = ctx.app()
    health = HealthOfAll(ctx.services, ctx.client, own=ctx.name, timeout=settings.health_timeout)
    catalog = Catalog(ctx.client, ctx.log, timeout=settings.models_timeout, ttl=settings.models_ttl)
    proxy = Proxy(ctx.services, ctx.client, own=ctx.name)
    ctx.add_health_fact("services", health.services)
    ctx.add_health_check("services", health.verdict)

    # A browser cannot send a key before it has the page that asks for one.
    app.public.add("/")

    @app.get("/")
    @describe(returns=Information, tags=("service",))
    async def front() -> Any:
        """What this service is, and what it answers; for a browser, a console."""
        if accepts("text/html"):
            return Response(console.PAGE, content_type="text/html; charset=utf-8", headers=console.HEADERS)
        own = information_of(app)
        return attrs.evolve(own, endpoints=[*own.endpoints, *ENDPOINTS])

    @app.get("/api/v1/models")
    @app.get("/api/models")
    async def models() -> Models:
        """The models of every service that has some. A service that does not answer in time keeps those it had last, marked stale."""
        asked = [status for status in ctx.services() if status.name not in {ctx.name, *NOT_ASKED_FOR_MODELS}]
        return await catalog.models(
            [status.name for status in asked if status.state in UP],
            [status.name for status in asked if status.state not in UP],
        )

    app.mount("/api", proxy.api, strip=False)
    app.mount("/v1", proxy.to("chat", openai_chat.render_stream_error, openai_chat.LAST_EVENTS), strip=False)
    app.mount(
        "/v1/responses",
        proxy.to("chat", openai_responses.render_stream_error, openai_responses.LAST_EVENTS),
        strip=False,
    )
    app.mount("/v1/messages", proxy.to("chat", anthropic.render_stream_error, anthropic.LAST_EVENTS), strip=False)
    app.mount("/ws", proxy.to("hub"), strip=False)
    app.errors_for("/v1", openai_chat.render_error)
    app.errors_for("/v1/messages", anthropic.render_error)
    cors = CORS(app, settings.cors_origins)
    app.trusted_origin = cors.allows
    return cors
