"""What is known of one request while it is open: under which id it runs, what has been sent, and why it ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from uait.calls.context import CallContext
from uait.errors import APIError, DeadlineExceeded, Unavailable
from uait.server.asgi import Message, Receive, Scope, Send
from uait.server.drain import Phase
from uait.web.codec import to_json

Render: TypeAlias = Callable[[APIError, str], dict[str, Any]]
"""Gives the JSON body of an error in some dialect, from the error and the request id."""

Farewell: TypeAlias = Callable[[APIError], bytes]
"""Gives the last bytes of an event stream that an error ends."""

EXCHANGE = "uait.exchange"
"""Where the edge leaves the `Exchange` in the ASGI scope."""

DEADLINE = "uait.deadline"
"""Set in the ASGI scope where the caller named a deadline itself."""

CLIENT_LEFT = 499
"""The status that logs and metrics show for a client that did not wait for the answer."""

GOODBYE = 1.0
"""Seconds that the last words of a cancelled request may take."""

NO_BODY = {204, 304}


def standard_error(error: APIError, request_id: str) -> dict[str, Any]:
    """The error body of every service."""
    return error.as_dict(request_id)


class Exchange:
    """One open HTTP request or WebSocket.

    Its `cancel_scope` is what the handler runs in; `end` cancels it for a reason. `send` and `receive` stand between the app and the server.
    """

    __slots__ = (
        "_boundary",
        "_head",
        "_receive",
        "_send",
        "began",
        "call",
        "cancel_scope",
        "close_code",
        "draining",
        "ended",
        "endless",
        "farewell",
        "is_event_stream",
        "left",
        "render",
        "request_id",
        "route",
        "scope",
        "sent",
        "started",
        "status",
        "verdict",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, render: Render) -> None:
        self.scope = scope
        self.render = render
        self.request_id = ""
        self.call: CallContext | None = None
        self.route = ""
        self.started = trio.current_time()
        self.cancel_scope = trio.CancelScope()
        self.status = 0
        self.sent = 0
        self.began = False  # the head of the answer is out, or the WebSocket accepted
        self.ended = False  # the last piece is being sent
        self.left = False
        self.close_code = 0
        self.verdict: APIError | None = None
        self.is_event_stream = False
        self.endless = scope["type"] == "websocket"
        self.draining = False
        self.farewell: Farewell | None = None
        self._head = scope.get("method") == "HEAD"
        self._boundary = True
        self._receive = receive
        self._send = send

    # Ways in which it ends early

    def end(self, verdict: APIError, reason: str) -> None:
        """Cancel the handler; `verdict` is what the client is told."""
        if self.verdict is None:
            self.verdict = verdict
        self.cancel_scope.cancel(reason=reason)

    def client_left(self) -> None:
        """Cancel the handler, because nobody waits for it any more."""
        if not self.ended:
            self.left = True
            self.cancel_scope.cancel(reason="the client left")

    def drain(self, phase: Phase) -> None:
        """React to the service leaving: what is endless ends at once, everything else when the grace period is over."""
        self.draining = True
        if phase is Phase.CUTTING or self.endless:
            self.end(Unavailable("The service is restarting; try again."), "the service is leaving")

    def never_ends(self) -> None:
        """It has no end of its own: end it as soon as the service drains, and at no deadline but one that the caller named."""
        self.endless = True
        if not self.scope.get(DEADLINE):
            self.cancel_scope.deadline = math.inf
        if self.draining:
            self.drain(Phase.DRAINING)

    @property
    def cause(self) -> APIError:
        """Why the cancel scope was cancelled."""
        return self.verdict or DeadlineExceeded()

    # ASGI

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.ended:
            self.left = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if self._head:
                if more:
                    return
                message = {"type": kind, "body": b""}
            elif body:
                self.sent += len(body)
                if self.is_event_stream:
                    self._boundary = body.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
            if not more:
                self.ended = True
        elif kind == "http.response.start":
            self.began = True
            self.status = status = message["status"]
            headers = message["headers"] = self._headers(message.get("headers", ()))
            if status in NO_BODY:
                self._head = True
            for name, value in headers:
                if name == b"content-type" and value.startswith(b"text/event-stream"):
                    self.is_event_stream = True
        elif kind == "websocket.send":
            self.sent += len(message.get("bytes") or message.get("text") or "")
        elif kind == "websocket.accept":
            self.began = True
            self.status = 101
            message["headers"] = self._headers(message.get("headers", ()))
        elif kind == "websocket.close":
            self.ended = True
            self.close_code = message.get("code", 1000)
            self.status = self.status or 403
        await self._send(message)

    def _headers(self, headers: Any) -> list[tuple[bytes, bytes]]:
        own = [pair for pair in headers if pair[0] != b"x-request-id"]
        own.append((b"x-request-id", self.request_id.encode()))
        return own

    # Last words

    async def answer(self, error: APIError) -> None:
        """Send `error` as the whole answer. Only before anything was sent."""
        body, headers = self._error_body(error)
        await self.send({"type": "http.response.start", "status": error.http_status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    def _error_body(self, error: APIError) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        body = to_json(self.render(error, self.request_id))
        return body, [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()),
        ]

    async def close(self, error: APIError) -> None:
        """End a WebSocket: refuse it with the error's status and body, or close it with the code that fits."""
        if not self.began:
            body, headers = self._error_body(error)
            await self.refuse(error.http_status, headers, body)
            return
        code = 1012 if error is self.verdict else 1011 if error.http_status >= 500 else 1008
        await self.send({"type": "websocket.close", "code": code, "reason": _reason(error)})

    async def refuse(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer a WebSocket's handshake with something else than a WebSocket, as well as the server can."""
        self.status = status
        if "websocket.http.response" not in (self.scope.get("extensions") or {}):
            await self.send({"type": "websocket.close", "code": 1008})
            return
        self.ended = True
        await self._send({"type": "websocket.http.response.start", "status": status, "headers": self._headers(headers)})
        await self._send({"type": "websocket.http.response.body", "body": body, "more_body": False})

    async def say_goodbye(self, error: APIError) -> None:
        """End an answer that is under way. An event stream gets a last event that says why; anything else is left incomplete, which the client sees."""
        if self.ended or not self.is_event_stream or not self._boundary:
            return
        body = self.farewell(error) if self.farewell else error_event(error, self.request_id)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def _reason(error: APIError) -> str:
    """A close frame holds 123 bytes."""
    return f"{error.error_code}: {error.text}".encode()[:123].decode(errors="ignore")


def error_event(error: APIError, request_id: str) -> bytes:
    """An SSE event named `error` with the error body of every service."""
    return b"event: error\ndata: " + to_json(standard_error(error, request_id)) + b"\n\n"
