"""The state of services as data: readable by the status command, health, discovery, the console and tests."""

from __future__ import annotations

import enum

import attrs


class State(enum.StrEnum):
    """Where a service is in its life."""

    PENDING = "pending"
    """Not started yet: it waits for what it needs."""
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    """It crashed and will be started again; clients wait in the listening socket's backlog."""
    STOPPED = "stopped"
    FAILED = "failed"
    """It crashed too often, or could not be loaded; it is not started again."""

    @property
    def said(self) -> str:
        """What is said of a service in it to whoever wanted something of it."""
        return _SAID.get(self, f"is {self.value}")


_SAID = {
    State.PENDING: "is not started yet",
    State.DRAINING: "is stopping",
    State.BACKOFF: "has failed, and is soon started again",
    State.FAILED: "has failed, and is not started again: the log says why",
}


@attrs.frozen(kw_only=True)
class ServiceStatus:
    """One service as it is at this moment.

    Attributes:
        name: the short name: plugin name, settings section, `ctx.client(name)`.
        title: the name in health, discovery and logs (`chat-service`).
        since: when `state` began, in Unix seconds.
        incarnation: how often it has been started.
        restarts: how often it has been started again after a crash.
        last_error: the last crash in one line, or None.
        addresses: base URLs it listens on (`http://127.0.0.1:8016`).
        intents: what the orchestrator may choose it for.
        origin: the distribution and version it came from.
        stuck: where it hung when a stop took too long; empty otherwise.
    """

    name: str
    title: str
    state: State
    since: float
    summary: str = ""
    version: str = ""
    origin: str = ""
    port: int = 0
    incarnation: int = 0
    restarts: int = 0
    last_error: str | None = None
    addresses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    stuck: str = ""
