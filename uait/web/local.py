"""Who may ask in local mode, where no key tells: programs of this machine, and pages from it.

A page from elsewhere, open in the user's browser, can reach loopback ports, too: by a request that names its own origin (`Origin`), or under a name of its
own that it made to mean 127.0.0.1 (DNS rebinding; then `Host` is that name). Both are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from uait.errors import Forbidden

TrustedOrigin: TypeAlias = Callable[[bytes], bool]
"""Whether pages of an origin (`https://app.example`) may ask."""

_LOOPBACK = rb"(localhost|[a-z0-9-]+\.localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])"
_ORIGIN = re.compile(rb"https?://" + _LOOPBACK + rb"(:\d{1,5})?")
# An address cannot be rebound, so any is fine; of names only those that can mean nothing but this machine.
_HOST = re.compile(rb"(localhost|[a-z0-9-]+\.localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])\.?(:\d{1,5})?")


def from_this_machine(origin: bytes) -> bool:
    """Whether `origin` is that of a page served by this machine, on any port."""
    return _ORIGIN.fullmatch(origin.lower()) is not None


def check_local(host: bytes | None, origin: bytes | None, *, name: str, trusted: TrustedOrigin) -> None:
    """Refuse what a page from elsewhere sends.

    Args:
        host: the request's Host header, where it has one.
        origin: its Origin header, where it has one; programs send none.
        name: the host name that the service was told to listen on, which is trusted as well.
        trusted: see `TrustedOrigin`.

    Raises:
        Forbidden: with what to do for those who meant it.
    """
    if origin is not None and not trusted(origin):
        raise Forbidden(
            "Pages from other sites may not ask this machine: allow their origin in cors_origins of [gateway] and ask the gateway, or configure API keys under [keys].",
            code="FOREIGN_ORIGIN",
        )
    if host and _HOST.fullmatch(host.lower()) is None and host.lower().partition(b":")[0] != name.lower().encode():
        raise Forbidden(
            "Without API keys only requests for this machine's own names are answered: use http://localhost or an address, or configure API keys under [keys].",
            code="FOREIGN_HOST",
        )
