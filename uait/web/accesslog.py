"""One line for every request."""

from __future__ import annotations

import logging

from uait.web.exchange import Exchange


def log_access(log: logging.Logger, exchange: Exchange, seconds: float) -> None:
    """Write the line. The query string is left out: keys and what people ask stand in it."""
    if not log.isEnabledFor(logging.INFO):
        return
    scope = exchange.scope
    method = scope.get("method") or "WEBSOCKET"
    milliseconds = round(seconds * 1000, 3)
    fields = {
        "method": method,
        "path": scope["path"],
        "status": exchange.status,
        "duration_ms": milliseconds,
        "bytes": exchange.sent,
        "user_id": exchange.call.identity.user_id if exchange.call is not None else None,
        "request_id": exchange.request_id,
    }
    if exchange.close_code:
        fields["close_code"] = exchange.close_code
    log.info("%s %s %s %.1f ms", method, scope["path"], exchange.status, milliseconds, extra=fields)
