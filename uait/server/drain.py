"""How open requests learn that their service is leaving."""

from __future__ import annotations

import enum
from collections.abc import Callable

import trio


class Phase(enum.Enum):
    """What a service is doing about the requests it has."""

    SERVING = "serving"
    DRAINING = "draining"
    """Finish what is finite; endless streams and WebSockets say goodbye now."""
    CUTTING = "cutting"
    """The grace period is over: whoever is left says goodbye now and is cancelled right after."""


class Drain:
    """One service incarnation's way out, announced to every open request.

    A request that must do something about it adds a callback for as long as it is open, which costs a set entry instead of a task. Callbacks are
    synchronous (they cancel a scope with a reason, or set an event), are called at most once per phase, and may remove themselves.

    Attributes:
        draining: whether the service is leaving, in either phase.
    """

    def __init__(self) -> None:
        self.phase = Phase.SERVING
        self.draining = False
        self._started = trio.Event()
        self._callbacks: dict[Callable[[Phase], None], None] = {}

    def add(self, callback: Callable[[Phase], None]) -> None:
        """Call `callback` at each phase from now on; at once, too, where one has already begun."""
        self._callbacks[callback] = None
        if self.phase is not Phase.SERVING:
            callback(self.phase)

    def discard(self, callback: Callable[[Phase], None]) -> None:
        """Forget `callback`; nothing happens where it is unknown."""
        self._callbacks.pop(callback, None)

    def begin(self) -> None:
        """Announce `DRAINING`. Idempotent."""
        if self.phase is Phase.SERVING:
            self._announce(Phase.DRAINING)
            self._started.set()

    def cut(self) -> None:
        """Announce `CUTTING`, after `DRAINING` where that was left out. Idempotent."""
        self.begin()
        if self.phase is Phase.DRAINING:
            self._announce(Phase.CUTTING)

    async def wait(self) -> None:
        """Wait until the service begins to leave."""
        await self._started.wait()

    def _announce(self, phase: Phase) -> None:
        self.phase = phase
        self.draining = True
        for callback in list(self._callbacks):
            callback(phase)
