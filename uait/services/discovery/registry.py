"""The registry: which instances there are and how they are. Pure: the time is handed in, and what happened comes back as changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from uait.services.discovery.balance import RoundRobin, usable
from uait.services.discovery.model import Change, ChangeType, DiscoverySettings, Health, Instance, Origin
from uait.services.discovery.timers import Timers
from uait.storage.ids import utc_now

SHORT_NAME = "service"
"""Where a host's own instance keeps the short name of its service in `meta`; lookups take either name."""

_GRAVITY = {Health.PASSING: 0, Health.WARNING: 1, Health.CRITICAL: 2}


@attrs.define
class _Life:
    """An instance and what it was told to be: by itself, and by its check. The worse of the two counts."""

    instance: Instance
    reported: Health
    note: str = ""
    probed: Health | None = None
    probe_note: str = ""
    failures: int = 0

    @classmethod
    def of(cls, instance: Instance) -> _Life:
        if is_checked(instance):
            return cls(instance, Health.PASSING, probed=instance.health, probe_note=instance.note)
        return cls(instance, instance.health, note=instance.note)

    def keep_health_of(self, known: _Life) -> None:
        """This replaces `known`, and is as well or as ill as that was. To register is a sign of life where heartbeats are expected."""
        if self.instance.ttl is None:
            self.reported, self.note = known.reported, known.note
        else:
            self.reported, self.note = Health.PASSING, ""
        if is_checked(self.instance):
            health, note = known.judge()
            self.probed, self.probe_note = (health, note) if known.probed is None else (known.probed, known.probe_note)
            self.failures = known.failures

    def judge(self) -> tuple[Health, str]:
        if self.probed is not None and _GRAVITY[self.probed] >= _GRAVITY[self.reported]:
            return self.probed, self.probe_note
        return self.reported, self.note


def is_checked(instance: Instance) -> bool:
    """Whether the registry itself is to find out how it is."""
    return instance.check is not None and (instance.check.http is not None or instance.check.tcp is not None)


class Registry:
    """All instances. Every method that changes something returns the changes, in order; whoever calls stores and announces them."""

    def __init__(self, settings: DiscoverySettings) -> None:
        self._settings = settings
        self._lives: dict[str, _Life] = {}
        self._ids: dict[str, dict[str, None]] = {}
        self._overdue = Timers()
        """When an instance that sends heartbeats has missed one."""
        self._removal = Timers()
        """When an instance has been critical for too long."""
        self._turns = RoundRobin()

    # Asking

    def __len__(self) -> int:
        return len(self._lives)

    def get(self, instance_id: str) -> Instance | None:
        life = self._lives.get(instance_id)
        return None if life is None else life.instance

    def named(self, name: str) -> list[Instance]:
        """The instances of a service, by its name or, for this host's own, by its short name; in the order of registration."""
        ids = self._ids.get(name)
        if ids is None:
            return [life.instance for life in self._lives.values() if _short_name(life.instance) == name]
        return [self._lives[instance_id].instance for instance_id in ids]

    def by_name(self) -> dict[str, list[Instance]]:
        """All instances by the names of their services, both in alphabetical order of the names."""
        return {
            name: [self._lives[instance_id].instance for instance_id in self._ids[name]] for name in sorted(self._ids)
        }

    def pick(self, instances: Sequence[Instance]) -> Instance | None:
        """One of `instances`, which are of one service, taking turns by weight; None where none of them is to be used."""
        return self._turns.pick(usable(instances))

    def next_deadline(self) -> float | None:
        """When to call `expire` next."""
        times = [at for at in (self._overdue.next(), self._removal.next()) if at is not None]
        return min(times, default=None)

    # Telling

    def put(self, instance: Instance, now: float, *, health_given: bool = True) -> list[Change]:
        """Register `instance`, or replace what was registered under its id; its health is then that one's, unless it is given."""
        life = _Life.of(instance)
        known = self._lives.get(instance.id)
        if known is not None:
            if known.instance.name != instance.name:
                self._forget_name(known.instance)
            if not health_given:
                life.keep_health_of(known)
                health, note = life.judge()
                life.instance = attrs.evolve(instance, health=health, note=note)
        self._lives[instance.id] = life
        self._ids.setdefault(instance.name, {})[instance.id] = None
        self._watch_time(life, now)
        return [Change(ChangeType.REGISTERED if known is None else ChangeType.UPDATED, life.instance)]

    def restore(self, instances: Iterable[Instance], now: float) -> None:
        """Take over what was stored when the registry went down. Nobody could send it a heartbeat since, so the grace is added to every time."""
        for instance in instances:
            self.put(instance, now)
        self.put_off(self._settings.start_grace)

    def remove(self, instance_id: str) -> list[Change]:
        """Take an instance out; nothing happens where there is none."""
        life = self._lives.pop(instance_id, None)
        if life is None:
            return []
        self._forget_name(life.instance)
        self._overdue.discard(instance_id)
        self._removal.discard(instance_id)
        return [Change(ChangeType.DEREGISTERED, life.instance)]

    def heartbeat(self, instance_id: str, health: Health, note: str, now: float) -> list[Change]:
        """An instance, which must be registered, says how it is."""
        life = self._lives[instance_id]
        life.reported, life.note = health, note
        if life.instance.ttl is not None:
            self._overdue.set(instance_id, now + life.instance.ttl)
        return self._judge(life, now)

    def checked(self, instance_id: str, health: Health, note: str, now: float) -> list[Change]:
        """A check has come to an end. What it says about an instance that is gone, or no longer checked, is ignored.

        A failure is a warning at first, and critical once there were as many in a row as the check says.
        """
        life = self._lives.get(instance_id)
        if life is None or life.instance.check is None or not is_checked(life.instance):
            return []
        life.failures = life.failures + 1 if health is Health.CRITICAL else 0
        if health is Health.CRITICAL and life.failures < life.instance.check.failures_before_critical:
            # What was critical before stays so: a restart of the registry, or a registration, is no sign of health.
            health = Health.CRITICAL if life.probed is Health.CRITICAL else Health.WARNING
        life.probed, life.probe_note = health, note
        return self._judge(life, now)

    def expire(self, now: float) -> list[Change]:
        """Do what the passing of time demands: missed heartbeats make critical, and what was critical for too long goes."""
        changes: list[Change] = []
        for instance_id in self._overdue.due(now):
            life = self._lives[instance_id]
            life.reported, life.note = Health.CRITICAL, "no heartbeat within its time"
            changes += self._judge(life, now)
        for instance_id in self._removal.due(now):
            changes += self.remove(instance_id)
        return changes

    def put_off(self, seconds: float) -> None:
        """Nobody is late yet: the registry itself was."""
        self._overdue.put_off(seconds)
        self._removal.put_off(seconds)

    def mirror(self, own: Sequence[Instance], now: float) -> list[Change]:
        """Make the host's own instances be exactly `own`. They never expire."""
        changes: list[Change] = []
        present = {instance.id for instance in own}
        for known in [life.instance for life in self._lives.values() if life.instance.origin is Origin.HOST]:
            if known.id not in present:
                changes += self.remove(known.id)
        for instance in own:
            life = self._lives.get(instance.id)
            if life is None:
                changes += self.put(instance, now)
            elif not _same(life.instance, instance):
                only_health = _same(attrs.evolve(life.instance, health=instance.health, note=instance.note), instance)
                change = self.put(attrs.evolve(instance, registered_at=life.instance.registered_at), now)[0]
                changes.append(attrs.evolve(change, type=ChangeType.HEALTH) if only_health else change)
        return changes

    def _judge(self, life: _Life, now: float) -> list[Change]:
        health, note = life.judge()
        if health is life.instance.health:
            life.instance = attrs.evolve(life.instance, note=note)
            return []
        life.instance = attrs.evolve(life.instance, health=health, note=note, updated_at=utc_now())
        self._watch_critical(life, now)
        return [Change(ChangeType.HEALTH, life.instance)]

    def _watch_time(self, life: _Life, now: float) -> None:
        instance = life.instance
        self._overdue.discard(instance.id)
        if instance.ttl is not None and instance.origin is Origin.REGISTERED:
            self._overdue.set(instance.id, now + instance.ttl)
        self._watch_critical(life, now)

    def _watch_critical(self, life: _Life, now: float) -> None:
        instance = life.instance
        self._removal.discard(instance.id)
        if instance.health is not Health.CRITICAL or instance.origin is Origin.HOST:
            return
        after = instance.check.deregister_critical_after if instance.check is not None else None
        if after is None and instance.ttl is not None:
            after = self._settings.expire_after
        if after is not None:
            self._removal.set(instance.id, now + after)

    def _forget_name(self, instance: Instance) -> None:
        ids = self._ids[instance.name]
        del ids[instance.id]
        if not ids:
            del self._ids[instance.name]
        self._turns.forget(instance)


def _short_name(instance: Instance) -> str | None:
    meta: Mapping[str, object] = instance.meta
    name = meta.get(SHORT_NAME)
    return name if instance.origin is Origin.HOST and isinstance(name, str) else None


def _same(one: Instance, other: Instance) -> bool:
    return one == attrs.evolve(other, registered_at=one.registered_at, updated_at=one.updated_at)
