"""What the tests of `uait.web` share: a service's context without a host, and a client that speaks ASGI without a server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import orjson
import pytest
import trio
from prometheus_client import CollectorRegistry

from uait.kernel.service import Context, ServiceSpec
from uait.server.disconnect import SCOPE_KEY, Disconnect
from uait.server.drain import Drain
from uait.settings import Limits, Settings
from uait.web import App


async def _factory(ctx: Context) -> Any:
    raise AssertionError


@pytest.fixture(scope="session")
def make_context(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Context]:
    """Make a Context as a host would, without the parts that the web never touches."""

    data_dir: Path = tmp_path_factory.mktemp("data")

    def make(
        *, keys: Mapping[str, str] | None = None, limits: Limits | None = None, registry: Any = None, **spec: Any
    ) -> Context:
        chosen = {"name": "test", "title": "test-service", "summary": "A service for tests", "version": "1.2.3"} | spec
        return Context(
            spec=ServiceSpec(factory=_factory, **chosen),
            settings=None,
            host_settings=Settings(data_dir=data_dir, keys=keys or {}, limits=limits or Limits()),
            log=logging.getLogger("uait.test"),
            nursery=SimpleNamespace(),
            drain=Drain(),
            registry=registry or CollectorRegistry(),
            calls=SimpleNamespace(),
            directory_statuses=tuple,
            status_changed=SimpleNamespace(),
        )

    return make


@pytest.fixture(scope="session")
def make_app(make_context: Callable[..., Context]) -> Callable[..., App]:
    """Make an App in a context of its own; see `make_context` for the arguments."""
    return lambda **options: App(make_context(**options))


@attrs.define
class Answer:
    """What came back for one request."""

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    complete: bool = False
    messages: list[Any] = attrs.field(factory=list)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


@attrs.define
class Connection:
    """One request as a server sees it: send it what a client sends, look at what the app answers."""

    scope: dict[str, Any]
    incoming: trio.MemorySendChannel[Any]
    outgoing: list[Any]
    answer: Answer
    disconnect: Disconnect | None
    changed: trio.Event = attrs.field(factory=trio.Event)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(5):
            while not condition():
                await self.changed.wait()

    async def say(self, data: str | bytes) -> None:
        """The client sends a WebSocket message."""
        kind = "text" if isinstance(data, str) else "bytes"
        await self.incoming.send({"type": "websocket.receive", kind: data})

    @property
    def heard(self) -> list[Any]:
        """The WebSocket messages that came back."""
        return [m.get("text", m.get("bytes")) for m in self.outgoing if m["type"] == "websocket.send"]

    @property
    def closed(self) -> tuple[int, str] | None:
        """With which code and reason the app has closed the WebSocket."""
        found = [(m["code"], m.get("reason", "")) for m in self.outgoing if m["type"] == "websocket.close"]
        return found[0] if found else None

    async def leave(self) -> None:
        """The client goes."""
        if self.disconnect is not None:
            self.disconnect.announce()
        kind = "http.disconnect" if self.scope["type"] == "http" else "websocket.disconnect"
        await self.incoming.send({"type": kind, "code": 1006})


def make_scope(path: str, method: str, headers: Mapping[str, str | bytes], kind: str = "http") -> dict[str, Any]:
    path, _, query = path.partition("?")
    pairs = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost"), *pairs],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "extensions": {"websocket.http.response": {}},
    }
    if kind == "http":
        scope["method"] = method
    else:
        scope["subprotocols"] = []
    return scope


@asynccontextmanager
async def _connect(
    app: Any,
    path: str,
    /,
    *,
    method: str = "GET",
    headers: Mapping[str, str | bytes] | None = None,
    kind: str = "http",
    announces: bool = False,
    **extra: Any,
) -> AsyncIterator[Connection]:
    """Call `app` as a server would; leaving the block waits for it to return."""
    incoming, arriving = trio.open_memory_channel[Any](1000)
    scope = make_scope(path, method, headers or {}, kind) | extra
    disconnect = Disconnect() if announces else None
    if disconnect is not None:
        scope[SCOPE_KEY] = disconnect
    connection = Connection(scope, incoming, [], Answer(), disconnect)
    answer = connection.answer

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        connection.outgoing.append(message)
        answer.messages.append(message)
        assert not answer.complete, "a message after the last"
        if message["type"].endswith("response.start"):
            answer.status = message["status"]
            for name, value in message["headers"]:
                assert type(name) is bytes
                assert name == name.lower()
                assert name.decode() not in answer.headers or name == b"set-cookie", f"{name!r} twice"
                answer.headers[name.decode()] = value.decode("latin-1")
        elif message["type"].endswith("response.body"):
            assert answer.status
            answer.body += message.get("body", b"")
            answer.complete = not message.get("more_body", False)
        changed, connection.changed = connection.changed, trio.Event()
        changed.set()

    async with trio.open_nursery() as nursery:
        if kind == "websocket":
            await incoming.send({"type": "websocket.connect"})
        nursery.start_soon(app, scope, arriving.receive, send)
        yield connection


@pytest.fixture(scope="session")
def connect() -> Any:
    """`async with connect(app, path, ...) as connection:` one request, step by step. See `_connect`."""
    return _connect


@pytest.fixture(params=["watching", "announcing"])
def announces(request: pytest.FixtureRequest) -> bool:
    """Run a test against both kinds of servers: those that only send disconnect messages, and those that announce."""
    return bool(request.param == "announcing")


async def _ask(
    app: Any,
    path: str,
    /,
    *,
    method: str | None = None,
    json: Any = None,
    body: bytes | None = None,
    headers: Mapping[str, str | bytes] | None = None,
    **options: Any,
) -> Answer:
    """One whole request and its answer."""
    given = dict(headers or {})
    if json is not None:
        body = orjson.dumps(json)
        given.setdefault("Content-Type", "application/json")
    method = method or ("GET" if body is None else "POST")
    if body is not None:
        given.setdefault("Content-Length", str(len(body)))
    async with _connect(app, path, method=method, headers=given, **options) as connection:
        await connection.incoming.send({"type": "http.request", "body": body or b"", "more_body": False})
    return connection.answer


@pytest.fixture(scope="session")
def ask() -> Any:
    """`answer = await ask(app, path, ...)`: one whole request. See `_ask`."""
    return _ask
