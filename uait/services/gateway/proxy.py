"""Handing requests through to the service that answers them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import quote

from uait.calls import ServiceClient
from uait.errors import NotFound
from uait.kernel.status import ServiceStatus
from uait.server.asgi import ASGIApp, Receive, Scope, Send
from uait.services.gateway.routes import find_target
from uait.web.exchange import EXCHANGE, Farewell


class Proxy:
    """ASGI apps for the gateway's mounts.

    Args:
        services: gives the host's services as they are.
        client: gives the client for a service.
        own: the gateway's name, which it does not hand through to.
    """

    def __init__(
        self, services: Callable[[], Iterable[ServiceStatus]], client: Callable[[str], ServiceClient], *, own: str
    ) -> None:
        self._services = services
        self._client = client
        self._own = own

    async def api(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything below `/api`, by the map in `routes`."""
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
        target = find_target(raw_path, self._short_name)
        if target is None or target.service == self._own:
            raise NotFound
        try:
            inner = {**scope, "path": target.path, "raw_path": target.raw_path}
            await self._client(target.service).asgi(inner, receive, send)
        except NotFound as error:
            if error.error_code != "SERVICE_NOT_FOUND":
                raise
            text = f"{error.text.rstrip('.')}; GET /api/v1/services lists those that there are."
            raise NotFound(text, code=error.error_code) from None

    def to(self, service: str, farewell: Farewell | None = None, last_events: tuple[bytes, ...] = ()) -> ASGIApp:
        """Everything, to one service, the path unchanged. `farewell` ends an event stream that is cut off here, in the dialect spoken there, unless one of its `last_events` has come already."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = scope[EXCHANGE]
            exchange.farewell, exchange.last_events = farewell, last_events
            await self._client(service).asgi(scope, receive, send)

        return app

    def _short_name(self, name: str) -> str:
        for status in self._services():
            if name == status.title:
                return status.name
        return name
