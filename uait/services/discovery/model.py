"""What the registry holds, what it is told, and what it tells. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import validators

from uait.storage.ids import new_id, utc_now

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""Names of services and ids of instances: they stand in paths."""

ADDRESS = r"[A-Za-z0-9._:%-]{1,255}"
"""A host name or an IP address, without port or scheme."""

META_BYTES = 65536
"""How much `meta` an instance may have, as JSON."""


class Health(enum.StrEnum):
    PASSING = "passing"
    WARNING = "warning"
    """Used where nobody passes."""
    CRITICAL = "critical"
    """Never handed out by the balancer."""


class Origin(enum.StrEnum):
    """Who says that an instance exists."""

    HOST = "host"
    """This host itself: one of its own services or plugins."""
    REGISTERED = "registered"


@attrs.frozen(kw_only=True)
class Check:
    """How the registry itself finds out whether an instance is well. Give `http` or `tcp`.

    The addresses are the caller's to choose, and it is this host that connects to them: whoever may register may make it open a TCP connection or send a GET to
    anything it can reach. What is found there is reduced to a health word and a status number; redirects are not followed, bodies are not read, proxies and
    credentials of the environment are not used. On a network where even that is too much, configure keys.

    Attributes:
        http: URL for a GET: 2xx is passing, 429 is a warning, anything else a failure.
        tcp: `host:port` to connect to; not looked at where there is `http`.
        interval: seconds between two checks.
        timeout: seconds for one check.
        failures_before_critical: failures in a row until the instance is critical; until then it is a warning.
        deregister_critical_after: seconds that it may stay critical before it is removed; never where this is left out.
    """

    http: str | None = attrs.field(
        default=None,
        validator=validators.optional(
            validators.and_(validators.max_len(2048), validators.matches_re(r"https?://[!-.0-~][!-~]*"))
        ),
    )
    tcp: str | None = attrs.field(
        default=None,
        validator=validators.optional(
            validators.and_(validators.max_len(300), validators.matches_re(r"[!-~]+:[0-9]{1,5}"))
        ),
    )
    interval: float = attrs.field(default=10.0, validator=[validators.ge(1), validators.le(86400)])
    timeout: float = attrs.field(default=5.0, validator=[validators.gt(0), validators.le(60)])
    failures_before_critical: int = attrs.field(default=3, validator=[validators.ge(1), validators.le(100)])
    deregister_critical_after: float | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.ge(1), validators.le(30 * 86400)))
    )


@attrs.frozen(kw_only=True)
class Registration:
    """The body of `POST /register`.

    Attributes:
        id: of the instance; given again, the instance is replaced and keeps its health. Made from nothing where it is left out.
        name: of the service it is an instance of.
        address: host name or IP address.
        port: where it listens.
        tags: for filters.
        meta: anything else, as an object. `intents`, a list of phrases, tells the orchestrator when to choose it.
        health: left out, an instance without a check starts as passing and one with a check as warning.
        language: what it is written in.
        type: what kind of service it is.
        check: how to find out whether it is well.
        weight: its share of the lookups, relative to the others'; 0 takes it out of rotation.
        ttl: seconds within which it sends a heartbeat, again and again; it is critical when it does not.
    """

    id: str | None = attrs.field(default=None, validator=validators.optional(validators.matches_re(NAME)))
    name: str = attrs.field(validator=validators.matches_re(NAME))
    address: str = attrs.field(validator=validators.matches_re(ADDRESS))
    port: int = attrs.field(validator=[validators.ge(1), validators.le(65535)])
    tags: list[str] = attrs.field(
        factory=list, validator=[validators.max_len(64), validators.deep_iterable(validators.max_len(128))]
    )
    meta: dict[str, Any] = attrs.field(factory=dict, validator=validators.max_len(256))
    health: Health | None = None
    language: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(128)))
    type: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(128)))
    check: Check | None = None
    weight: int = attrs.field(default=1, validator=[validators.ge(0), validators.le(1000)])
    ttl: float | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.ge(1), validators.le(86400)))
    )


@attrs.frozen(kw_only=True)
class Heartbeat:
    """The optional body of `PUT /heartbeat/{id}`."""

    health: Health = Health.PASSING
    note: str = attrs.field(default="", validator=validators.max_len(512))


@attrs.frozen(kw_only=True)
class Instance:
    """One instance of a service, as the registry knows it. For the fields that `Registration` has, see there.

    Attributes:
        origin: who says that it exists.
        note: why its health is what it is.
        registered_at: the first time, RFC 3339.
        updated_at: the last registration or change of health.
    """

    id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, Any] = attrs.field(factory=dict)
    health: Health = Health.PASSING
    language: str | None = None
    type: str | None = None
    check: Check | None = None
    weight: int = 1
    ttl: float | None = None
    origin: Origin = Origin.REGISTERED
    note: str = ""
    registered_at: str = attrs.field(factory=utc_now)
    updated_at: str = attrs.field(factory=utc_now)


def instance_of(registration: Registration, known: Instance | None = None) -> Instance:
    """The instance that `registration` describes; `known` is what is registered under its id so far, whose age it keeps."""
    checked = registration.check is not None and (registration.check.http or registration.check.tcp)
    if registration.health is not None:
        health, note = registration.health, ""
    else:
        health, note = (Health.WARNING, "not checked yet") if checked else (Health.PASSING, "")
    return Instance(
        id=registration.id or new_id(),
        name=registration.name,
        address=registration.address,
        port=registration.port,
        tags=tuple(registration.tags),
        meta=registration.meta,
        health=health,
        language=registration.language,
        type=registration.type,
        check=registration.check,
        weight=registration.weight,
        ttl=registration.ttl,
        note=note,
        registered_at=utc_now() if known is None else known.registered_at,
    )


class ChangeType(enum.StrEnum):
    REGISTERED = "registered"
    UPDATED = "updated"
    HEALTH = "health"
    DEREGISTERED = "deregistered"


@attrs.frozen
class Change:
    """Something happened to an instance, which is given as it is now, or as it was last."""

    type: ChangeType
    instance: Instance


@attrs.frozen(kw_only=True)
class DiscoverySettings:
    """The section `[discovery]`.

    Attributes:
        instances: registrations held at once.
        checks: checks under way at once.
        expire_after: seconds for which an instance that missed its heartbeats stays listed as critical, where its check says nothing else.
        start_grace: seconds after a start, or after this process was held up, within which no heartbeat counts as missed: nobody could deliver one.
        watch_events: changes kept for watchers that come back.
    """

    instances: int = attrs.field(default=10_000, validator=validators.ge(1))
    checks: int = attrs.field(default=32, validator=validators.ge(1))
    expire_after: float = attrs.field(default=60.0, validator=validators.ge(0))
    start_grace: float = attrs.field(default=30.0, validator=validators.ge(0))
    watch_events: int = attrs.field(default=1000, validator=validators.ge(1))
