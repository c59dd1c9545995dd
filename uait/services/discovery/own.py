"""This host's own services, as instances. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from uait.kernel.status import ServiceStatus, State
from uait.services.discovery.model import Health, Instance, Origin
from uait.services.discovery.registry import SHORT_NAME

_HEALTH = {
    State.PENDING: Health.WARNING,
    State.STARTING: Health.WARNING,
    State.READY: Health.PASSING,
    State.DRAINING: Health.WARNING,
    State.BACKOFF: Health.WARNING,
    State.STOPPED: Health.CRITICAL,
    State.FAILED: Health.CRITICAL,
}


def own_instances(
    statuses: Iterable[ServiceStatus], known: Callable[[str], Instance | None], host: str
) -> list[Instance]:
    """One instance a service, with the service's title as its name and id.

    Args:
        statuses: of all services of this host.
        known: what is registered under an id so far: a service that is down keeps the address it had.
        host: the address of a service that was never up.
    """
    return [_instance(status, known(status.title), host) for status in statuses]


def _instance(status: ServiceStatus, before: Instance | None, host: str) -> Instance:
    if status.addresses:
        url = urlsplit(status.addresses[0])
        address, port, addresses = url.hostname or host, url.port or status.port, list(status.addresses)
    elif before is not None:
        address, port, addresses = before.address, before.port, before.meta.get("addresses", [])
    else:
        address, port, addresses = host, status.port, []
    return Instance(
        id=status.title,
        name=status.title,
        address=address,
        port=port,
        meta={
            SHORT_NAME: status.name,
            "summary": status.summary,
            "version": status.version,
            "addresses": addresses,
            "intents": list(status.intents),
        },
        health=_HEALTH[status.state],
        language="python",
        type="service",
        origin=Origin.HOST,
        note=str(status.state),
    )
