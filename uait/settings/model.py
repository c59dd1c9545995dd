"""The settings that every host has. They can be made by hand (embedders, tests) as well as loaded."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
from attrs import validators

TOP_KEYS = ("host", "data_dir", "grace", "server", "only", "without", "services", "config")
"""The keys above the first section; `config` only as a flag or variable."""

RESERVED = frozenset({"log", "keys", "limits"})
"""Sections that are the host's own: no service may have such a name."""

MIB = 1024 * 1024

LogFormat: TypeAlias = Literal["text", "json"]
ServerKind: TypeAlias = Literal["native", "hypercorn"]
LogLevel: TypeAlias = Literal["critical", "error", "warning", "info", "debug"]

_NAME = re.compile(r"(?=[A-Za-z0-9])[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?(?<=[A-Za-z0-9.])")
_MODULE_ATTR = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def _seconds(_: Any, field: attrs.Attribute[Any], value: float) -> None:
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{field.name!r} must be more than 0 seconds, and finite")


def _grace(_: Any, field: attrs.Attribute[Any], value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{field.name!r} must be 0 seconds or more, and finite")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _host(_: Any, field: attrs.Attribute[Any], value: str) -> None:
    if not (_is_ipv6(value) if ":" in value else _NAME.fullmatch(value)):
        raise ValueError(
            f"{field.name!r} must be a host name or an IP address alone ('localhost', '0.0.0.0', '::1'), without scheme, brackets or port"
        )


def _module_attrs(_: Any, field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    if bad := [each for each in value if not _MODULE_ATTR.fullmatch(each)]:
        raise ValueError(f"{field.name!r} must name each service as 'module:attribute'; {bad[0]!r} is not of that form")


def check_key(key: str) -> None:
    """Raise ValueError, without repeating it, where `key` cannot be an API key that a header carries."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("must be printable ASCII without spaces, and not empty")


def _keys(_: Any, field: attrs.Attribute[Any], value: Mapping[str, str]) -> None:
    for key in value.values():
        check_key(key)
    if len(set(value.values())) < len(value):
        raise ValueError(f"{field.name!r} must be different for each user")


def _port(_: Any, field: attrs.Attribute[Any], value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError(f"{field.name!r} must be from 0 (any free port) to 65535, not {value}")


@attrs.frozen(kw_only=True)
class Limits:
    """Section `[limits]`: what one client may ask of one service.

    Attributes:
        body_bytes: largest request body.
        message_bytes: largest WebSocket message.
        compression: whether WebSockets are compressed (permessage-deflate) for clients that ask for it.
        connections: connections open at once, for each service.
        header_timeout: seconds until a request's head must be complete.
        idle_timeout: seconds that a kept-alive connection may be idle.
        send_timeout: seconds without any progress of a client that does not read.
        request_timeout: seconds of the longest deadline of one request, which is also the default one.
        queue: messages waiting in any one inbound or outbound queue.
    """

    body_bytes: int = attrs.field(default=32 * MIB, validator=validators.ge(1))
    message_bytes: int = attrs.field(default=1 * MIB, validator=validators.ge(1))
    compression: bool = True
    connections: int = attrs.field(default=10_000, validator=validators.ge(1))
    header_timeout: float = attrs.field(default=10.0, validator=_seconds)
    idle_timeout: float = attrs.field(default=75.0, validator=_seconds)
    send_timeout: float = attrs.field(default=20.0, validator=_seconds)
    request_timeout: float = attrs.field(default=600.0, validator=_seconds)
    queue: int = attrs.field(default=64, validator=validators.ge(1))


def _tuple(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _default_data_dir() -> Path:
    import platformdirs  # only where nobody chose a directory

    return platformdirs.user_data_path("uait", appauthor=False)


@attrs.frozen(kw_only=True)
class Settings:
    """All that a host is told. Making one by hand is fine: what is given so is stronger than the environment, as a flag is.

    Attributes:
        host: address to listen on; "localhost" means 127.0.0.1 and ::1.
        data_dir: directory of the databases and of the run file; made where it is missing.
        grace: seconds that a stop waits for open requests.
        server: who speaks HTTP and WebSocket with clients: uait's own connections, or hypercorn's protocol classes.
        log_format: `format` in section `[log]`.
        log_level: `level` in section `[log]`.
        keys: section `[keys]`, user name to API key; any key at all switches authentication on.
        limits: section `[limits]`.
        only: start these services and no others; empty means all that are installed.
        without: do not start these.
        services: further services as "module:attribute".
        sections: the services' own sections as they were written, checked by `read_section` when the service is known.
        origins: where each value came from, by dotted name: "chat.port" to "uait.toml line 12", "variable X" or "flag --port".
        environ: the environment that services read.
    """

    host: str = attrs.field(default="localhost", validator=_host)
    data_dir: Path = attrs.field(factory=_default_data_dir, converter=Path)
    grace: float = attrs.field(default=10.0, validator=_grace)
    server: ServerKind = attrs.field(default="native", validator=validators.in_(("native", "hypercorn")))
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    keys: Mapping[str, str] = attrs.field(factory=dict, validator=_keys, repr=False)
    limits: Limits = Limits()
    only: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    without: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    services: tuple[str, ...] = attrs.field(default=(), converter=_tuple, validator=_module_attrs)
    sections: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)
    origins: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    environ: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ), repr=False)


@attrs.frozen(kw_only=True)
class ServiceSection:
    """The key that every service's section has, besides the service's own. Port 0 takes any free one."""

    port: int = attrs.field(validator=_port)
