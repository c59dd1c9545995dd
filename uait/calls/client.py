"""How one service calls another: `ctx.client("memory").post_json(...)`, wherever that service runs."""

from __future__ import annotations

import contextvars
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import Any, Protocol, Self, Unpack
from urllib.parse import quote

import attrs
import httpx
import trio

from uait.calls.context import SCOPE_KEY, CallContext, outgoing_call
from uait.calls.deadline import remaining, within
from uait.calls.inprocess import Exchange, fetch, http_scope, open_exchange
from uait.calls.message import (
    Answer,
    AnswerStream,
    Given,
    Params,
    Reply,
    Request,
    make_request,
    read_error,
    read_json,
    read_reply,
)
from uait.calls.proxy import proxy_http
from uait.calls.remote import Remote
from uait.calls.standing import Standing
from uait.calls.tunnel import proxy_websocket
from uait.errors import NotFound
from uait.server.asgi import ASGIApp, Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.server.frames import SCOPE_KEY as OUTLET

ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that `request` gathers; `stream` has no limit."""


@attrs.frozen
class LocalService:
    """A service that runs in this process."""

    name: str
    app: ASGIApp


class Directory(Protocol):
    """Who knows which services run in this process: the host."""

    async def local(self, name: str) -> LocalService | None:
        """The service, once it is ready; None where this host has no such service.

        Raises:
            Unavailable: it has failed or stopped.
        """


class Calls:
    """The calls of one service incarnation. An async context manager; leaving it closes the connections to other machines.

    Args:
        directory: finds the services of this process.
        caller: the name of the service that calls.
        timeout: seconds for a call whose caller has no deadline and gives none.
    """

    def __init__(self, directory: Directory, *, caller: str, timeout: float = 60.0) -> None:
        self.directory = directory
        self.caller = caller
        self.timeout = timeout
        self.context = contextvars.copy_context()
        self.remote = Remote(self._lookup)

    async def __aenter__(self) -> Self:
        self.context = contextvars.copy_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remote.close()

    def client(self, name: str) -> ServiceClient:
        """The client for the service `name`. It need not exist yet: whether it does is seen at each call."""
        return ServiceClient(self, name)

    async def _lookup(self, name: str) -> Any:
        """Ask this host's discovery for one instance of a service that does not run here."""
        discovery = None if name == "discovery" else await self.directory.local("discovery")
        if discovery is not None:
            try:
                return await self.client("discovery").get_json(f"/service/{quote(name, safe='')}")
            except NotFound:
                pass
        raise NotFound(f"There is no service named {name!r}.", code="SERVICE_NOT_FOUND")


class ServiceClient:
    """Calls one service by its name.

    A service of this process is called without a socket, any other over HTTP at an instance that discovery gives. Either way the call carries the
    current request's id, trace and identity, and what remains of its time. Cancelling a call cancels the callee's work.

    Every method raises the callee's error as the `APIError` it was, and for a call that fails on the way `Unavailable` (nobody is there),
    `DeadlineExceeded` (no answer in time) or `UpstreamError` (no proper answer).
    """

    def __init__(self, calls: Calls, name: str) -> None:
        self.name = name
        self._calls = calls

    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None = None,
        check: bool = True,
        **given: Unpack[Given],
    ) -> httpx.Response:
        """Send one request and read the whole answer.

        Args:
            method: the HTTP method.
            path: from the service's root, quoted where it must be.
            timeout: seconds for the whole call; without it the caller's own deadline counts, or the default where there is none.
            check: whether a status of 400 and above raises.
            given: `params`, `json` or `content`, and `headers`; see `uait.calls.message.Given`.
        """
        reply = await self._ask(method, path, timeout=timeout, check=check, **given)
        return httpx.Response(reply.status, headers=reply.headers, content=reply.content)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None = None,
        check: bool = True,
        **given: Unpack[Given],
    ) -> Reply:
        """What `request` does, without an `httpx.Response`, whose making takes as long as a short call."""
        with self._limit(timeout):
            local = await self._calls.directory.local(self.name)
            call = make_request(self._calls.caller, method, path, **given)
            if local is not None:
                exchange = _exchange(local, call, ANSWER_BYTES)
                body = await fetch(exchange, self._calls.context)
                reply = Reply(exchange.status, exchange.headers, body, exchange.standing)
            else:
                async with self._remote(call) as answer:
                    reply = await read_reply(answer, ANSWER_BYTES, self.name)
        if check and reply.status >= 400:
            raise read_error(reply, self.name)
        return reply

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None = None,
        check: bool = True,
        **given: Unpack[Given],
    ) -> AsyncIterator[httpx.Response]:
        """Send one request; the answer's body is read inside the block, as it comes. For the arguments see `request`.

        `timeout` is for the head of the answer: the body may take as long as the caller has. Leaving the block early cancels the callee's work; who
        means to do so iterates over `response.stream`, since httpx's own iterators are generators, which must not be left halfway.
        """
        with self._limit(timeout) as scope:
            local = await self._calls.directory.local(self.name)
            call = make_request(self._calls.caller, method, path, **given)
            opened: AbstractAsyncContextManager[Answer]
            opened = self._remote(call) if local is None else open_exchange(_exchange(local, call), self._calls.context)
            async with opened as answer:
                if scope is not None:
                    scope.deadline = math.inf
                response = httpx.Response(answer.status, headers=answer.headers, stream=AnswerStream(answer))
                if check and response.status_code >= 400:
                    raise read_error(await read_reply(answer, ANSWER_BYTES, self.name), self.name)
                yield response

    async def get_json(self, path: str, params: Params = None) -> Any:
        """GET `path`; what its JSON says."""
        return read_json(await self._ask("GET", path, params=params), self.name)

    async def get_standing(self, path: str, params: Params = None) -> tuple[Any, Standing | None]:
        """What `get_json` gives, and, where the service runs here and vouches for its answer, whether that still holds: as long as it does, there is no need to ask again."""
        reply = await self._ask("GET", path, params=params)
        return read_json(reply, self.name), reply.standing

    async def post_json(self, path: str, data: Any = None) -> Any:
        """POST `data` to `path`; what the answer's JSON says, None where it is empty."""
        return read_json(await self._ask("POST", path, json=data), self.name)

    async def put_json(self, path: str, data: Any = None) -> Any:
        """PUT `data` to `path`; what the answer's JSON says, None where it is empty."""
        return read_json(await self._ask("PUT", path, json=data), self.name)

    async def patch_json(self, path: str, data: Any = None) -> Any:
        """PATCH `path` with `data`; what the answer's JSON says, None where it is empty."""
        return read_json(await self._ask("PATCH", path, json=data), self.name)

    async def delete(self, path: str) -> Any:
        """DELETE `path`; what the answer's JSON says, None where it is empty."""
        return read_json(await self._ask("DELETE", path), self.name)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `scope`, of HTTP or a WebSocket, as the service would: what a gateway mounts.

        The caller has rewritten the scope's path to the service's own. Nothing is buffered, and cancelling this cancels everything behind it.

        Raises:
            APIError: before the answer has begun, where nobody can give one. After that, `UpstreamError`: the answer broke off.
        """
        call = outgoing_call()
        local = await self._calls.directory.local(self.name)
        if local is not None:
            await local.app(_inner_scope(scope, call), receive, send)
        elif scope["type"] == "websocket":
            await proxy_websocket(self._calls.remote, self.name, scope, receive, send, call)
        else:
            await proxy_http(self._calls.remote, self.name, scope, receive, send, call)

    def _limit(self, timeout: float | None) -> AbstractContextManager[trio.CancelScope | None]:
        if timeout is None:
            if remaining() is not None:
                return nullcontext()
            timeout = self._calls.timeout
        return within(timeout, f"{self.name} did not answer in time.")

    def _remote(self, call: Request) -> AbstractAsyncContextManager[Answer]:
        return self._calls.remote.open(self.name, call.method, call.target, call.headers, call.content)


def _exchange(local: LocalService, call: Request, limit: int | None = None) -> Exchange:
    headers = [(b"host", local.name.encode()), *call.headers]
    scope = http_scope(call.method, call.path, call.query, headers, **{SCOPE_KEY: call.context})
    return Exchange(local.app, scope, call.content, name=local.name, limit=limit)


def _inner_scope(scope: Scope, call: CallContext) -> Scope:
    """`scope` for another app: without what the first app's own layers have left in it, but with what the server offers: the client's disconnect, and the way to push frames to it."""
    inner = {**scope, SCOPE_KEY: call}
    for key in inner.keys() - _KEPT:
        if key.startswith("uait.") or key == "state":
            del inner[key]
    return inner


_KEPT = {"type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers"}
_KEPT |= {"client", "server", "extensions", "subprotocols", SCOPE_KEY, DISCONNECT, OUTLET}
"""Keys of a scope that stay in any case: most of them, and looking at each costs more than taking these away at once."""
