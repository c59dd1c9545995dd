"""Which service answers which path below `/api`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import attrs

_PLACES: dict[str, tuple[str, str]] = {
    "conversations": ("chat", "/conversations"),
    "memory": ("memory", "/memory"),
    "context": ("memory", "/context"),
    "orchestrate": ("orchestrator", "/orchestrate"),
    "services": ("discovery", "/services"),
    "service": ("discovery", "/service"),
    "ws": ("hub", "/ws"),
}
"""First segment of the path -> service and its own path. Every other segment is a service's name, and what follows its own path."""

ENDPOINTS = (
    "POST /api/v1/chat",
    "ANY /api/v1/conversations/...",
    "ANY /api/v1/memory/...",
    "ANY /api/v1/context/...",
    "POST /api/v1/orchestrate",
    "ANY /api/v1/services/...",
    "ANY /api/v1/discovery/...",
    "ANY /api/v1/{service}/...",
    "ANY /v1/...",
    "WEBSOCKET /ws",
    "WEBSOCKET /api/v1/ws",
)
"""What is answered behind the gateway, as `GET /` lists it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@attrs.frozen
class Target:
    """Where a request goes: the service, and the path there, still quoted."""

    service: str
    raw_path: bytes

    @property
    def path(self) -> str:
        """The path there, decoded as a server decodes it."""
        return unquote_to_bytes(self.raw_path).decode("utf-8", "replace")


def find_target(raw_path: bytes, service_name: Callable[[str], str]) -> Target | None:
    """The target of `/api/v1/...`, or of the older `/api/...`; None where there can be none.

    Args:
        raw_path: the request's path, quoted.
        service_name: the short name of a service that is asked for by its short name or its title.
    """
    segments = raw_path.split(b"/")[2:]
    if segments and segments[0] == b"v1":
        segments = segments[1:]
    if not segments:
        return None
    first = unquote_to_bytes(segments[0]).decode("utf-8", "replace")
    rest = b"".join(b"/" + segment for segment in segments[1:])
    if first in _PLACES:
        service, base = _PLACES[first]
        return Target(service, base.encode() + rest)
    if not _NAME.fullmatch(first):
        return None
    service = service_name(first)
    if service == "chat" and rest in (b"", b"/"):
        return Target(service, b"/chat")
    return Target(service, rest or b"/")
