"""What is known of one request while it is open: under which id it runs, what has been sent, and why it ended."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import trio
from quart import request
from werkzeug.routing import Rule

from uait.calls.context import CallContext
from uait.errors import APIError, DeadlineExceeded, InternalError, Unavailable
from uait.server.asgi import Message, Receive, Scope, Send
from uait.server.drain import Phase
from uait.web.codec import to_json

Render: TypeAlias = Callable[[APIError, str], dict[str, Any]]
"""Gives the JSON body of an error in some dialect, from the error and the request id."""

Farewell: TypeAlias = Callable[[APIError], bytes]
"""Gives the last bytes of an event stream that an error ends."""

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

EXCHANGE = "uait.exchange"
"""Where the edge leaves the `Exchange` in the ASGI scope."""

BOUNDARIES = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""The ends of an event on an event stream."""

BEGINNING = 256
"""Bytes of an unfinished event that are kept to tell by whether it is one of the last."""


def current_exchange() -> Exchange:
    """The one that the current Quart request belongs to."""
    scope: Any = request.scope
    exchange: Exchange = scope[EXCHANGE]
    return exchange


def standard_error(error: APIError, request_id: str) -> dict[str, Any]:
    """The error body of every service."""
    return error.as_dict(request_id)


class Exchange:
    """One open HTTP request or WebSocket.

    The app runs inside its `cancel_scope`, which `end`, `client_left` and `drain` cancel for a reason. `send` and `receive` stand between the app and the server.
    """

    __slots__ = (
        "_boundary",
        "_draining",
        "_endless",
        "_last",
        "_receive",
        "_send",
        "_silent",
        "_whole",
        "began",
        "call",
        "cancel_scope",
        "close_code",
        "ended",
        "farewell",
        "is_event_stream",
        "last_events",
        "left",
        "match",
        "mounted",
        "render",
        "request_id",
        "route",
        "scope",
        "sent",
        "started",
        "status",
        "timed",
        "verdict",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, render: Render, longest: float = math.inf) -> None:
        """`longest`: seconds that the app may take, unless the caller names less."""
        self.scope = scope
        self.render = render
        self.request_id = ""
        self.call: CallContext | None = None
        self.route = ""
        self.match: tuple[Rule, Any] | None = None
        self.started = trio.current_time()
        # With its deadline from the beginning: setting one later costs as much as making the scope.
        self.cancel_scope = trio.CancelScope(deadline=self.started + longest)
        self.mounted = False  # somebody else's app answers
        self.timed = False  # the caller has named a deadline
        self.status = 0
        self.sent = 0
        self.began = False  # the head of the answer is out, or the WebSocket accepted
        self.ended = False  # the last piece is on its way
        self.left = False  # nobody waits for it any more
        self.close_code = 0
        self.verdict: APIError | None = None
        self.is_event_stream = False
        self.farewell: Farewell | None = None
        self.last_events: tuple[bytes, ...] = ()  # what an event begins with after which none may follow
        self._endless = scope["type"] == "websocket"
        self._draining = False
        self._silent = scope.get("method") == "HEAD"
        self._boundary = True
        self._last = b""
        self._whole = True
        self._receive = receive
        self._send = send

    # Ways in which it ends early

    def end(self, verdict: APIError, reason: str) -> None:
        """Cancel the app; `verdict` is what the client is told. The first verdict stands."""
        if self.verdict is None:
            self.verdict = verdict
        self.cancel_scope.cancel(reason=reason)

    def client_left(self) -> None:
        """Cancel the app, because nobody waits for it any more."""
        if not self.ended:
            self.left = True
            self.cancel_scope.cancel(reason="the client left")

    def drain(self, phase: Phase) -> None:
        """React to the service leaving: what is endless ends at once, everything else when the grace period is over."""
        self._draining = True
        if phase is Phase.CUTTING or self._endless:
            self.end(Unavailable("The service is restarting; try again."), "the service is leaving")

    def never_ends(self) -> None:
        """It has no end of its own: end it as soon as the service drains, and at no deadline but one that the caller named."""
        self._endless = True
        self.lift_deadline()
        if self._draining:
            self.drain(Phase.DRAINING)

    def lift_deadline(self) -> None:
        """Let it take as long as it wants, unless the caller named a deadline."""
        if not self.timed:
            self.cancel_scope.deadline = math.inf

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return trio.current_time() - self.started

    @property
    def cause(self) -> APIError:
        """Why the cancel scope was cancelled."""
        return self.verdict or DeadlineExceeded()

    # ASGI

    async def receive(self) -> Message:
        """The server's next message to the app."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.left = not self.ended
        elif message["type"] == "websocket.disconnect":
            self.left = not self.ended
            self.close_code = message.get("code", 1005)
        return message

    async def send(self, message: Message) -> None:
        """The app's next message to the server."""
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if not more:
                self.ended = True
            if self._silent:
                if more:
                    return
                message = {"type": kind, "body": b"", "more_body": False}
            elif body:
                self.sent += len(body)
                if self.is_event_stream:
                    # A stream from elsewhere comes in pieces that end anywhere: inside an event, and inside the end of one.
                    seen = body if self._boundary else self._last + body
                    self._boundary = seen.endswith(BOUNDARIES)
                    self._last = seen if self._boundary else _unfinished(seen)
        elif kind == "http.response.start":
            # Where it is cancelled already, nothing has begun: the client can still be told why.
            await trio.lowlevel.checkpoint_if_cancelled()
            self.began = True
            self.status = message["status"]
            self._silent = self._silent or self.status in (204, 304)
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif kind == "websocket.send":
            self.sent += len(message.get("bytes") or message.get("text") or "")
        elif kind == "websocket.accept":
            await trio.lowlevel.checkpoint_if_cancelled()
            self.began = True
            self.status = 101
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif kind == "websocket.close":
            self.ended = True
            self.close_code = message.get("code", 1000)
            self.status = self.status or 403
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif kind == "websocket.http.response.body":
            self.sent += len(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        # A cancelled send may have put half of the message on the wire, after which there are no last words.
        self._whole = False
        try:
            await self._send(message)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.left = True
            self.cancel_scope.cancel(reason="the client left")
            await trio.lowlevel.checkpoint()
        self._whole = True

    def _headers(self, headers: Any) -> RawHeaders:
        own = []
        for pair in headers:
            name = pair[0]
            if name == b"x-request-id":
                continue
            if name == b"content-type" and pair[1].startswith(b"text/event-stream"):
                self.is_event_stream = True
                if self.mounted:
                    # How long it may take is known, and watched, where it comes from.
                    self.lift_deadline()
            own.append(pair)
        own.append((b"x-request-id", self.request_id.encode("latin-1")))
        return own

    # Last words

    async def tell(self, error: APIError, log: logging.Logger) -> None:
        """Let the client know of `error`, as far as that is still possible.

        Nothing sent yet: the error's status and body. An event stream: a last event. An open WebSocket: the close code that fits. Any other answer stays
        incomplete, which the client sees.
        """
        if self.left or self.ended or not self._whole:
            return
        if self.scope["type"] == "websocket":
            await self._close(error, log)
        elif not self.began:
            status, headers, body = self._written(error, log)
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
            await self.send({"type": "http.response.body", "body": body, "more_body": False})
        elif self.is_event_stream and self._boundary:
            await self.send({"type": "http.response.body", "body": self._last_words(error), "more_body": False})

    def _last_words(self, error: APIError) -> bytes:
        if self.last_events and _last_event(self._last).startswith(self.last_events):
            return b""  # everything was said; only the end of the body was missing
        return self.farewell(error) if self.farewell else error_event(error, self.request_id)

    async def refuse(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """Answer a WebSocket's handshake with something else than a WebSocket, as well as the server can."""
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            await self.send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await self.send({"type": "websocket.http.response.body", "body": body, "more_body": False})
        else:
            await self.send({"type": "websocket.close", "code": 1008})

    async def _close(self, error: APIError, log: logging.Logger) -> None:
        if not self.began:
            await self.refuse(*self._written(error, log))
            return
        code = 1012 if error is self.verdict else 1011 if error.http_status >= 500 else 1008
        await self.send({"type": "websocket.close", "code": code, "reason": _reason(error)})

    def _written(self, error: APIError, log: logging.Logger) -> tuple[int, RawHeaders, bytes]:
        try:
            body = to_json(self.render(error, self.request_id))
        except Exception:
            log.exception("an error cannot be written (request %s)", self.request_id)
            error = InternalError()
            body = to_json(standard_error(error, self.request_id))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        for name, value in error.headers.items():
            headers.append((name.lower().encode("latin-1"), value.encode("latin-1", "replace")))
        return error.http_status, headers, body


def _unfinished(body: bytes) -> bytes:
    """The event that `body` ends in the middle of: of a long one its beginning, and as much of its end as may be half of a boundary."""
    event = body[max(body.rfind(boundary) + len(boundary) if boundary in body else 0 for boundary in BOUNDARIES) :]
    return event if len(event) <= BEGINNING else event[:BEGINNING] + b" " + event[-3:]


def _last_event(body: bytes) -> bytes:
    """The last event that ends with `body`."""
    return body.rstrip(b"\r\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n").rpartition(b"\n\n")[2]


def _reason(error: APIError) -> str:
    """A close frame holds 123 bytes."""
    return f"{error.error_code}: {error.text}".encode()[:123].decode(errors="ignore")


def error_event(error: APIError, request_id: str) -> bytes:
    """An SSE event named `error` with the error body of every service."""
    return b"event: error\ndata: " + to_json(standard_error(error, request_id)) + b"\n\n"
