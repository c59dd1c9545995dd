"""Which models there are now, and whose: every provider's list, fetched in parallel under a deadline and remembered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from uait.errors import APIError, NotFound, Unavailable
from uait.llm.provider import Capability, Model, Provider

LIST_TIMEOUT = 15.0
"""Seconds until a request for a list is given up. Nobody waits that long for it."""

LOOK_AGAIN = 10.0
"""Seconds after which a provider that is only looked for is looked for again."""

CLOSE_TIMEOUT = 2.0

DEFAULT_NAMES = frozenset({"", "auto", "default"})
"""What a client says that must name a model and has no wish."""

_log = logging.getLogger("uait.llm")


@attrs.frozen(kw_only=True)
class ListedModel:
    """A model as `/models` shows it.

    Attributes:
        id: `provider/name`, which addresses it exactly.
        status: `available`, or `unavailable` where its provider did not answer when last asked.
        stale: the list it stands in is older than it should be.
    """

    id: str
    provider: str
    name: str
    capabilities: tuple[str, ...]
    context_length: int | None
    status: str
    stale: bool
    created: int


@attrs.frozen
class ProviderStatus:
    """One provider as it is: `available`, `unavailable`, or `unknown` before it has answered at all."""

    status: str
    models: int
    error: str | None = None


@attrs.frozen
class Listing:
    """All models there are, those of the preferred providers first."""

    models: tuple[ListedModel, ...]
    providers: Mapping[str, ProviderStatus]


@attrs.frozen
class Target:
    """A model of a provider, ready to be asked. `model` is the provider's own name of it."""

    provider: Provider
    model: str

    @property
    def address(self) -> str:
        """`provider/name`."""
        return f"{self.provider.name}/{self.model}"


@attrs.define(eq=False)
class Entry:
    """A provider in the catalog.

    Attributes:
        others: the same provider under its further keys.
        optional: it is only looked for; while it does not answer it does not exist (a model server on its usual local port).
        absent: tells, before each question, that it cannot be there, so that nobody else is asked in its place.
    """

    provider: Provider
    others: tuple[Provider, ...] = attrs.field(default=(), kw_only=True)
    optional: bool = False
    absent: Callable[[], Awaitable[bool]] | None = None
    models: tuple[Model, ...] | None = None
    asked: float = -float("inf")
    error: str | None = None
    refreshing: trio.Event | None = None

    @property
    def listed(self) -> bool:
        return not self.optional or self.models is not None


class Catalog:
    """Use `open_catalog`.

    Args:
        deadline: seconds that a list may be waited for; whoever is slower is shown as last known, marked stale.
        ttl: seconds that a list is good.
        retry: seconds after which a provider is asked again that failed.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        nursery: trio.Nursery,
        *,
        default: str = "",
        deadline: float = 2.0,
        ttl: float = 60.0,
        retry: float = 5.0,
    ) -> None:
        self._entries = {entry.provider.name: entry for entry in entries}
        self._nursery = nursery
        self._default = default
        self._deadline = deadline
        self._ttl = ttl
        self._retry = retry

    async def listing(self) -> Listing:
        """Every model, asking for the lists that are due. Takes at most the deadline, and nothing where all are fresh or hang."""
        await self._wait(self._refresh_due())
        return self.known()

    def known(self) -> Listing:
        """Every model as last known, without asking anybody."""
        models = []
        statuses = {}
        for name, entry in self._entries.items():
            if not entry.listed:
                continue
            found = entry.models or ()
            fresh = entry.models is not None and entry.error is None
            statuses[name] = ProviderStatus(
                "available" if fresh else "unavailable" if entry.error else "unknown", len(found), entry.error
            )
            stale = not fresh or trio.current_time() - entry.asked > self._ttl
            models += [_listed(name, model, available=fresh, stale=stale) for model in found]
        return Listing(tuple(models), statuses)

    async def resolve(self, address: str | None, capability: Capability = Capability.CHAT) -> Target:
        """Find the model that `address` means.

        Args:
            address: `provider/model` exactly as it stands, without looking at lists; or a model's name, which the first provider that lists it gets; or a provider's name, for its first model; or nothing,
                `auto` or `default` for the default model.

        Raises:
            NotFound: nobody has it.
        """
        if address is None or address in DEFAULT_NAMES:
            return await self._resolve_default(capability)
        name, slash, model = address.partition("/")
        entry = self._entries.get(name)
        if entry is not None and slash and model:
            return Target(entry.provider, model)
        due = self._refresh_due()
        target = self._find(address, capability)
        if target is None:
            await self._wait(due)
            target = self._find(address, capability)
        if target is None:
            raise NotFound(
                f"There is no model {address[:200]!r}: name 'auto' for the default one, or one that the list of models has.",
                code="MODEL_NOT_FOUND",
            )
        return target

    async def _resolve_default(self, capability: Capability) -> Target:
        if self._default and self._default not in DEFAULT_NAMES and capability is Capability.CHAT:
            return await self.resolve(self._default)
        due = self._refresh_due()
        if any(entry.models is None and entry.error is None for entry in self._entries.values()):
            await self._wait(due)
        for entry in self._entries.values():
            model = _first(entry, capability)
            if model is not None:
                return Target(entry.provider, model.id)
        raise NotFound(f"No provider has a model that can do {capability.value}.", code="MODEL_NOT_FOUND")

    def _find(self, address: str, capability: Capability) -> Target | None:
        entry = self._entries.get(address)
        if entry is not None:
            model = _first(entry, capability)
            return Target(entry.provider, model.id) if model is not None else None
        for entry in self._entries.values():
            if any(model.id == address for model in entry.models or ()):
                return Target(entry.provider, address)
        return None

    def _refresh_due(self) -> list[trio.Event]:
        """Ask everybody whose list is due, each at most once at a time; what to wait for. Who hangs already is not waited for again."""
        now = trio.current_time()
        waiting = []
        for entry in self._entries.values():
            if entry.refreshing is not None:
                if now - entry.asked < self._deadline:
                    waiting.append(entry.refreshing)
            elif now - entry.asked > self._good_for(entry):
                entry.refreshing, entry.asked = trio.Event(), now
                self._nursery.start_soon(self._refresh, entry, name=f"list models of {entry.provider.name}")
                waiting.append(entry.refreshing)
        return waiting

    def _good_for(self, entry: Entry) -> float:
        if entry.error is None:
            return self._ttl
        return LOOK_AGAIN if entry.optional else self._retry

    async def _wait(self, events: list[trio.Event]) -> None:
        with trio.move_on_after(self._deadline):
            for event in events:
                await event.wait()

    async def _refresh(self, entry: Entry) -> None:
        done = entry.refreshing
        assert done is not None
        try:
            with trio.fail_after(LIST_TIMEOUT):
                if entry.absent is not None and await entry.absent():
                    raise Unavailable("It is not there.")
                entry.models, entry.error = tuple(await entry.provider.models()), None
        except (APIError, trio.TooSlowError) as error:
            entry.error = error.text if isinstance(error, APIError) else "It did not answer in time."
            if entry.optional:
                entry.models = None
        except Exception:
            # One provider's bug must not take the others' models away, nor the service.
            _log.exception("the provider %r failed to list its models", entry.provider.name)
            entry.error = "It failed to list its models."
        finally:
            entry.refreshing = None
            done.set()


@asynccontextmanager
async def open_catalog(entries: Sequence[Entry], **options: Any) -> AsyncIterator[Catalog]:
    """Open a catalog of `entries`, the preferred first, and ask for all lists in the background. Leaving the block closes the providers.

    For the options see `Catalog`.
    """
    async with trio.open_nursery() as nursery:
        catalog = Catalog(entries, nursery, **options)
        catalog._refresh_due()
        try:
            yield catalog
        finally:
            nursery.cancel_scope.cancel(reason="the catalog is closed")
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_TIMEOUT, shield=True):
                for entry in entries:
                    for provider in (entry.provider, *entry.others):
                        await provider.aclose()


def _first(entry: Entry, capability: Capability) -> Model | None:
    return next((model for model in entry.models or () if capability in model.capabilities), None)


def _listed(provider: str, model: Model, *, available: bool, stale: bool) -> ListedModel:
    return ListedModel(
        id=f"{provider}/{model.id}",
        provider=provider,
        name=model.id,
        capabilities=tuple(capability.value for capability in model.capabilities),
        context_length=model.context_length,
        status="available" if available else "unavailable",
        stale=stale,
        created=model.created,
    )
