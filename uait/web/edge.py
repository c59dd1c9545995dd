"""The edge of a service: what happens to every request before and after its handler.

It is plain ASGI around Quart, so that it costs little and holds for mounted apps, too: ids, trace, identity and deadline come in here; the answer's id, the
error body of every failure, the log line and the metrics go out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import trio

from uait.calls.context import SCOPE_KEY, CallContext, Identity, bind_call
from uait.errors import APIError, BadRequest, InternalError
from uait.server.asgi import Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.web.accesslog import log_access
from uait.web.exchange import CLIENT_LEFT, DEADLINE, EXCHANGE, GOODBYE, Exchange
from uait.web.failure import to_api_error
from uait.web.trace import child_span, request_id

if TYPE_CHECKING:
    from uait.web.app import App

PUBLIC = {"/health", "/health/live", "/health/ready"}
"""Paths that need no key: a probe has none."""

_WANTED = {
    b"x-request-id",
    b"traceparent",
    b"tracestate",
    b"x-request-timeout-ms",
    b"x-user-id",
    b"authorization",
    b"x-api-key",
}


class Edge:
    """Runs `app`'s requests. It raises nothing but cancellation (and what must never be caught)."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._context = app.context
        self._log = app.context.log
        self._drain = app.context.drain
        self._longest = app.context.limits.request_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._app.error_format(scope["path"]))
        scope[EXCHANGE] = exchange
        disconnect = scope.get(DISCONNECT)
        self._app.metrics.begin(scope)
        try:
            try:
                self._admit(exchange, scope)
                assert exchange.call is not None
                self._drain.add(exchange.drain)
                if disconnect is not None:
                    disconnect.add(exchange.client_left)
                with bind_call(exchange.call), exchange.cancel_scope:
                    await self._app.asgi_app(scope, exchange.receive, exchange.send)
                if exchange.cancel_scope.cancelled_caught:
                    await self._finish(exchange, exchange.cause)
                elif not exchange.ended and scope["type"] == "http" and not exchange.left:
                    await self._finish(exchange, InternalError())
            except Exception as error:
                await self._fail(exchange, error)
            except BaseExceptionGroup as group:
                # Cancelled from outside while something failed, too: the failure is ours to report, the cancellation is not ours to keep.
                failure, rest = group.split(Exception)
                if failure is not None:
                    self._report(exchange, failure)
                if rest is None:
                    raise
                raise rest from None
        finally:
            self._drain.discard(exchange.drain)
            if disconnect is not None:
                disconnect.discard(exchange.client_left)
            if not exchange.status or (exchange.left and not exchange.ended):
                exchange.status = CLIENT_LEFT
            seconds = trio.current_time() - exchange.started
            self._app.metrics.end(exchange, seconds)
            log_access(self._log, exchange, seconds)

    def _admit(self, exchange: Exchange, scope: Scope) -> None:
        """Find out who asks, under which id, and how much time there is."""
        given: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _WANTED:
                given[name] = value
        outer: CallContext | None = scope.get(SCOPE_KEY)
        if outer is not None:
            exchange.request_id = outer.request_id
            traceparent, tracestate = outer.traceparent, outer.tracestate
        else:
            exchange.request_id = request_id(_text(given.get(b"x-request-id")))
            traceparent, tracestate = _text(given.get(b"traceparent")), _text(given.get(b"tracestate")) or ""
        span, goes_on = child_span(traceparent)
        who = outer.identity if outer is not None else self._identify(scope, given)
        exchange.call = CallContext(exchange.request_id, who, span, tracestate if goes_on else "")
        budget = given.get(b"x-request-timeout-ms")
        if budget is not None:
            if not budget.isdigit() or len(budget) > 12:
                raise BadRequest("X-Request-Timeout-Ms must be a whole number of milliseconds.")
            scope[DEADLINE] = True
            exchange.cancel_scope.deadline = exchange.started + min(int(budget) / 1000, self._longest)
        elif scope["type"] == "http":
            exchange.cancel_scope.deadline = exchange.started + self._longest

    def _identify(self, scope: Scope, given: dict[bytes, bytes]) -> Identity:
        name, key = given.get(b"x-user-id"), given.get(b"x-api-key")
        if scope["type"] == "websocket" and scope["query_string"]:
            # A browser cannot set headers on a WebSocket.
            for field, value in parse_qsl(scope["query_string"], keep_blank_values=True):
                if field == b"user_id" and name is None:
                    name = value
                elif field == b"api_key" and key is None:
                    key = value
        authenticator = self._app.authenticator
        if not authenticator.required:
            return authenticator.by_name(name)
        if scope["path"] in PUBLIC:
            return Identity()
        return authenticator.by_key(given.get(b"authorization"), key)

    async def _fail(self, exchange: Exchange, failure: Exception) -> None:
        error = to_api_error(failure)
        if isinstance(error, InternalError) and error is not failure:
            self._report(exchange, failure)
        await self._finish(exchange, error)

    def _report(self, exchange: Exchange, failure: BaseException) -> None:
        self._log.error(
            "%s %s failed (request %s)",
            exchange.scope.get("method", "WEBSOCKET"),
            exchange.scope["path"],
            exchange.request_id,
            exc_info=failure,
            extra={"request_id": exchange.request_id},
        )

    async def _finish(self, exchange: Exchange, error: APIError) -> None:
        """Tell the client how it ended, as far as that is still possible."""
        if exchange.left or exchange.ended:
            return
        if not exchange.request_id:
            exchange.request_id = request_id(None)
        try:
            with trio.move_on_after(GOODBYE):
                if exchange.scope["type"] == "websocket":
                    await exchange.close(error)
                elif exchange.began:
                    await exchange.say_goodbye(error)
                else:
                    await exchange.answer(error)
        except OSError:
            exchange.left = True


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
