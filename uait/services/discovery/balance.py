"""Which instance a lookup gets: smooth weighted round robin (as nginx does it) over those that are well. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from uait.services.discovery.model import Health, Instance


def usable(instances: Iterable[Instance]) -> list[Instance]:
    """Those that pass; where nobody does, those with a warning; where nobody has even that, none.

    An instance of weight 0 is out of rotation as long as there is any other of the same health.
    """
    instances = list(instances)
    for health in (Health.PASSING, Health.WARNING):
        well = [instance for instance in instances if instance.health is health]
        if well:
            return [instance for instance in well if instance.weight > 0] or well
    return []


class RoundRobin:
    """Takes turns between the instances of each service in proportion to their weights, with the heavy ones spread evenly.

    Not all of a service's instances are offered each time: a lookup may be for some tags only, and some may be ill. What is remembered of the others stays
    as it is until `forget`, or else two who ask for different tags in turns would each get the first of theirs for ever.
    """

    def __init__(self) -> None:
        self._credit: dict[str, dict[str, int]] = {}

    def pick(self, instances: Sequence[Instance]) -> Instance | None:
        """The next of `instances`, which are all of one service. None where there are none."""
        if not instances:
            return None
        credit = self._credit.setdefault(instances[0].name, {})
        for instance in instances:
            credit[instance.id] = credit.get(instance.id, 0) + max(1, instance.weight)
        chosen = max(instances, key=lambda instance: credit[instance.id])
        credit[chosen.id] -= sum(max(1, instance.weight) for instance in instances)
        return chosen

    def forget(self, instance: Instance) -> None:
        """`instance` is no longer one of its service."""
        credit = self._credit.get(instance.name, {})
        credit.pop(instance.id, None)
        if not credit:
            self._credit.pop(instance.name, None)
