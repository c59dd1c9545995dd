"""The health of every service, asked in parallel: one that does not answer costs nobody the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httpx
import orjson
import trio

from uait.calls import ServiceClient
from uait.errors import APIError
from uait.kernel.status import ServiceStatus, State
from uait.services.gateway.model import HEALTH_WORDS, Health, ServiceHealth

FRESH = 0.25
"""Seconds for which an answer counts as present: one `/health` asks twice, for the map and for the verdict."""

UP = frozenset({State.READY, State.DRAINING})
"""States in which a service answers."""


class HealthOfAll:
    """Asks every service but this one.

    Args:
        services: gives the host's services as they are.
        client: gives the client for a service.
        own: the gateway's name.
        timeout: seconds that each has; all are asked at once.
    """

    def __init__(
        self,
        services: Callable[[], Iterable[ServiceStatus]],
        client: Callable[[str], ServiceClient],
        *,
        own: str,
        timeout: float,
    ) -> None:
        self._services = services
        self._client = client
        self._own = own
        self._timeout = timeout
        self._lock = trio.Lock()
        self._asked = -FRESH
        self._found: dict[str, ServiceHealth] = {}

    async def services(self) -> dict[str, ServiceHealth]:
        """Each service's health, by its title."""
        async with self._lock:
            if trio.current_time() - self._asked >= FRESH:
                found: dict[str, ServiceHealth] = {}
                async with trio.open_nursery() as nursery:
                    for status in self._services():
                        if status.name != self._own:
                            nursery.start_soon(self._ask, status, found)
                self._found = dict(sorted(found.items()))
                self._asked = trio.current_time()
        return self._found

    async def verdict(self) -> bool | str:
        """True where all are healthy, else who is not. The gateway itself goes on, so that is no worse than degraded."""
        ill = [
            f"{title} is {health.status}"
            for title, health in (await self.services()).items()
            if health.status != "healthy"
        ]
        return f"degraded: {', '.join(ill)}" if ill else True

    async def _ask(self, status: ServiceStatus, found: dict[str, ServiceHealth]) -> None:
        def tell(health: Health, latency: float | None = None, error: str | None = None) -> None:
            found[status.title] = ServiceHealth(
                name=status.name, status=health, state=status.state, latency_ms=latency, error=error
            )

        if status.state not in UP:
            tell("unhealthy", error=f"It {status.state.said}.")
            return
        began = trio.current_time()
        try:
            response = await self._client(status.name).request("GET", "/health", timeout=self._timeout, check=False)
        except APIError as error:
            tell("unhealthy", error=error.text)
        else:
            tell(_status_of(response), round((trio.current_time() - began) * 1000, 3))


def _status_of(response: httpx.Response) -> Health:
    """What the answer says; a plugin that is no app of ours may have no `/health`, and is well as long as it answers."""
    try:
        told = orjson.loads(response.content)["status"]
    except (ValueError, KeyError, TypeError):
        told = None
    for word in HEALTH_WORDS:
        if told == word:
            return word
    return "unhealthy" if response.status_code >= 500 else "healthy"
