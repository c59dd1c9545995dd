"""Service discovery: who is there, how they are, and which one to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
from quart import Response, request

from uait.kernel.service import Context, service
from uait.server.asgi import ASGIApp
from uait.services.discovery.catalog import Catalog
from uait.services.discovery.model import DiscoverySettings, Heartbeat, Instance, Registration
from uait.services.discovery.own import own_instances
from uait.services.discovery.store import MIGRATIONS, Store
from uait.web import accepts, body, describe, event_stream, query

BASE = "/api/v1/discovery"


@attrs.frozen(kw_only=True)
class Registered:
    status: str = "registered"
    id: str


@attrs.frozen(kw_only=True)
class Deregistered:
    status: str = "deregistered"
    id: str


@attrs.frozen(kw_only=True)
class Services:
    """All services: their instances by name, and how many instances there are."""

    services: dict[str, list[Instance]]
    total: int


@attrs.frozen(kw_only=True)
class Instances:
    name: str
    instances: list[Instance]
    total: int


@attrs.frozen
class InstancesQuery:
    """`passing`: only those that pass. `tag`: only those with all of these tags."""

    passing: bool = False
    tag: list[str] = attrs.field(factory=list)


@attrs.frozen
class PickQuery:
    """`tag`: only among those with all of these tags."""

    tag: list[str] = attrs.field(factory=list)


@service(
    name="discovery",
    title="service-discovery",
    summary="Registers services, checks their health and finds one to ask",
    port=8083,
    port_variable="SERVICE_DISCOVERY_PORT",
    settings=DiscoverySettings,
    intents=(
        "which services are registered",
        "list all services",
        "health of the services",
        "service discovery and registry",
        "find a service instance",
    ),
)
async def discovery(ctx: Context) -> AsyncIterator[ASGIApp]:
    async with ctx.database(MIGRATIONS) as database:
        settings: DiscoverySettings = ctx.settings
        changes = ctx.feed("registry", max_events=settings.watch_events)
        catalog = Catalog(settings, Store(database), changes, ctx.log)
        await catalog.restore()
        ctx.nursery.start_soon(catalog.mirror, lambda: _own(ctx, catalog), ctx.services_changed)
        ctx.nursery.start_soon(catalog.expire)
        ctx.nursery.start_soon(catalog.checker.run)
        ctx.add_health_fact("registered_services", lambda: len(catalog.registry.by_name()))
        yield _app(ctx, catalog)


def _own(ctx: Context, catalog: Catalog) -> list[Instance]:
    return own_instances(ctx.services(), catalog.registry.get, ctx.host_settings.host)


def _app(ctx: Context, catalog: Catalog) -> ASGIApp:
    app = ctx.app()

    def watch(name: str | None) -> Response:
        return event_stream(catalog.watch(name, request.headers.get("Last-Event-ID")), endless=True)

    @app.post("/register")
    @app.post(f"{BASE}/register")
    async def register() -> Registered:
        """Register an instance of a service, or replace the one with the same id, which keeps its health."""
        return Registered(id=(await catalog.register(await body(Registration))).id)

    @app.delete("/deregister/<id:instance_id>")
    @app.delete(f"{BASE}/deregister/<id:instance_id>")
    async def deregister(instance_id: str) -> Deregistered:
        """Take an instance out."""
        await catalog.deregister(instance_id)
        return Deregistered(id=instance_id)

    @app.put("/heartbeat/<id:instance_id>")
    @app.put(f"{BASE}/heartbeat/<id:instance_id>")
    @describe(body_optional=True)
    async def heartbeat(instance_id: str) -> Instance:
        """An instance says that it is there, and, where it wants to, how it is."""
        given = await request.get_data()
        return await catalog.heartbeat(instance_id, await body(Heartbeat) if given else Heartbeat())

    @app.get("/services")
    @app.get(f"{BASE}/services")
    async def list_services() -> Services | Response:
        """All services and their instances. With `?watch`, or where server-sent events are accepted: a snapshot of them and every change, without end."""
        if _watches():
            return watch(None)
        services = catalog.registry.by_name()
        return Services(services=services, total=len(catalog.registry))

    @app.get("/services/<id:name>")
    @app.get(f"{BASE}/services/<id:name>")
    async def list_instances(name: str) -> Instances | Response:
        """The instances of one service. With `?watch`, or where server-sent events are accepted: a snapshot of them and every change, without end."""
        if _watches():
            return watch(name)
        wanted = query(InstancesQuery)
        found = catalog.lookup(name, passing=wanted.passing, tags=wanted.tag)
        return Instances(name=name, instances=found, total=len(found))

    @app.get("/service/<id:name>")
    @app.get(f"{BASE}/service/<id:name>")
    async def pick_instance(name: str) -> Instance:
        """One instance of a service to send a request to: in turns by weight, one that passes before one with a warning, never a critical one."""
        return catalog.pick(name, tags=query(PickQuery).tag)

    return app


@attrs.frozen
class _WatchQuery:
    watch: bool = False


def _watches() -> bool:
    # Not in the handler, so not in /openapi.json: whoever tries out what stands there should not wait for an answer that never ends.
    return query(_WatchQuery).watch or accepts("text/event-stream")
