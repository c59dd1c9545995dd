"""The HTTP numbers of a service, in Prometheus' terms."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, TypeVar

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from uait.server.asgi import Scope
from uait.web.exchange import Exchange

M = TypeVar("M")

_REQUESTS = "uait_http_requests"

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


def get_or_create(kind: type[M], registry: CollectorRegistry, name: str, help: str, *labels: str, **options: Any) -> M:
    """The metric `name` of `registry`, made where there is none: a registry outlives the incarnations that count in it."""
    known = registry._names_to_collectors.get(name)
    if isinstance(known, kind):
        return known
    return kind(name, help, labels, registry=registry, **options)  # type: ignore[call-arg]


class HTTPMetrics:
    """Counts requests by method, route template and status: labels whose number is bounded whatever clients send.

    The counts are plain numbers, of the one thread that counts; Prometheus' objects are only made when somebody asks. Theirs take a lock for each number, half a dozen for every request.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        known = registry._names_to_collectors.get(_REQUESTS)
        if not isinstance(known, _Counts):
            known = _Counts()
            registry.register(known)
        self._counts = known

    def begin(self, scope: Scope) -> None:
        """A request or WebSocket has come."""
        if scope["type"] == "websocket":
            self._counts.websockets += 1
        else:
            self._counts.in_flight += 1

    def end(self, exchange: Exchange, seconds: float) -> None:
        """It is over, after `seconds`."""
        scope, counts = exchange.scope, self._counts
        if scope["type"] == "websocket":
            counts.websockets -= 1
            method = "WEBSOCKET"
        else:
            counts.in_flight -= 1
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            times = counts.times.get((method, exchange.route))
            if times is None:
                times = counts.times[method, exchange.route] = _Times()
            times.sum += seconds
            times.buckets[bisect_left(_BUCKETS, seconds)] += 1
        key = (method, exchange.route, exchange.status)
        counts.requests[key] = counts.requests.get(key, 0) + 1


class _Times:
    """How long the requests of one route took."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.sum = 0.0
        self.buckets = [0] * (len(_BUCKETS) + 1)


class _Counts(Collector):
    """The numbers of one registry, which outlive the incarnations that count in them."""

    def __init__(self) -> None:
        self.created = time.time()
        self.requests: dict[tuple[str, str, int], int] = {}
        self.times: dict[tuple[str, str], _Times] = {}
        self.in_flight = 0
        self.websockets = 0

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(_REQUESTS, "Requests answered.", labels=("method", "route", "status"))
        for (method, route, status), count in self.requests.items():
            requests.add_metric((method, route, str(status)), count, created=self.created)
        yield requests
        seconds = HistogramMetricFamily(
            "uait_http_request_duration_seconds",
            "From the request's head to the end of the answer.",
            labels=("method", "route"),
        )
        bounds = [*(str(float(bound)) for bound in _BUCKETS), "+Inf"]
        for labels, times in self.times.items():
            seconds.add_metric(labels, list(zip(bounds, accumulate(times.buckets), strict=True)), times.sum)
        yield seconds
        yield GaugeMetricFamily("uait_http_requests_in_flight", "Requests being worked on.", self.in_flight)
        yield GaugeMetricFamily("uait_websockets_open", "WebSockets now open.", self.websockets)

    def describe(self) -> Iterator[Metric]:
        """The registry's: the names, so that nobody else takes them."""
        return self.collect()
