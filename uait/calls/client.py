"""How one service calls another: `ctx.client("memory").post_json(...)`, wherever that service runs."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias
from urllib.parse import quote

import attrs
import httpx
import orjson

from uait.calls.context import SCOPE_KEY, CallContext, outgoing_call
from uait.calls.deadline import TIMEOUT_HEADER, remaining, to_header, within
from uait.calls.inprocess import Content, Exchange, RawHeaders, fetch, http_scope, open_exchange
from uait.errors import NotFound, UpstreamError, from_response
from uait.server.asgi import ASGIApp, Receive, Scope, Send

Params: TypeAlias = Mapping[str, Any] | None

ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that `request` gathers; `stream` has no limit."""

ERROR_BYTES = 1024 * 1024
"""How much of an error's answer is read."""


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
        self._clients: dict[str, ServiceClient] = {}

    async def __aenter__(self) -> Self:
        self.context = contextvars.copy_context()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clients.clear()

    def client(self, name: str) -> ServiceClient:
        """The client for the service `name`. It need not exist yet: whether it does is seen at each call."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = ServiceClient(self, name)
        return client


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
        params: Params = None,
        json: Any = None,
        content: Content = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        check: bool = True,
    ) -> httpx.Response:
        """Send one request and read the whole answer.

        Args:
            method: the HTTP method.
            path: from the service's root, quoted where it must be.
            params: the query; lists repeat their key.
            json: sent as the body, as JSON.
            content: sent as the body as it is, instead of `json`.
            headers: further headers.
            timeout: seconds for the whole call; without it the caller's own deadline counts, or the default where there is none.
            check: whether a status of 400 and above raises.
        """
        if timeout is None and remaining() is None:
            timeout = self._calls.timeout
        with within(timeout, f"{self.name} did not answer in time."):
            local = await self._local()
            scope, body = self._scope(method, path, params, json, content, headers)
            exchange = Exchange(local.app, scope, body, name=self.name, limit=ANSWER_BYTES)
            response = await fetch(exchange, self._calls.context)
        if check and response.status_code >= 400:
            raise _error(response, self.name)
        return response

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params = None,
        json: Any = None,
        content: Content = None,
        headers: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """Send one request; the answer's body is read inside the block, as it comes. For the arguments see `request`.

        Leaving the block early cancels the callee's work.
        """
        local = await self._local()
        scope, body = self._scope(method, path, params, json, content, headers)
        exchange = Exchange(local.app, scope, body, name=self.name)
        async with open_exchange(exchange, self._calls.context) as response:
            if check and response.status_code >= 400:
                await response.aread()
                raise _error(response, self.name)
            yield response

    async def get_json(self, path: str, params: Params = None) -> Any:
        """GET `path`; what its JSON says."""
        return _json(await self.request("GET", path, params=params), self.name)

    async def post_json(self, path: str, data: Any = None) -> Any:
        """POST `data` to `path`; what the answer's JSON says, None where it is empty."""
        return _json(await self.request("POST", path, json=data), self.name)

    async def put_json(self, path: str, data: Any = None) -> Any:
        """PUT `data` to `path`; what the answer's JSON says, None where it is empty."""
        return _json(await self.request("PUT", path, json=data), self.name)

    async def patch_json(self, path: str, data: Any = None) -> Any:
        """PATCH `path` with `data`; what the answer's JSON says, None where it is empty."""
        return _json(await self.request("PATCH", path, json=data), self.name)

    async def delete(self, path: str) -> Any:
        """DELETE `path`; what the answer's JSON says, None where it is empty."""
        return _json(await self.request("DELETE", path), self.name)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `scope`, of HTTP or a WebSocket, as the service would: what a gateway mounts.

        The caller has rewritten the scope's path to the service's own. Nothing is buffered, and cancelling this cancels everything behind it.
        """
        local = await self._local()
        scope[SCOPE_KEY] = outgoing_call()
        await local.app(scope, receive, send)

    async def _local(self) -> LocalService:
        local = await self._calls.directory.local(self.name)
        if local is None:
            raise NotFound(f"There is no service named {self.name!r}.", code="SERVICE_NOT_FOUND")
        return local

    def _scope(
        self,
        method: str,
        path: str,
        params: Params,
        json: Any,
        content: Content,
        headers: Mapping[str, str] | None,
    ) -> tuple[Scope, Content]:
        call = outgoing_call()
        raw_path, query = _target(path, params)
        if json is not None:
            content = orjson.dumps(json)
        raw_headers = _headers(self._calls.caller, self.name, call, headers, content, is_json=json is not None)
        return http_scope(method, raw_path, query, raw_headers, **{SCOPE_KEY: call}), content


def _target(path: str, params: Params) -> tuple[bytes, bytes]:
    """The path and the query as they stand in a request line."""
    path, _, query = path.partition("?")
    if params:
        query = "&".join(filter(None, (query, str(httpx.QueryParams(params)))))
    return quote(path, safe="/:@!$&'()*+,;=~%").encode(), quote(query, safe="/?:@!$&'()*+,;=~%").encode()


def _headers(
    caller: str, name: str, call: CallContext, given: Mapping[str, str] | None, content: Content, *, is_json: bool
) -> RawHeaders:
    headers = {
        "host": name,
        "accept": "application/json",
        "user-agent": f"uait/{caller}",
        "x-request-id": call.request_id,
        "x-user-id": call.identity.user_id,
        "traceparent": call.traceparent,
    }
    if call.tracestate:
        headers["tracestate"] = call.tracestate
    if (left := remaining()) is not None:
        headers[TIMEOUT_HEADER.lower()] = to_header(left)
    if isinstance(content, bytes):
        headers["content-length"] = str(len(content))
        if is_json:
            headers["content-type"] = "application/json"
    for key, value in (given or {}).items():
        headers[key.lower()] = value
    return [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]


def _json(response: httpx.Response, name: str) -> Any:
    if not response.content:
        return None
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise UpstreamError(f"{name} answered with something that is not JSON.") from error


def _error(response: httpx.Response, source: str) -> Exception:
    try:
        payload = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        payload = None
    return from_response(response.status_code, payload, source=source)
