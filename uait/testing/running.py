"""One service in a real host, with stand-ins for those that it calls."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs
import httpx
import trio

from uait.calls.inprocess import Exchange, http_scope
from uait.calls.lifetime import open_helpers
from uait.errors import ServiceFailed
from uait.kernel.host import Host, open_host
from uait.kernel.service import Context, ServiceSpec
from uait.kernel.status import State
from uait.server.asgi import ASGIApp
from uait.settings import Settings

Fake: TypeAlias = ServiceSpec | ASGIApp
"""What may stand in for a service."""

GRACE = 1.0
"""Seconds that a service under test has for its open requests when it stops."""

R = TypeVar("R", covariant=True)


class Runner(Protocol[R]):
    """The type of the fixtures `run_service` and `run_service_live`."""

    def __call__(
        self, spec: ServiceSpec, *, settings: Mapping[str, Any] | None = None, **fakes: Fake
    ) -> AbstractAsyncContextManager[R]: ...


@asynccontextmanager
async def open_service(
    spec: ServiceSpec, *, data_dir: Path, settings: Mapping[str, Any] | None = None, fakes: Mapping[str, Fake] = {}
) -> AsyncIterator[Host]:
    """Run `spec` and its stand-ins, and nothing else, on free ports and with an empty environment.

    Args:
        spec: the service.
        data_dir: made where it is missing; it is left behind.
        settings: the service's own section.
        fakes: what answers instead of the services of these names.

    Raises:
        ServiceFailed: it does not start, or a stand-in does not.
        SettingsError: its settings, or what it needs, are wrong.
    """
    specs = [spec, *(_stand_in(name.replace("_", "-"), fake) for name, fake in fakes.items())]
    sections: dict[str, dict[str, Any]] = {each.name: {"port": 0} for each in specs}
    sections[spec.name] |= settings or {}
    host_settings = Settings(
        data_dir=data_dir, grace=GRACE, only=tuple(sections), sections=sections, host="127.0.0.1", environ={}
    )
    async with open_host(host_settings, specs) as host:
        if broken := [
            f"{each.name} is {each.state}: {each.last_error}" for each in host.status() if each.state != State.READY
        ]:
            raise ServiceFailed("; ".join(broken))
        yield host


@asynccontextmanager
async def open_client(
    spec: ServiceSpec, *, data_dir: Path, settings: Mapping[str, Any] | None = None, fakes: Mapping[str, Fake] = {}
) -> AsyncIterator[httpx.AsyncClient]:
    """`open_service`, and a client whose requests go to the service without a socket."""
    async with (
        open_service(spec, data_dir=data_dir, settings=settings, fakes=fakes) as host,
        open_helpers("the client is closed") as nursery,
        httpx.AsyncClient(
            transport=InProcessTransport(host, spec.name, nursery), base_url="http://localhost"
        ) as client,
    ):
        yield client


@asynccontextmanager
async def open_live(
    spec: ServiceSpec, *, data_dir: Path, settings: Mapping[str, Any] | None = None, fakes: Mapping[str, Fake] = {}
) -> AsyncIterator[str]:
    """`open_service`, and the base URL on which the service listens."""
    async with open_service(spec, data_dir=data_dir, settings=settings, fakes=fakes) as host:
        yield host.addresses(spec.name)[0]


def _stand_in(name: str, fake: Fake) -> ServiceSpec:
    if isinstance(fake, ServiceSpec):
        return attrs.evolve(fake, name=name, title=name if fake.title == fake.name else fake.title)

    async def factory(_: Context) -> ASGIApp:
        return fake

    return ServiceSpec(factory=factory, name=name)


class InProcessTransport(httpx.AsyncBaseTransport):
    """httpx to a service of a running host, as if from outside: no call context goes along, only the request's own headers.

    Args:
        host: who runs the service.
        name: the service.
        nursery: the app's tasks run in it; a request's ends with its response.
    """

    def __init__(self, host: Host, name: str, nursery: trio.Nursery) -> None:
        self._host = host
        self._name = name
        self._nursery = nursery
        self._context = contextvars.copy_context()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        local = await self._host.local(self._name)
        assert local is not None
        path, _, query = request.url.raw_path.partition(b"?")
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        assert isinstance(request.stream, httpx.AsyncByteStream)
        exchange = Exchange(
            local.app, http_scope(request.method, path, query, headers), request.stream, name=self._name
        )
        self._context.run(self._nursery.start_soon, exchange.run)
        try:
            await exchange.head()
        except BaseException:
            await exchange.aclose()
            raise
        return httpx.Response(exchange.status, headers=exchange.headers, stream=_Body(exchange))


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    # No generator: one that is left before its end would have to be closed by whoever left it, which httpx does not do.
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self._exchange.read():
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._exchange.aclose()
