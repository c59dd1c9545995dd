"""Which web pages may call: CORS (https://fetch.spec.whatwg.org/#http-cors-protocol) for HTTP, the same rule for WebSockets, which browsers do not guard.

Stands around the whole app, so that a page can read error answers, too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

from uait.errors import Forbidden
from uait.server.asgi import ASGIApp, Message, Receive, Scope, Send
from uait.web.exchange import Exchange, standard_error
from uait.web.local import from_this_machine
from uait.web.trace import request_id

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
EXPOSED = (
    b"X-Request-ID, Retry-After, WWW-Authenticate, X-Conversation-ID, X-Message-ID, X-Route-Provider, X-Route-Model, "
    b"X-Route-Attempts, X-Route-Upstream-Ms, X-Route-Added-Ms, X-Route-Trace, X-Route-Left-Out"
)
MAX_AGE = b"600"

_FOREIGN = "Pages from other sites may not ask here: allow their origin in cors_origins of [gateway]."
_LOG = logging.getLogger("uait.gateway")
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")


class CORS:
    """Answers preflights, marks answers for pages that may read them, and refuses WebSockets of pages that may not.

    Args:
        app: what stands behind.
        origins: that are let in; `*` is every one. None: those of this machine.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").lower().encode() for origin in origins)

    def allows(self, origin: bytes) -> bool:
        """Whether pages of `origin` may call."""
        if self._any:
            return True
        return origin.lower() in self._origins if self._origins else from_this_machine(origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if not any(name == b"origin" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name in _WANTED}
        origin = headers[b"origin"]
        if scope["type"] == "websocket":
            await self._websocket(origin, headers, scope, receive, send)
        elif scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await self._preflight(origin, headers, send)
        else:
            await self._app(scope, receive, self._marking(origin, send))

    async def _websocket(
        self, origin: bytes, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send
    ) -> None:
        same = origin.partition(b"://")[2] == headers.get(b"host")
        if same or self.allows(origin):
            await self._app(scope, receive, send)
        else:
            await receive()  # websocket.connect
            exchange = Exchange(scope, receive, send, standard_error)
            exchange.request_id = request_id(headers.get(b"x-request-id"))
            await exchange.tell(Forbidden(_FOREIGN, code="FOREIGN_ORIGIN"), _LOG)

    async def _preflight(self, origin: bytes, headers: dict[bytes, bytes], send: Send) -> None:
        answer = [(b"vary", b"Origin, Access-Control-Request-Headers")]
        if self.allows(origin):
            answer += [
                (b"access-control-allow-origin", b"*" if self._any else origin),
                (b"access-control-allow-methods", METHODS),
                (b"access-control-max-age", MAX_AGE),
            ]
            wanted = headers.get(b"access-control-request-headers", b"")
            if _NAMES.fullmatch(wanted):
                answer.append((b"access-control-allow-headers", wanted))
            if headers.get(b"access-control-request-private-network") == b"true":
                answer.append((b"access-control-allow-private-network", b"true"))
        await send({"type": "http.response.start", "status": 204, "headers": answer})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _marking(self, origin: bytes, send: Send) -> Send:
        marks = [(b"vary", b"Origin")]
        if self.allows(origin):
            marks += [
                (b"access-control-allow-origin", b"*" if self._any else origin),
                (b"access-control-expose-headers", EXPOSED),
            ]

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if not pair[0].startswith(b"access-control-")]
                message = {**message, "headers": [*kept, *marks]}
            await send(message)

        return marked


_WANTED = frozenset(
    {
        b"origin",
        b"host",
        b"x-request-id",
        b"access-control-request-method",
        b"access-control-request-headers",
        b"access-control-request-private-network",
    }
)
