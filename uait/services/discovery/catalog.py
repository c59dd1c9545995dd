"""The registry at work: it is stored, its checks and deadlines run, and its changes are told."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import trio

from uait.errors import APIError, Conflict, NotFound, Problem, Unavailable, ValidationFailed
from uait.feeds import Feed, FeedReader, SlowReader
from uait.services.discovery.checks import Checker, Probe, probe
from uait.services.discovery.model import (
    META_BYTES,
    Change,
    DiscoverySettings,
    Health,
    Heartbeat,
    Instance,
    Origin,
    Registration,
    instance_of,
)
from uait.services.discovery.registry import SHORT_NAME, Registry
from uait.services.discovery.store import Store
from uait.web import Event, to_json

LATE = 1.0
"""Seconds by which this process may be late with its own deadlines before that counts as its fault and not the instances'."""

_QUEUE = 256


class Catalog:
    """All instances, and everything that happens to them.

    Args:
        store: where registrations are kept.
        feed: the log of changes that watchers follow.
        probe: carries out one check; another one for tests.
    """

    def __init__(
        self, settings: DiscoverySettings, store: Store, feed: Feed, log: logging.Logger, *, probe: Probe = probe
    ) -> None:
        self.registry = Registry(settings)
        self.checker = Checker(self._checked, self.registry.get, settings.checks, probe=probe)
        self._settings = settings
        self._store = store
        self._feed = feed
        self._log = log
        self._writing = trio.Lock()
        """Held from a durable write to the change in memory that it stands for, so that both have the same order."""
        self._planned = math.inf
        self._sooner = trio.Event()

    async def restore(self) -> None:
        """Take over what was registered before the last stop."""
        instances = await self._store.load()
        self.registry.restore(instances, trio.current_time())
        for instance in instances:
            self.checker.watch(instance)

    # What clients do

    async def register(self, registration: Registration) -> Instance:
        """Register an instance, or replace the one with its id. It is stored durably before this returns.

        Raises:
            Conflict: the id is one of this host's own services.
            Unavailable: the registry is full.
            ValidationFailed: `meta` is too large.
        """
        if len(to_json(registration.meta)) > META_BYTES:
            raise ValidationFailed([Problem("$.meta", f"must be at most {META_BYTES} bytes long as JSON")])
        async with self._writing:
            known = self.registry.get(registration.id) if registration.id is not None else None
            if known is not None and known.origin is Origin.HOST:
                raise Conflict(f"{known.id!r} is a service of this host itself: choose another id.")
            if known is None and len(self.registry) >= self._settings.instances:
                raise Unavailable(
                    f"The registry holds {self._settings.instances} instances, which is its limit.",
                    code="REGISTRY_FULL",
                )
            instance = instance_of(registration, known)
            given = registration.health is not None
            try:
                await self._store.save([instance])
            except trio.Cancelled:
                # It may be stored all the same, and nobody could take out after a restart what nobody knew of before.
                self._put(instance, health_given=given)
                raise
            return self._put(instance, health_given=given)

    async def deregister(self, instance_id: str) -> None:
        """Take an instance out, durably. Raises NotFound, and Conflict for one of this host's own."""
        async with self._writing:
            self._registered(instance_id)
            await self._store.delete([instance_id])
            self._announce(self.registry.remove(instance_id))
        self.checker.forget(instance_id)

    async def heartbeat(self, instance_id: str, beat: Heartbeat) -> Instance:
        """An instance says how it is. Raises NotFound: it is to register again; and Conflict for one of this host's own."""
        self._registered(instance_id)
        changes = self.registry.heartbeat(instance_id, beat.health, beat.note, trio.current_time())
        await self._record(self._announce(changes))
        return self.registry.get(instance_id) or self._registered(instance_id)

    def lookup(self, name: str, *, passing: bool = False, tags: Sequence[str] = ()) -> list[Instance]:
        """The instances of a service that fit. Raises NotFound where the service has none at all."""
        found = self.registry.named(name)
        if not found:
            raise NotFound(f"No service is registered as {name!r}.", code="SERVICE_NOT_FOUND")
        return [
            instance
            for instance in found
            if set(tags) <= set(instance.tags) and (not passing or instance.health is Health.PASSING)
        ]

    def pick(self, name: str, *, tags: Sequence[str] = ()) -> Instance:
        """One instance of a service, taking turns. Raises NotFound, and Unavailable where none is to be used."""
        found = self.lookup(name, tags=tags)
        if not found:
            raise NotFound(f"No instance of {name!r} has all of these tags.", code="INSTANCE_NOT_FOUND")
        chosen = self.registry.pick(found)
        if chosen is None:
            raise Unavailable(
                f"No instance of {name!r} is well enough to be used.",
                code="NO_HEALTHY_INSTANCE",
                details={"instances": [{"id": one.id, "health": one.health, "note": one.note} for one in found]},
            )
        return chosen

    async def watch(self, name: str | None, position: str | None) -> AsyncIterator[Event]:
        """A snapshot and every change after it, for ever: of one service or of all.

        With the id of an earlier event as `position` it goes on from there, as long as that is still kept. A watcher that falls too far behind gets a
        new snapshot instead of what it missed.
        """
        reader, recovered = self._read(position)
        while True:
            with reader:
                if not recovered:
                    yield self._snapshot(name, reader.start)
                try:
                    async for entry in reader:
                        names, encoded = entry.data
                        if name is None or name in names:
                            yield Event(encoded, id=self._position(entry.offset), event="change")
                except SlowReader:
                    reader, recovered = self._read(None)
                else:
                    return

    # What happens by itself; tasks of the service's nursery

    async def expire(self) -> None:
        """Do for ever what the passing of time demands."""
        while True:
            due = self.registry.next_deadline()
            self._planned = math.inf if due is None else due
            with trio.CancelScope(deadline=self._planned):
                await self._sooner.wait()
            self._sooner = trio.Event()
            now = trio.current_time()
            if now - self._planned > LATE:
                # What was sent to this process while it was held up has still to be read.
                self.registry.put_off(now - self._planned + self._settings.start_grace)
            await self._record(self._announce(self.registry.expire(now)))

    async def mirror(self, own: Callable[[], list[Instance]], changed: Callable[[], Awaitable[object]]) -> None:
        """Hold this host's own services in the registry, for ever.

        Args:
            own: gives them as they are now.
            changed: waits until that is something else.
        """
        while True:
            # Nothing waits between these two, so no change can slip through.
            self._announce(self.registry.mirror(own(), trio.current_time()))
            await changed()

    async def _checked(self, instance_id: str, health: Health, note: str) -> None:
        await self._record(self._announce(self.registry.checked(instance_id, health, note, trio.current_time())))

    # Inside

    def _registered(self, instance_id: str) -> Instance:
        instance = self.registry.get(instance_id)
        if instance is None:
            raise NotFound(
                f"No instance is registered as {instance_id!r}; GET /services lists those that are, POST /register adds one.",
                code="INSTANCE_NOT_FOUND",
            )
        if instance.origin is Origin.HOST:
            raise Conflict(f"{instance_id!r} is a service of this host itself, which sees to it.")
        return instance

    def _put(self, instance: Instance, *, health_given: bool) -> Instance:
        [change] = self._announce(self.registry.put(instance, trio.current_time(), health_given=health_given))
        self.checker.watch(change.instance)
        return change.instance

    def _announce(self, changes: list[Change]) -> list[Change]:
        for change in changes:
            instance = change.instance
            names = (
                (instance.name, instance.meta.get(SHORT_NAME)) if instance.origin is Origin.HOST else (instance.name,)
            )
            self._feed.append((names, to_json(change)), key=instance.id)
        due = self.registry.next_deadline()
        if due is not None and due < self._planned:
            self._sooner.set()
        return changes

    async def _record(self, changes: list[Change]) -> None:
        """Store what became of instances by themselves. Their health is found out anew where this fails, so nothing else does."""
        if not changes:
            return
        ids = {change.instance.id for change in changes}
        try:
            async with self._writing:
                there = [instance for instance in map(self.registry.get, ids) if instance is not None]
                await self._store.save(there)
                await self._store.delete(ids - {instance.id for instance in there})
        except APIError:
            self._log.warning("the health of %d instances could not be stored", len(ids), exc_info=True)

    def _read(self, position: str | None) -> tuple[FeedReader, bool]:
        """A reader of the changes, and whether it goes on at `position`."""
        epoch, _, offset = (position or "").partition(":")
        if offset.isascii() and offset.isdigit() and len(offset) < 19:
            reader = self._feed.read(int(offset), epoch, queue=_QUEUE)
            return reader, reader.recovered
        return self._feed.read(queue=_QUEUE), False

    def _position(self, offset: int) -> str:
        return f"{self._feed.epoch}:{offset}"

    def _snapshot(self, name: str | None, offset: int) -> Event:
        services = self.registry.by_name()
        if name is not None:
            found = self.registry.named(name)
            services = {found[0].name: found} if found else {}
        return Event({"services": services}, id=self._position(offset), event="snapshot")
