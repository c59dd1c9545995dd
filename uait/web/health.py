"""What a service says of itself: `/health`, its probes, `/` and `/metrics`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import attrs
import trio
from quart import Response

from uait.errors import Unavailable
from uait.kernel.service import HealthCheck
from uait.web.describe import Handler, describe

if TYPE_CHECKING:
    from uait.web.app import App

BUILT_IN = "uait:"
"""What the endpoints of the routes that every service has begin with; their path follows. A service's own route at such a path takes its place."""

PATIENCE = 2.0
"""Seconds that all facts and checks together may take."""

_WORST = ("healthy", "degraded", "unhealthy")


@attrs.frozen
class Health:
    """What `/health` says of every service; each adds what it counts."""

    status: Literal["healthy", "degraded", "unhealthy"]
    service: str
    version: str
    timestamp: int
    uptime_seconds: float


@attrs.frozen
class Information:
    """What `/` says of every service."""

    service: str
    version: str
    status: str
    description: str
    endpoints: list[str]


async def health_of(app: App) -> dict[str, Any]:
    """The body of `/health`: facts and checks asked in parallel, under one deadline. What does not answer in time is degraded and says so."""
    context = app.context
    facts: dict[str, Any] = {}
    checks: dict[str, Any] = {}
    states = ["degraded" if context.drain.draining else "healthy"]

    async def ask(name: str, question: HealthCheck, answers: dict[str, Any], is_check: bool) -> None:
        try:
            with trio.fail_after(PATIENCE):
                answer = question()
                if inspect.isawaitable(answer):
                    answer = await answer
        except trio.TooSlowError:
            states.append("degraded")
            answer = f"degraded: no answer in {PATIENCE:g} s" if is_check else None
        except Exception as error:
            context.log.warning("the health check %r failed", name, exc_info=error)
            states.append("unhealthy" if is_check else "degraded")
            answer = "unhealthy" if is_check else None
        else:
            if is_check and (answer is False or (isinstance(answer, str) and answer.startswith("degraded"))):
                states.append("degraded")
        answers[name] = answer

    async with trio.open_nursery() as nursery:
        for name, question in context.health_facts.items():
            nursery.start_soon(ask, name, question, facts, False)
        for name, question in context.health_checks.items():
            nursery.start_soon(ask, name, question, checks, True)
    return {
        "status": max(states, key=_WORST.index),
        "service": context.title,
        "version": version_of(app),
        "timestamp": int(time.time()),
        "uptime_seconds": round(trio.current_time() - context.started, 3),
        **facts,
        **({"checks": checks} if checks else {}),
    }


def version_of(app: App) -> str:
    """The service's own version, or ours."""
    if app.context.spec.version:
        return app.context.spec.version
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("uait")
    except PackageNotFoundError:
        return "0"


def information_of(app: App) -> Information:
    """The body of `GET /`."""
    context = app.context
    return Information(
        service=context.title,
        version=version_of(app),
        status="draining" if context.drain.draining else "running",
        description=context.spec.summary,
        endpoints=endpoints_of(app),
    )


def endpoints_of(app: App) -> list[str]:
    """All routes, as `POST /memory/search`."""
    found = set()
    for rule in app.url_map.iter_rules():
        if rule.websocket:
            found.add(f"WEBSOCKET {rule.rule}")
        else:
            found |= {f"{method} {rule.rule}" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    return sorted(found, key=lambda entry: entry.partition(" ")[::-1])


def add_health_routes(app: App) -> None:
    """Give `app` what every service has."""

    def built_in(path: str) -> Callable[[Handler], Handler]:
        register: Callable[[Handler], Handler] = app.get(path, endpoint=f"{BUILT_IN}{path}")
        return register

    @built_in("/health")
    @describe(returns=Health, responses={503: Health}, tags=("service",))
    async def health() -> Any:
        """The service's health, with what it counts."""
        found = await health_of(app)
        return found, 503 if found["status"] == "unhealthy" else 200

    @built_in("/health/live")
    @describe(returns=dict[str, str], tags=("service",))
    async def health_live() -> Any:
        """Whether the process answers at all."""
        return {"status": "alive"}

    @built_in("/health/ready")
    @describe(returns=dict[str, str], responses={503: None}, tags=("service",))
    async def health_ready() -> Any:
        """Whether new requests should be sent here."""
        if app.context.drain.draining:
            raise Unavailable("The service is leaving; ask another instance.")
        return {"status": "ready"}

    @built_in("/")
    @describe(tags=("service",))
    async def information() -> Information:
        """What this service is, and what it answers."""
        return information_of(app)

    @built_in("/metrics")
    @describe(returns=str, media_type="text/plain", tags=("service",))
    async def metrics() -> Any:
        """The service's numbers, in Prometheus text format."""
        # With it comes an HTTP server, which who is never asked need not have.
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Response(generate_latest(app.context.registry), content_type=CONTENT_TYPE_LATEST)
