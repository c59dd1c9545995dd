"""What a service says of itself: `/health`, its probes, `/` and `/metrics`."""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

import trio
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from quart import Response

from uait.errors import Unavailable
from uait.kernel.service import HealthCheck

if TYPE_CHECKING:
    from uait.web.app import App

PATIENCE = 2.0
"""Seconds that all facts and checks together may take."""

_WORST = ("healthy", "degraded", "unhealthy")


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


def information_of(app: App) -> dict[str, Any]:
    """The body of `GET /`."""
    context = app.context
    return {
        "service": context.title,
        "version": version_of(app),
        "status": "draining" if context.drain.draining else "running",
        "description": context.spec.summary,
        "endpoints": endpoints_of(app),
    }


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

    @app.get("/health")
    async def health() -> Any:
        """The service's health, with what it counts."""
        found = await health_of(app)
        return found, 503 if found["status"] == "unhealthy" else 200

    @app.get("/health/live")
    async def health_live() -> Any:
        """Whether the process answers at all."""
        return {"status": "alive"}

    @app.get("/health/ready")
    async def health_ready() -> Any:
        """Whether new requests should be sent here."""
        if app.context.drain.draining:
            raise Unavailable("The service is leaving; ask another instance.")
        return {"status": "ready"}

    @app.get("/", endpoint="uait.information")
    async def information() -> Any:
        """What this service is, and what it answers."""
        return information_of(app)

    @app.get("/metrics")
    async def metrics() -> Any:
        """The service's numbers, in Prometheus text format."""
        return Response(generate_latest(app.context.registry), content_type=CONTENT_TYPE_LATEST)
