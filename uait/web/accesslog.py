"""One line for every request."""

from __future__ import annotations

import logging
from typing import Any

from uait.calls.context import SCOPE_KEY
from uait.server.asgi import Scope
from uait.web.exchange import Exchange


def shown_path(scope: Scope) -> str:
    """The path as it came, percent-encoded where it was, so that nobody can write lines of a log. Without the query: keys, and what people ask, stand there."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.partition(b"?")[0].decode("latin-1") if raw else scope["path"]
    return path if path.isascii() and path.isprintable() else ascii(path)[1:-1]


def log_access(log: logging.Logger, exchange: Exchange, seconds: float) -> None:
    """Write the line. That one service asks the next how it is, and the answer is "well", is for who debugs: a look at the gateway's /health is eleven such questions."""
    scope = exchange.scope
    level = logging.INFO
    if scope["path"] == "/health" and exchange.status == 200 and SCOPE_KEY in scope:
        level = logging.DEBUG
    if not log.isEnabledFor(level):
        return
    method = scope.get("method") or "WEBSOCKET"
    path = shown_path(scope)
    milliseconds = round(seconds * 1000, 3)
    fields: dict[str, Any] = {
        "method": method,
        "path": path,
        "status": exchange.status,
        "duration_ms": milliseconds,
        "bytes": exchange.sent,
        "user_id": exchange.call.identity.user_id if exchange.call is not None else None,
        "request_id": exchange.request_id,
    }
    if exchange.close_code:
        fields["close_code"] = exchange.close_code
    log.log(level, "%s %s %s %.1f ms", method, path, exchange.status, milliseconds, extra=fields)
