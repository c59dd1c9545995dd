"""The thread of one SQLite connection: APSW's trio mode with a controller of our own.

APSW asks a controller (`apsw.AsyncConnectionController`) to carry its calls to a thread. `apsw.aio.Trio` does that too; this one differs where a long-running program needs it:
deadlines reach the thread as cancellation alone (its TooSlowError could come out of a block that only means to move on), the thread keeps neither the last answer nor the last error, it
never keeps the interpreter from exiting, and a connection that could not be closed in time is closed by its thread when that comes back.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import apsw
import trio

PROGRESS_STEPS = 10_000
"""SQLite looks every so many steps (well under a millisecond of plain work) whether the caller has gone. Each look needs the GIL, so looking more often would slow long queries down."""


class _Abandoned(BaseException):
    """Raised in the thread, inside a query whose caller has gone. Nobody sees it."""


class _Call:
    """One call on its way to the thread and back."""

    __slots__ = ("abandoned", "done", "error", "function", "value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = trio.Event()
        self.abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None


class Worker:
    """A controller for `apsw.Connection.as_async`, and the thread behind it.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._current: _Call | None = None
        self._closing = False
        self._token = trio.lowlevel.current_trio_token()
        threading.Thread(name=name, target=self._serve, daemon=True).start()

    def configure(self, connection: apsw.Connection) -> None:
        """APSW's: called once in the thread, when the connection is open."""
        for hook in apsw.connection_hooks:
            hook(connection)
        connection.set_progress_handler(self._look, PROGRESS_STEPS, id=self)

    def send(self, function: Callable[[], Any]) -> Awaitable[Any]:
        """APSW's: put `function` in line at once, and return what waits for its result.

        When the wait is cancelled, a call that has not begun does not begin, and a query under way stops at its next look.
        """
        call = _Call(function)
        self._calls.put(call)
        return self._wait(call)

    def close(self) -> None:
        """APSW's: the connection is closed, the thread may end."""
        self._calls.put(None)

    def closing(self) -> None:
        """From now on nothing is taken back: the close that follows happens even when nobody waits for it any longer."""
        self._closing = True

    async def _wait(self, call: _Call) -> Any:
        try:
            await call.done.wait()
        except trio.Cancelled:
            call.abandoned = not self._closing
            raise
        if call.error is None:
            return call.value
        try:
            raise call.error
        finally:
            call.error = None  # it has this frame in its traceback: break the circle

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.abandoned:
                self._current = call
                try:
                    call.value = call.function()
                except BaseException as error:
                    call.error = error
                self._current = None
                with suppress(trio.RunFinishedError):  # left behind by a run that is over; the next call is the close
                    self._token.run_sync_soon(call.done.set)
            del call  # and with it the answer

    def _look(self) -> bool:
        if self._current is not None and self._current.abandoned:
            raise _Abandoned
        return False
