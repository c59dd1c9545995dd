"""Who could be run: this host's services, and those that registered with discovery. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from uait.kernel.status import ServiceStatus
from uait.services.orchestrator.model import Candidate


def candidates_of(statuses: Iterable[ServiceStatus], registered: Any, own: str) -> list[Candidate]:
    """All services that can be run.

    Args:
        statuses: of this host's services. One that is down stays a candidate: to be told so is better than not to be told.
        registered: what discovery lists, by name; what it says is not trusted to be well formed.
        own: the name of the orchestrator, which does not run itself.

    A registered service is chosen by the `intents` in the `meta` of any of its instances.
    """
    found = {
        status.name: Candidate(name=status.name, title=status.title, intents=status.intents)
        for status in statuses
        if status.name != own
    }
    taken = {own} | {status.title for status in statuses} | set(found)
    if isinstance(registered, Mapping):
        for name, instances in registered.items():
            if name not in taken and isinstance(instances, list):
                found[name] = Candidate(name=name, title=name, intents=_intents(instances))
    return list(found.values())


def _intents(instances: list[Any]) -> tuple[str, ...]:
    phrases: dict[str, None] = {}
    for instance in instances:
        meta = instance.get("meta") if isinstance(instance, Mapping) else None
        intents = meta.get("intents") if isinstance(meta, Mapping) else None
        if isinstance(intents, list):
            phrases |= {phrase: None for phrase in intents if isinstance(phrase, str)}
    return tuple(phrases)
