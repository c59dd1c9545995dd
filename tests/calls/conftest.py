from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import attrs
import orjson
import pytest
import trio

from uait.calls import Calls, LocalService, ServiceClient
from uait.errors import Unavailable
from uait.server import bind, open_server
from uait.server.asgi import ASGIApp, Receive, Scope, Send


@attrs.define
class FakeDirectory:
    """The host, as far as calls know it."""

    apps: dict[str, ASGIApp] = attrs.field(factory=dict)
    down: set[str] = attrs.field(factory=set)

    async def local(self, name: str) -> LocalService | None:
        await trio.lowlevel.checkpoint()
        if name in self.down:
            raise Unavailable(f"{name} has failed.")
        return LocalService(name, self.apps[name]) if name in self.apps else None


@pytest.fixture
def directory():
    return FakeDirectory()


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> ASGIApp:
    """An app that always gives this answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, status, body, headers)

    return app


async def respond(send: Send, status: int, body: object, headers: dict[str, str] | None = None) -> None:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    all_headers = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": data, "more_body": False})


@pytest.fixture(name="answer")
def _answer():
    return answer


@pytest.fixture(name="respond")
def _respond():
    return respond


def discovery_of(instances: dict[str, list[tuple[str, int]]]) -> ASGIApp:
    """A discovery service that knows these instances, and gives them in turns."""
    turns: dict[str, int] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/service/")
        if name not in instances:
            await respond(send, 404, {"error": {"code": "SERVICE_NOT_FOUND", "message": "unknown"}})
        elif not instances[name]:
            await respond(send, 503, {"error": {"code": "NO_HEALTHY_INSTANCE", "message": "all are ill"}})
        else:
            turns[name] = turns.get(name, -1) + 1
            address, port = instances[name][turns[name] % len(instances[name])]
            await respond(send, 200, {"id": f"{name}-1", "name": name, "address": address, "port": port})

    return app


@pytest.fixture(name="discovery_of")
def _discovery_of():
    return discovery_of


def leaving(app: ASGIApp) -> ASGIApp:
    """`app`, cancelled when its client leaves, as ours are."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        inbox, arrived = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:

            async def pump() -> None:
                while True:
                    message = await receive()
                    if message["type"] in ("http.disconnect", "websocket.disconnect"):
                        nursery.cancel_scope.cancel(reason="the client left")
                    await inbox.send(message)

            nursery.start_soon(pump)
            await app(scope, arrived.receive, send)
            nursery.cancel_scope.cancel(reason="done")

    return wrapped


@pytest.fixture
def serve() -> Callable[[ASGIApp], contextlib.AbstractAsyncContextManager[tuple[str, int]]]:
    """Serves an app on a real socket; gives host and port."""

    @contextlib.asynccontextmanager
    async def serve(app: ASGIApp) -> AsyncIterator[tuple[str, int]]:
        sockets = bind("127.0.0.1", 0)
        try:
            async with open_server(leaving(app), sockets):
                yield "127.0.0.1", sockets[0].getsockname()[1]
        finally:
            for sock in sockets:
                sock.close()

    return serve


@pytest.fixture(params=["in process", "over HTTP"])
def connect(request, serve):
    """Makes a client for a service that this app is: the same tests hold without a socket and with one."""

    @contextlib.asynccontextmanager
    async def connect(app: ASGIApp, *, timeout: float = 60.0) -> AsyncIterator[ServiceClient]:
        async with contextlib.AsyncExitStack() as stack:
            if request.param == "in process":
                directory = FakeDirectory({"echo": app})
            else:
                address = await stack.enter_async_context(serve(app))
                directory = FakeDirectory({"discovery": discovery_of({"echo": [address]})})
            calls = await stack.enter_async_context(Calls(directory, caller="test", timeout=timeout))
            yield calls.client("echo")

    connect.local = request.param == "in process"
    return connect
