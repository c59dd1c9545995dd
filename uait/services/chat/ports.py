"""The ports of this host's own services, on which no model server can be: llama.cpp's usual one is the orchestrator's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

from uait.kernel.status import ServiceStatus, State

Statuses: TypeAlias = tuple[ServiceStatus, ...]

SETTLE = 2.0
"""Seconds for which services that are still starting are waited for: until they are ready, nobody knows their ports."""

_COMING = frozenset({State.PENDING, State.STARTING})


class OwnPorts:
    """Knows the ports, and keeps them: a service that crashed comes back to its own.

    Args:
        services: gives the host's services as they are.
        changed: waits until they differ from those given to it.
    """

    def __init__(self, services: Callable[[], Statuses], changed: Callable[[Statuses], Awaitable[Statuses]]) -> None:
        self._services = services
        self._changed = changed
        self._seen: set[int] = set()

    async def has(self, port: int) -> bool:
        """Whether a service of this host listens there, or did. Waits for those that are starting, but not long."""
        services = self._look(self._services())
        with trio.move_on_after(SETTLE):
            while port not in self._seen and any(each.state in _COMING for each in services):
                services = self._look(await self._changed(services))
        return port in self._seen

    def _look(self, services: Statuses) -> Statuses:
        for service in services:
            self._seen.update(port for each in service.addresses if (port := urlsplit(each).port) is not None)
        return services
