"""Which models there are now, and whose: every provider's list, fetched in parallel under a deadline and remembered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
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

OURS = "uait"
"""Whose routes and aliases are, in the list of models."""

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


@attrs.frozen
class Place:
    """One of the places where a question may go.

    Attributes:
        keys: its provider under each of its keys.
        n: which member of the route or list it comes from.
        context_length: how many tokens the model reads, where its provider has said so.
    """

    target: Target
    keys: tuple[Provider, ...]
    n: int = 0
    context_length: int | None = None


@attrs.frozen
class Resolution:
    """What an address stands for: at least one place, the preferred first. `route` is the route's name, where it is one."""

    route: str | None
    places: tuple[Place, ...]


@attrs.define(eq=False)
class Entry:
    """A provider in the catalog.

    Attributes:
        others: the same provider under further API keys.
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
    _lengths: dict[str, int | None] = attrs.field(factory=dict, init=False)
    _lengths_of: tuple[Model, ...] | None = attrs.field(default=None, init=False)

    @property
    def listed(self) -> bool:
        return not self.optional or self.models is not None

    @property
    def keys(self) -> tuple[Provider, ...]:
        """The provider under each of its keys."""
        return (self.provider, *self.others)

    def place(self, model: str, n: int = 0) -> Place:
        """One of its models, listed or not."""
        if self._lengths_of is not self.models:
            self._lengths = {each.id: each.context_length for each in self.models or ()}
            self._lengths_of = self.models
        return Place(Target(self.provider, model), self.keys, n, self._lengths.get(model))


class Catalog:
    """Use `open_catalog`.

    Args:
        deadline: seconds that a list may be waited for; whoever is slower is shown as last known, marked stale.
        ttl: seconds that a list is good.
        retry: seconds after which a provider is asked again that failed.
        aliases: further names of models and routes.
        routes: names that stand for several models, the preferred first; one named `default` is what clients get that have no wish.
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
        aliases: Mapping[str, str] = {},
        routes: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self._entries = {entry.provider.name: entry for entry in entries}
        self._nursery = nursery
        self._default = default
        self._deadline = deadline
        self._ttl = ttl
        self._retry = retry
        self._aliases = aliases
        self._routes = routes

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
        return Listing((*models, *self._named(models)), statuses)

    def _named(self, models: list[ListedModel]) -> Iterator[ListedModel]:
        """Routes and aliases, for programs that let people choose from the list."""
        for name in (*self._routes, *self._aliases):
            members = {member for _, member in self._members(name)}
            found = [model for model in models if model.id in members or model.name in members]
            if found:
                status = "available" if any(model.status == "available" for model in found) else "unavailable"
                yield attrs.evolve(found[0], id=name, provider=OURS, name=name, status=status)

    async def resolve(self, address: str | None, capability: Capability = Capability.CHAT) -> Target:
        """The preferred one of the models that `address` means; see `resolve_all`."""
        return (await self.resolve_all(address, capability)).places[0].target

    async def resolve_all(self, address: str | None, capability: Capability = Capability.CHAT) -> Resolution:
        """Find the models that `address` means.

        Args:
            address: `provider/model` exactly as it stands, without looking at lists; or a route, an alias, or several of all these separated by commas, which no model has in its name; or a model's name, for every provider that lists
                it; or a provider's name, for its first model; or nothing, `auto` or `default` for the default model.

        Raises:
            NotFound: nobody has it.
        """
        if address is None or address in DEFAULT_NAMES:
            named = "default" in self._routes or "default" in self._aliases
            address = "default" if named else self._default
            if (address in DEFAULT_NAMES and not named) or capability is not Capability.CHAT:
                return Resolution(None, (await self._default_place(capability),))
        if (exact := self._exact(address)) is not None:
            return Resolution(None, (exact,))
        members = list(self._members(address))
        found = self._find_all(members, capability)
        if any(self._exact(member) is None and not any(self._find(member, n, capability)) for n, member in members):
            # Somebody whose list is not known yet, or not any more, may have the others.
            due = self._refresh_due()
            if not found or any(entry.models is None and entry.error is None for entry in self._entries.values()):
                await self._wait(due)
                found = self._find_all(members, capability)
        if not found:
            raise NotFound(
                f"There is no model {address[:200]!r}: name 'auto' for the default one, or one that the list of models has.",
                code="MODEL_NOT_FOUND",
            )
        return Resolution(self._route_of(address), found)

    def outdated(self, provider: str) -> None:
        """A provider does not know a model that it should have: ask it for its list again, unless that has only just been done."""
        entry = self._entries.get(provider)
        if entry is not None and trio.current_time() - entry.asked > self._retry:
            entry.asked = -float("inf")
            self._refresh_due()

    async def _default_place(self, capability: Capability) -> Place:
        due = self._refresh_due()
        if any(entry.models is None and entry.error is None for entry in self._entries.values()):
            await self._wait(due)
        for entry in self._entries.values():
            model = _first(entry, capability)
            if model is not None:
                return entry.place(model.id)
        raise NotFound(f"No provider has a model that can do {capability.value}.", code="MODEL_NOT_FOUND")

    def _exact(self, address: str, n: int = 0) -> Place | None:
        name, slash, model = address.partition("/")
        entry = self._entries.get(name)
        if entry is None or not slash or not model or "," in model:
            return None
        return entry.place(model, n)

    def _route_of(self, address: str) -> str | None:
        """The route that an address is, or that it is an alias of."""
        seen = set()
        while address in self._aliases and address not in seen and self._exact(address) is None:
            seen.add(address)
            address = self._aliases[address]
        return address if address in self._routes and self._exact(address) is None else None

    def _members(self, address: str) -> Iterator[tuple[int, str]]:
        """What a route, an alias or a list stands for, each with its number at the outermost level."""
        route = self._route_of(address)
        outer = self._routes[route] if route is not None else [part.strip() for part in address.split(",")]
        above = frozenset({route} if route is not None else ())
        for n, member in enumerate(outer):
            for each in self._flat(member, above):
                yield n, each

    def _flat(self, address: str, above: frozenset[str]) -> Iterator[str]:
        """An address with nothing in it that stands for others. What stands for itself in the end is left out."""
        if address in above and (address in self._aliases or address in self._routes):
            return
        if self._exact(address) is not None or not (address in self._aliases or address in self._routes):
            yield address
            return
        inner = [self._aliases[address]] if address in self._aliases else self._routes[address]
        for each in inner:
            yield from self._flat(each, above | {address})

    def _find_all(self, members: Sequence[tuple[int, str]], capability: Capability) -> tuple[Place, ...]:
        found: dict[str, Place] = {}
        for n, member in members:
            exact = self._exact(member, n)
            for place in (exact,) if exact is not None else self._find(member, n, capability):
                found.setdefault(place.target.address, place)
        return tuple(found.values())

    def _find(self, address: str, n: int, capability: Capability) -> Iterator[Place]:
        entry = self._entries.get(address)
        if entry is not None:
            model = _first(entry, capability)
            if model is not None:
                yield entry.place(model.id, n)
            return
        for entry in self._entries.values():
            if any(model.id == address for model in entry.models or ()):
                yield entry.place(address, n)

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
                entry.models, entry.error = _checked(await entry.provider.models()), None
        except _NoModels as error:
            if entry.error != error.args[0]:  # it is asked again and again, and mostly lists the same again
                _log.error("the provider %r failed to list its models: %s", entry.provider.name, error)
            entry.error = error.args[0]
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
                for provider in [key for entry in entries for key in entry.keys]:
                    try:
                        await provider.aclose()
                    except Exception:  # somebody else's code: it keeps no other from being closed
                        _log.exception("a provider could not be closed")


class _NoModels(Exception):
    """Somebody's list is none. Says what it is."""


def _checked(found: Any) -> tuple[Model, ...]:
    """A provider's list, which is somebody else's: whatever else stood in it would break the list of all."""
    if not isinstance(found, Iterable):
        raise _NoModels(f"Its list is a {type(found).__name__}, not a sequence of uait.llm.Model.")
    models = tuple(found)
    for model in models:
        if not isinstance(model, Model):
            raise _NoModels(f"Its list holds a {type(model).__name__}, not only uait.llm.Model.")
        if not isinstance(model.id, str) or not all(isinstance(each, Capability) for each in model.capabilities):
            raise _NoModels("Its list holds a model whose id is no text, or whose capabilities are no Capability.")
    return models


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
