"""How a server tells an app, without a task that waits for it, that the client has gone."""

from __future__ import annotations

from collections.abc import Callable

SCOPE_KEY = "uait.disconnect"
"""Where a server puts a `Disconnect` in the ASGI scope (http and websocket). An app that finds none must wait for the disconnect message itself."""


class Disconnect:
    """One call's news that its client has gone, announced by the server, or by the caller of an in-process call.

    Callbacks are synchronous (they cancel a scope with a reason) and are called once. `receive()` tells the same in ASGI's way.
    """

    gone = False
    _callbacks: tuple[Callable[[], None], ...] = ()

    def add(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the client goes; at once where it has gone already."""
        if self.gone:
            callback()
        else:
            self._callbacks = (*self._callbacks, callback)

    def discard(self, callback: Callable[[], None]) -> None:
        """Forget `callback`; nothing happens where it is unknown."""
        self._callbacks = tuple(kept for kept in self._callbacks if kept != callback)

    def announce(self) -> None:
        """Say that the client has gone. Idempotent."""
        if not self.gone:
            self.gone = True
            callbacks, self._callbacks = self._callbacks, ()
            for callback in callbacks:
                callback()
