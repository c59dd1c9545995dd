"""Around an app's HTTP requests: an app that crashes, or leaves without an answer, costs one request and says so once."""

from __future__ import annotations

import logging
from typing import Protocol

from uait.errors import InternalError
from uait.server.asgi import ASGIApp, Message, Receive, Scope, Send
from uait.server.disconnect import SCOPE_KEY, Disconnect
from uait.server.refusal import answer_to


class Progress(Protocol):
    """How far an answer is, as the connection class knows it.

    Attributes:
        began: its head has been taken.
        answered: all of it has.
    """

    @property
    def began(self) -> bool: ...

    @property
    def answered(self) -> bool: ...


async def call_http(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, log: logging.Logger, progress: Progress | None = None
) -> None:
    """Call `app` for one HTTP request.

    Where it raises, or returns, before its answer has begun, the client gets a 500 with an error body, whose request id is in the log. Where the answer had begun it stays incomplete, and the
    connection class, which sees that, ends the connection so that the client sees it, too. Only cancellation, and what must never be caught, comes out.

    Args:
        progress: without it, what goes through `send` tells.
    """
    if progress is None:
        progress = _Watched(send)
        send = progress.send
    error: BaseException | None = None
    try:
        await app(scope, receive, send)
    except* Exception as group:
        error = group.exceptions[0] if len(group.exceptions) == 1 else group
    if progress.answered and error is None:
        return
    disconnect: Disconnect | None = scope.get(SCOPE_KEY)
    where = scope["method"], scope["path"]
    if disconnect is not None and disconnect.gone:
        # An app that stops because nobody waits any more is a good one, and raising is some apps' way to do it.
        if error is not None:
            log.info("%s %s: its client gone, the app raised %s: %s", *where, type(error).__name__, error)
        return
    answer = answer_to(InternalError(), close=False)
    if error is not None:
        log.error("%s %s: the app crashed (request %s)", *where, answer.request_id, exc_info=error)
    elif progress.began:
        log.info("%s %s: the app left its answer incomplete", *where)  # at a deadline there may be no better way
    else:
        log.error("%s %s: the app returned without an answer (request %s)", *where, answer.request_id)
    if not progress.began:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


class _Watched:
    began = answered = False

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, message: Message) -> None:
        await self._send(message)
        self.began = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.answered = True
