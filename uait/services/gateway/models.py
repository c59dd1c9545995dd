"""The models of every service that has some, under one deadline; who does not answer keeps what it had last, marked stale."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import attrs
import orjson
import trio

from uait.calls import ServiceClient
from uait.errors import APIError, MethodNotAllowed, NotFound, UpstreamError
from uait.services.gateway.model import Models, Offer, ProviderModels, read_offer

NO_MODELS_FOR = 60.0
"""Seconds for which a service that has no models is not asked again."""


@attrs.define
class _Known:
    """What is known of one service: its last offer (None: it has no models), when it was asked, and what went wrong then."""

    asked: float
    offer: Offer | None
    error: str | None = None


class Catalog:
    """Gathers models.

    Args:
        client: gives the client for a service.
        timeout: seconds that each service has; all are asked at once.
        ttl: seconds for which an answer is used again.
    """

    def __init__(
        self, client: Callable[[str], ServiceClient], log: logging.Logger, *, timeout: float, ttl: float
    ) -> None:
        self._client = client
        self._log = log
        self._timeout = timeout
        self._ttl = ttl
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, trio.Lock] = {}

    async def models(self, services: Iterable[str], down: Iterable[str] = ()) -> Models:
        """The union of what `services` offer, and of what those that are `down` offered last. Never waits longer than the timeout."""
        services = list(services)
        async with trio.open_nursery() as nursery:
            for service in services:
                nursery.start_soon(self._refresh, service)
        offers = [(service, self._known[service]) for service in services if service in self._known]
        offers += [
            (service, attrs.evolve(known, error=f"{service} is down."))
            for service in down
            if (known := self._known.get(service)) is not None and known.offer is not None
        ]
        models = []
        providers: dict[str, ProviderModels] = {}
        for service, known in offers:
            if known.offer is None:
                if known.error is not None:
                    providers[service] = ProviderModels(status="unavailable", models=0, error=known.error)
                continue
            for name, state in known.offer.providers.items():
                if known.error is not None:
                    state = attrs.evolve(state, status="stale", error=known.error)
                also = providers.get(name)
                providers[name] = state if also is None else attrs.evolve(also, models=also.models + state.models)
            models += [
                attrs.evolve(model, stale=model.stale or known.error is not None) for model in known.offer.models
            ]
        return Models(models=models, total=len(models), providers=providers)

    async def _refresh(self, service: str) -> None:
        with trio.move_on_after(self._timeout) as scope:
            # Whoever comes while the service is being asked waits for that answer instead of asking again.
            async with self._asking.setdefault(service, trio.Lock()):
                known = self._known.get(service)
                if known is None or trio.current_time() - known.asked >= self._good_for(known):
                    await self._ask(service, known)
        if scope.cancelled_caught:
            # The one who asked has left, and what was left of this one's time was too short to ask again.
            known = self._known.get(service)
            self._known[service] = _Known(
                trio.current_time(), known.offer if known is not None else None, "It did not answer in time."
            )

    def _good_for(self, known: _Known) -> float:
        has_none = known.offer is None and known.error is None
        return max(self._ttl, NO_MODELS_FOR) if has_none else self._ttl

    async def _ask(self, service: str, known: _Known | None) -> None:
        now = trio.current_time()
        try:
            # A little less than everybody's deadline, so that the failure is noted here.
            response = await self._client(service).request("GET", "/models", timeout=self._timeout * 0.95)
            offer, error = read_offer(service, orjson.loads(response.content)), None
            if offer is None and known is not None and known.offer is not None:
                raise UpstreamError("It did not answer with a list of models.")
        except (NotFound, MethodNotAllowed):
            offer, error = None, None
        except (APIError, ValueError) as failure:
            offer = known.offer if known is not None else None
            error = failure.text if isinstance(failure, APIError) else "It did not answer with JSON."
            self._log.warning("no models from %s: %s", service, failure)
        self._known[service] = _Known(now, offer, error)
