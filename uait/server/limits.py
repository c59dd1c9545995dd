"""What one server gives one client at most, and what a server can tell about itself."""

from __future__ import annotations

from typing import Any

import attrs

KIB = 1024
MIB = 1024 * KIB


def _positive(_: Any, attribute: Any, value: float) -> None:
    if value <= 0:
        raise ValueError(f"{attribute.name} must be above 0, not {value!r}")


@attrs.frozen(kw_only=True)
class ServerLimits:
    """Bounds of one server. Sizes are in bytes, times in seconds.

    Attributes:
        connections: open at once. A client over it is answered 503 with `Retry-After` and closed, so that it learns of it at once instead of hanging in the backlog.
        header_bytes: a request's head, request line included (431).
        header_count: its fields (431).
        body_bytes: a request's body (413). An app may answer its own 413 first; one that goes on reading is stopped.
        message_bytes: one inbound WebSocket message (closed with 1009).
        compression: whether a WebSocket's client may have its messages, and get ours, compressed where it asks for that.
        queue: inbound WebSocket messages that wait for the app; more stay with the client, by backpressure.
        header_timeout: from the first byte of a request's head (on a new connection: from its acceptance) until the head is complete (408). Also the TLS handshake's.
        idle_timeout: a kept-alive connection without a request, or a request body that does not go on (408).
        send_timeout: a client that does not read, without any progress.
        accept_timeout: a WebSocket's handshake until the app accepts or refuses it (504).
        ping_interval: a WebSocket on which nothing came in for so long is pinged.
        pong_timeout: a WebSocket on which nothing came in for so long after the ping is dead.
        startup_timeout: the app's lifespan startup.
        shutdown_timeout: the app's lifespan shutdown.
    """

    connections: int = attrs.field(default=10_000, validator=_positive)
    header_bytes: int = attrs.field(default=64 * KIB, validator=_positive)
    header_count: int = attrs.field(default=128, validator=_positive)
    body_bytes: int = attrs.field(default=32 * MIB, validator=_positive)
    message_bytes: int = attrs.field(default=1 * MIB, validator=_positive)
    compression: bool = True
    queue: int = attrs.field(default=64, validator=_positive)
    header_timeout: float = attrs.field(default=10.0, validator=_positive)
    idle_timeout: float = attrs.field(default=75.0, validator=_positive)
    send_timeout: float = attrs.field(default=20.0, validator=_positive)
    accept_timeout: float = attrs.field(default=20.0, validator=_positive)
    ping_interval: float = attrs.field(default=20.0, validator=_positive)
    pong_timeout: float = attrs.field(default=20.0, validator=_positive)
    startup_timeout: float = attrs.field(default=60.0, validator=_positive)
    shutdown_timeout: float = attrs.field(default=5.0, validator=_positive)


@attrs.frozen(kw_only=True)
class ServerStatistics:
    """A server's connections, counted since it was opened.

    Attributes:
        open: connections now.
        accepted: all of them so far.
        rejected: those over `ServerLimits.connections`.
        failed: those that ended with an exception of ours or of the protocol library.
        stuck: those that a drain had to cancel, each as "ADDRESS: where it hung".
    """

    open: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    stuck: tuple[str, ...] = ()
