"""Everything a plugin author meets: `@service` declares one, `Context` is what it is given.

    @service(port=8707, summary="Counts words", intents=("count the words",))
    async def wordcount(ctx: Context):
        app = ctx.app()

        @app.post("/count")
        async def count():
            return {"words": len((await body(Text)).text.split())}

        return app          # or `yield app`: what follows the yield is teardown

The entry point `wordcount = "uait_wordcount:wordcount"` in the group `uait.services` is all the rest. The six built-in services use exactly this.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import attrs
import trio

from uait.errors import PluginError
from uait.kernel.restart import RestartPolicy
from uait.kernel.status import ServiceStatus

if TYPE_CHECKING:
    from prometheus_client.core import CollectorRegistry

    from uait.calls.client import Calls, ServiceClient
    from uait.feeds import Feed
    from uait.server.asgi import ASGIApp
    from uait.server.drain import Drain
    from uait.settings import Limits, Settings
    from uait.storage import Database, Migration
    from uait.web import App

API_VERSION = 1
"""The version of this page. A plugin made for another one is `incompatible`, which `python -m uait plugins` says."""

Factory: TypeAlias = "Callable[[Context], Awaitable[ASGIApp] | AsyncIterator[ASGIApp]]"
HealthCheck: TypeAlias = Callable[[], Any]

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def _valid_name(_: Any, __: Any, value: str) -> None:
    if not NAME.fullmatch(value) or len(value) > 40:
        raise PluginError(
            f"{value!r} is not a service name: use at most 40 of a-z, 0-9 and single hyphens, a letter first"
        )


def _valid_port(_: Any, __: Any, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= 65535:
        raise PluginError(f"{value!r} is not a port: use a number from 0 (any free port) to 65535")


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise PluginError(f"{value!r} is one text where several are expected: write [{value!r}]")
    return tuple(value)


@attrs.frozen(kw_only=True)
class ServiceSpec:
    """A service as declared, before anything of it runs. `@service` makes one; calling it gives what the factory gives.

    Attributes:
        factory: called with a `Context` at every start, so that each incarnation is fresh. It returns an ASGI app, or yields one and tears down after.
        name: short name: settings section, `ctx.client(name)`, path under the gateway.
        title: name in health, discovery and logs.
        port: the documented port; 0 takes any free one.
        port_variable: a further environment variable that sets the port, for users who have one (`GATEWAY_PORT`).
        needs: names of services that must be ready before this one starts, and stop after it.
        intents: phrases that tell the orchestrator when to choose this service.
        settings: attrs class of this service's own section; every field needs a default.
        restart: backoff and intensity after a crash.
        essential: a failure for good stops the whole host instead of leaving this service down.
        start_timeout: seconds from start to ready.
        doctor: for `uait doctor`, while nothing runs: given the data directory, it tells in sentences what is wrong with this service's data there.
        api: the `API_VERSION` it was written for.
        origin: distribution and version; filled in by whoever loads it.
    """

    factory: Factory
    name: str = attrs.field(validator=_valid_name)
    title: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True))
    summary: str = ""
    version: str = ""
    port: int = attrs.field(default=0, validator=_valid_port)
    port_variable: str | None = None
    needs: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    intents: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    settings: type[Any] | None = None
    restart: RestartPolicy = RestartPolicy()
    essential: bool = False
    start_timeout: float = 30.0
    doctor: Callable[[Path], Sequence[str]] | None = None
    api: int = API_VERSION
    origin: str = ""

    def __call__(self, ctx: Context) -> Awaitable[ASGIApp] | AsyncIterator[ASGIApp]:
        return self.factory(ctx)


@overload
def service(factory: Factory, /) -> ServiceSpec: ...
@overload
def service(
    *,
    name: str | None = None,
    title: str | None = None,
    summary: str | None = None,
    version: str = "",
    port: int = 0,
    port_variable: str | None = None,
    needs: Sequence[str] = (),
    intents: Sequence[str] = (),
    settings: type[Any] | None = None,
    restart: RestartPolicy = RestartPolicy(),
    essential: bool = False,
    start_timeout: float = 30.0,
    doctor: Callable[[Path], Sequence[str]] | None = None,
    api: int = API_VERSION,
) -> Callable[[Factory], ServiceSpec]: ...


def service(factory: Factory | None = None, /, **declared: Any) -> Any:
    """Declare the decorated function as a service's factory. For the arguments see `ServiceSpec`.

    `name` is the function's, `summary` the first line of its docstring, where they are not given.
    """

    def declare(factory: Factory) -> ServiceSpec:
        chosen = {key: value for key, value in declared.items() if value is not None}
        chosen.setdefault("name", getattr(factory, "__name__", "").replace("_", "-"))
        chosen.setdefault("summary", (getattr(factory, "__doc__", None) or "").strip().partition("\n")[0])
        return ServiceSpec(factory=factory, **chosen)

    return declare if factory is None else declare(factory)


@attrs.define(kw_only=True, eq=False)
class Context:
    """What one incarnation of a service is given. The host makes it and closes what it holds when the incarnation ends.

    Attributes:
        spec: the service as declared.
        settings: an instance of the service's own settings class, or None where it has none.
        host_settings: what the whole host was started with.
        log: a logger named `uait.NAME`.
        nursery: for background work. It lives as long as this incarnation; a task that raises in it is a crash of the service.
        drain: tells when this incarnation is leaving.
        registry: the service's Prometheus metrics, the HTTP ones included; it outlives restarts.
        calls: what `client` makes its clients from.
        directory_statuses, status_changed: behind `services` and `services_changed`.
        started: when this incarnation began, on trio's clock.
        health_checks, health_facts, intents: filled by `add_health_check`, `add_health_fact` and `add_intent`.
    """

    spec: ServiceSpec
    settings: Any
    host_settings: Settings
    log: logging.Logger
    nursery: trio.Nursery
    drain: Drain
    registry: CollectorRegistry
    calls: Calls
    directory_statuses: Callable[[], tuple[ServiceStatus, ...]]
    status_changed: Callable[[tuple[ServiceStatus, ...] | None], Awaitable[tuple[ServiceStatus, ...]]]
    started: float = attrs.field(factory=trio.current_time)
    health_checks: dict[str, HealthCheck] = attrs.field(factory=dict)
    health_facts: dict[str, HealthCheck] = attrs.field(factory=dict)
    intents: list[str] = attrs.field(factory=list)

    @property
    def name(self) -> str:
        """The short name."""
        return self.spec.name

    @property
    def title(self) -> str:
        """The name in health, discovery and logs."""
        return self.spec.title

    @property
    def limits(self) -> Limits:
        """Sizes, counts and times that every service keeps to."""
        return self.host_settings.limits

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment the host was given. Read this, not `os.environ`, so that two hosts in one process can differ."""
        return self.host_settings.environ

    @property
    def data_dir(self) -> Path:
        """The host's data directory."""
        return self.host_settings.data_dir

    def app(self) -> App:
        """A QuartTrio app with every convention of SPEC section 2 built in: return it (or yield it) from the factory."""
        from uait.web import App  # late: the kernel can serve any ASGI app, and pays for Quart only where it is used

        return App(self)

    def client(self, name: str) -> ServiceClient:
        """A client for the service `name`, wherever it runs. See `uait.calls.client.ServiceClient`."""
        return self.calls.client(name)

    def database(
        self, migrations: Sequence[Migration], *, name: str | None = None
    ) -> AbstractAsyncContextManager[Database]:
        """Open (making it where needed) this service's SQLite file `NAME.sqlite3` in the data directory and migrate it.

        Use as `async with ctx.database(MIGRATIONS) as db:` around the `yield app`.
        """
        from uait.storage import open_database

        return open_database(self.data_dir / f"{name or self.name}.sqlite3", migrations)

    def feed(self, name: str, **options: Any) -> Feed:
        """A new append-only log with a cursor, in memory. For the options see `uait.feeds.Feed`."""
        from uait.feeds import Feed

        return Feed(name, **options)

    def add_health_check(self, name: str, check: HealthCheck) -> None:
        """Ask `check` (sync or async, no arguments) whenever health is asked, under a deadline.

        What it returns stands in `/health` under `checks`; raising means `unhealthy`, returning False or a text starting with "degraded" means `degraded`.
        """
        self.health_checks[name] = check

    def add_health_fact(self, name: str, fact: HealthCheck) -> None:
        """Put what `fact` (sync or async, no arguments) returns into `/health` at the top, under `name` (`clients`, `rooms`)."""
        self.health_facts[name] = fact

    def add_intent(self, *phrases: str) -> None:
        """Tell the orchestrator of further reasons to choose this service, known only at run time. Before the app is returned.

        A chosen service is sent `POST /orchestrate {"userRequest", "context", "priority"}` and answers with any JSON; one without that path is asked `GET /`
        instead. `uait.services.orchestrator.adapters` has the whole convention.
        """
        self.intents.extend(phrases)

    def services(self) -> tuple[ServiceStatus, ...]:
        """All services of this host as they are now, this one included."""
        return self.directory_statuses()

    async def services_changed(self, seen: tuple[ServiceStatus, ...] | None = None) -> tuple[ServiceStatus, ...]:
        """Wait until the services differ from `seen` (where it is left out: from what they are now), and return them as they are then.

        Handing back what the last call returned misses no change, however long the caller was busy in between.
        """
        return await self.status_changed(seen)
