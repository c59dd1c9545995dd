"""The edge of a service: what happens to every request before and after its handler.

It is plain ASGI around Quart, so that it costs little and holds for mounted apps, too: ids, trace, identity and deadline come in here; the answer's id, the
error body of every failure, the log line and the metrics go out here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import trio

from uait.calls.context import SCOPE_KEY, CallContext, Identity, bind_call
from uait.calls.deadline import from_header
from uait.errors import APIError, InternalError
from uait.server.asgi import Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.web.accesslog import log_access, shown_path
from uait.web.exchange import EXCHANGE, Exchange
from uait.web.failure import has_bug, to_api_error
from uait.web.local import check_local
from uait.web.trace import child_span, request_id

if TYPE_CHECKING:
    from uait.web.app import App

PUBLIC = frozenset({"/health", "/health/live", "/health/ready"})
"""Paths of every service that need no key; see `App.public`."""

CLIENT_LEFT = 499
"""The status that log and metrics show for a client that did not wait for the end of its answer."""

GOODBYE = 1.0
"""Seconds that the last words of a cancelled request may take."""

_WANTED = frozenset(
    {
        b"host",
        b"origin",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"x-request-timeout-ms",
        b"x-user-id",
        b"authorization",
        b"x-api-key",
    }
)


class Edge:
    """Runs the requests of one app. It raises nothing but cancellation (and what must never be caught)."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._log = app.context.log
        self._drain = app.context.drain
        self._host = app.context.host_settings.host
        self._longest = app.context.limits.request_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        longest = self._longest if scope["type"] == "http" else math.inf
        exchange = Exchange(scope, receive, send, self._app.error_format(scope["path"]), longest)
        scope[EXCHANGE] = exchange
        disconnect = scope.get(DISCONNECT)
        self._app.metrics.begin(scope)
        cancelled = True
        try:
            call = self._admit(exchange, scope)
            self._drain.add(exchange.drain)
            if exchange.verdict is not None:
                raise exchange.verdict
            if disconnect is not None:
                disconnect.add(exchange.client_left)
            with bind_call(call), exchange.cancel_scope:
                await self._app.asgi_app(scope, exchange.receive, exchange.send)
            if exchange.cancel_scope.cancelled_caught:
                await self._tell(exchange, exchange.cause)
            elif not (exchange.ended or exchange.left or scope["type"] == "websocket"):
                self._log.error("%s ended without an answer (request %s)", exchange.route, exchange.request_id)
                await self._tell(exchange, InternalError())
            cancelled = False
        except Exception as failure:
            if has_bug(failure):
                self._report(exchange, failure)
            await self._tell(exchange, to_api_error(failure))
            cancelled = False
        except BaseExceptionGroup as group:
            # Cancelled from outside while something failed, too: the failure is ours to report, the cancellation is not ours to keep.
            failures, rest = group.split(Exception)
            if failures is not None:
                self._report(exchange, failures)
            if rest is None:
                raise
            raise rest from None
        finally:
            self._drain.discard(exchange.drain)
            if disconnect is not None:
                disconnect.discard(exchange.client_left)
            if (exchange.left or cancelled or not exchange.status) and not exchange.ended and exchange.status != 101:
                exchange.status = CLIENT_LEFT
            scope.pop(
                EXCHANGE, None
            )  # they know each other, and such a ring keeps a connection's memory until the garbage collector comes by
            seconds = trio.current_time() - exchange.started
            self._app.metrics.end(exchange, seconds)
            log_access(self._log, exchange, seconds)

    def _admit(self, exchange: Exchange, scope: Scope) -> CallContext:
        """Find out who asks, under which id, and how much time there is."""
        given: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _WANTED}
        outer: CallContext | None = scope.get(SCOPE_KEY)
        if outer is not None:
            exchange.request_id = outer.request_id
            traceparent, tracestate = outer.traceparent, outer.tracestate
        else:
            exchange.request_id = request_id(given.get(b"x-request-id"))
            traceparent = given.get(b"traceparent", b"").decode("latin-1")
            tracestate = given.get(b"tracestate", b"").decode("latin-1")
        who = outer.identity if outer is not None else self._identify(scope, given)
        span, goes_on = child_span(traceparent)
        call = exchange.call = CallContext(exchange.request_id, who, span, tracestate if goes_on else "")
        budget = given.get(b"x-request-timeout-ms")
        if budget is not None and scope["type"] == "http":
            exchange.timed = True
            seconds = from_header(budget.decode("latin-1"))
            if seconds < self._longest:
                exchange.cancel_scope.deadline = exchange.started + seconds
        return call

    def _identify(self, scope: Scope, given: dict[bytes, bytes]) -> Identity:
        authenticator = self._app.authenticator
        name, key = given.get(b"x-user-id"), given.get(b"x-api-key")
        if scope["type"] == "websocket" and scope["query_string"]:
            # A browser cannot set headers on a WebSocket.
            query = scope["query_string"].decode("latin-1")
            for field, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1"):
                if field == "user_id" and name is None:
                    name = value.encode("latin-1")
                elif field == "api_key" and key is None:
                    key = value.encode("latin-1")
        if not authenticator.required:
            check_local(given.get(b"host"), given.get(b"origin"), name=self._host, trusted=self._app.trusted_origin)
            return authenticator.by_name(name)
        if scope["path"] in self._app.public:
            return Identity()
        return authenticator.by_key(given.get(b"authorization"), key)

    async def _tell(self, exchange: Exchange, error: APIError) -> None:
        try:
            with trio.move_on_after(GOODBYE):
                await exchange.tell(error, self._log)
        except Exception as failure:
            self._report(exchange, failure)

    def _report(self, exchange: Exchange, failure: BaseException) -> None:
        scope = exchange.scope
        self._log.error(
            "%s %s failed (request %s)",
            scope.get("method", "WEBSOCKET"),
            shown_path(scope),
            exchange.request_id,
            exc_info=failure,
            extra={"request_id": exchange.request_id},
        )
