"""Around an app's WebSockets: told when the service leaves, closed properly when the app crashes, never waiting without end to be accepted.

Close codes are those of RFC 6455 section 7.4.1 and of the IANA registry (1012, service restart).
"""

from __future__ import annotations

import enum
import logging
import math

import trio

from uait.errors import APIError, DeadlineExceeded, InternalError, Unavailable
from uait.server.asgi import ASGIApp, Message, Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY, Disconnect
from uait.server.drain import Drain, Phase
from uait.server.refusal import answer_to

NORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1011, 1012

CHANCE = 0.25
"""Seconds in which an app that watches the drain itself can say goodbye its own way."""

PAUSE = 0.01
"""Seconds that sending to nobody takes, so that an app that does so in a loop keeps nobody else from running."""


class _State(enum.Enum):
    CONNECTING = enum.auto()
    REFUSING = enum.auto()
    OPEN = enum.auto()
    OVER = enum.auto()


class GuardedWebSocket:
    """One WebSocket between a connection and an app.

    Args:
        accept_timeout: seconds until the app must have accepted or refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        drain: Drain,
        accept_timeout: float,
        log: logging.Logger,
    ) -> None:
        self._app = app
        self._scope = scope
        self._raw_receive = receive
        self._raw_send = send
        self._drain = drain
        self._log = log
        self._state = _State.CONNECTING
        self._leaving = False
        self._disconnected = False
        self._patience = trio.CancelScope(deadline=trio.current_time() + accept_timeout)

    async def run(self) -> None:
        """Call the app, and close what it leaves open.

        * The service drains: the app may say goodbye itself for a moment, then it is cancelled and the client closed with 1012 (503 where it was not accepted yet).
        * The app crashes: 1011, or 500. It returns without a close: 1000, or 500.
        * The app neither accepts nor refuses in time: 504.

        Only cancellation, and what must never be caught, comes out.
        """
        crash: BaseException | None = None
        self._drain.add(self._leave)
        try:
            with self._patience:
                await self._app(self._scope, self._receive, self._send)
        except* Exception as group:
            crash = group.exceptions[0] if len(group.exceptions) == 1 else group
        finally:
            self._drain.discard(self._leave)
        if crash is not None:
            self._tell(crash)
        if self._gone:
            return
        if self._state is _State.OPEN:
            code = SERVICE_RESTART if self._leaving else INTERNAL_ERROR if crash is not None else NORMAL
            reason = "service restart" if code == SERVICE_RESTART else ""
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        elif self._state is _State.CONNECTING:
            await self._refuse(crashed=crash is not None)

    @property
    def _gone(self) -> bool:
        """Whether the client has gone, as far as anybody was told."""
        disconnect: Disconnect | None = self._scope.get(SCOPE_KEY)
        return self._disconnected or (disconnect is not None and disconnect.gone)

    def _leave(self, phase: Phase) -> None:
        self._leaving = True
        now = trio.current_time()
        self._patience.deadline = now if phase is Phase.CUTTING else min(self._patience.deadline, now + CHANCE)

    async def _receive(self) -> Message:
        message = await self._raw_receive()
        if message["type"] == "websocket.disconnect":
            self._state = _State.OVER
            self._disconnected = True
        return message

    async def _send(self, message: Message) -> None:
        kind, before = message["type"], self._state
        if before is _State.OVER:
            await trio.sleep(PAUSE)
            return
        if kind == "websocket.accept":
            self._state = _State.OPEN
            if not self._leaving:
                self._patience.deadline = math.inf
        elif kind == "websocket.http.response.start":
            self._state = _State.REFUSING
        elif kind == "websocket.close" or (
            kind == "websocket.http.response.body" and not message.get("more_body", False)
        ):
            self._state = _State.OVER
        try:
            await self._raw_send(message)
        except Exception:
            self._state = before  # it was not sent: headers, a subprotocol or a code that cannot be
            raise

    def _tell(self, crash: BaseException) -> None:
        if self._gone:
            # Raising is some apps' way to say that they have noticed.
            name, path = type(crash).__name__, self._scope["path"]
            self._log.info("WebSocket %s: its client gone, the app raised %s: %s", path, name, crash)
        else:
            self._log.error("WebSocket %s: the app crashed", self._scope["path"], exc_info=crash)

    async def _refuse(self, *, crashed: bool) -> None:
        error: APIError
        if self._leaving:
            error = Unavailable("The service is restarting; try again.")
        elif self._patience.cancelled_caught:
            error = DeadlineExceeded("The service did not accept the WebSocket in time.")
        else:
            error = InternalError()
            if not crashed:
                self._log.error("WebSocket %s: the app returned and did not accept it", self._scope["path"])
        answer = answer_to(error)
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self._send({"type": "websocket.close"})
            return
        start = {"type": "websocket.http.response.start", "status": answer.status, "headers": answer.headers}
        await self._send(start)
        await self._send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
