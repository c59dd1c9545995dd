"""The HTTP numbers of a service, in Prometheus' terms."""

from __future__ import annotations

from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from uait.server.asgi import Scope
from uait.web.exchange import Exchange

Metric = TypeVar("Metric")

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


def get_or_create(
    kind: type[Metric], registry: CollectorRegistry, name: str, help: str, *labels: str, **options: Any
) -> Metric:
    """The metric `name` of `registry`, made where there is none: a registry outlives the incarnations that count in it."""
    known = registry._names_to_collectors.get(name)
    if isinstance(known, kind):
        return known
    return kind(name, help, labels, registry=registry, **options)  # type: ignore[call-arg]


class HTTPMetrics:
    """Counts requests by method, route template and status: labels whose number is bounded whatever clients send."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = get_or_create(
            Counter, registry, "uait_http_requests", "Requests answered.", "method", "route", "status"
        )
        self._seconds = get_or_create(
            Histogram,
            registry,
            "uait_http_request_duration_seconds",
            "From the request's head to the end of the answer.",
            "method",
            "route",
            buckets=_BUCKETS,
        )
        self._in_flight = get_or_create(Gauge, registry, "uait_http_requests_in_flight", "Requests being worked on.")
        self._websockets = get_or_create(Gauge, registry, "uait_websockets_open", "WebSockets now open.")
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def begin(self, scope: Scope) -> None:
        """A request or WebSocket has come."""
        (self._websockets if scope["type"] == "websocket" else self._in_flight).inc()

    def end(self, exchange: Exchange, seconds: float) -> None:
        """It is over, after `seconds`."""
        scope = exchange.scope
        if scope["type"] == "websocket":
            self._websockets.dec()
            method = "WEBSOCKET"
        else:
            self._in_flight.dec()
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        key = (method, exchange.route, exchange.status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                self._requests.labels(method, exchange.route, str(exchange.status)),
                self._seconds.labels(method, exchange.route),
            )
        children[0].inc()
        if method != "WEBSOCKET":
            children[1].observe(seconds)
