"""What a connection waits for from its client, which decides how long."""

from __future__ import annotations

import enum


class Waiting(enum.Enum):
    """What comes next, if anything."""

    HEAD = enum.auto()
    """The rest of a request's head; on a new connection all of it."""
    IDLE = enum.auto()
    """Perhaps another request."""
    BODY = enum.auto()
    """The rest of a request's body."""
    NOTHING = enum.auto()
    """The client waits for us; we look out for its end."""
    FRAMES = enum.auto()
    """A WebSocket's frames."""
