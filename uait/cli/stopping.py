"""What SIGINT and SIGTERM do: the first lets open requests finish, the second stops at once, the third has the system's own effect."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import trio

from uait.cli.arguments import Exit
from uait.kernel.host import Host

LAST_RESORT = 5.0
"""Seconds past the promised end of a stop after which the process ends itself: only code that blocks the whole loop gets so far."""

LAST_WORDS = 1.0
"""Seconds to write why."""

log = logging.getLogger("uait.cli")


class Stop:
    """A context manager around the whole run; it holds the last resort ready.

    Args:
        grace: seconds that open requests have after the first signal.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._host: Host | None = None
        self._starting = trio.CancelScope()
        self._count = 0
        self._allowed: SimpleQueue[float | None] = SimpleQueue()  # the one queue that a signal handler may put into

    def __enter__(self) -> Self:
        threading.Thread(target=_watch, args=(self._allowed,), name="uait last resort", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._allowed.put(None)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[trio.CancelScope]:
        """Handle the signals inside the block, where this is the main thread.

        They count while the loop is blocked, too, which a trio signal receiver would not notice.

        Yields:
            the scope of the block, which a signal cancels until `started` has told of a host.
        """
        with self._starting:
            if threading.current_thread() is not threading.main_thread():
                yield self._starting
                return
            token = trio.lowlevel.current_trio_token()
            before: dict[signal.Signals, Any] = {}

            def handle(number: int, _: FrameType | None) -> None:
                self._count += 1
                if self._count == 1:
                    self._allowed.put(self._grace + 2 + LAST_RESORT)
                    token.run_sync_soon(self._soon, signal.Signals(number).name)
                else:
                    for each in before:
                        signal.signal(each, signal.SIG_DFL)
                    self._allowed.put(LAST_RESORT)
                    token.run_sync_soon(self._at_once, signal.Signals(number).name)

            try:
                for each in (signal.SIGINT, signal.SIGTERM):
                    before[each] = signal.signal(each, handle)
                yield self._starting
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    def started(self, host: Host) -> None:
        """From now on signals stop this host."""
        self._host = host

    def _soon(self, why: str) -> None:
        log.info("%s: open requests have %g s to finish; once more stops at once", why, self._grace)
        if self._host is None:
            self._starting.cancel(reason=why)
        else:
            self._host.request_stop()

    def _at_once(self, why: str) -> None:
        log.warning("%s again: stopping at once; once more kills", why)
        if self._host is not None:
            self._host.cancel(f"{why} came twice")


def _watch(allowed: SimpleQueue[float | None]) -> None:
    """End the process when the shortest time that came out of the queue is over, unless a None comes first."""
    deadline = float("inf")
    while True:
        try:
            seconds = allowed.get(timeout=max(0.0, deadline - time.monotonic()) if deadline < float("inf") else None)
        except Empty:
            _end()
        if seconds is None:
            return
        deadline = min(deadline, time.monotonic() + seconds)


def _end() -> NoReturn:
    # In a thread of its own, for whoever reads the log may have gone, or not read any more, which may be what blocks everything.
    told = threading.Thread(target=_tell, name="uait last words", daemon=True)
    told.start()
    told.join(LAST_WORDS)
    os._exit(Exit.FAILED)


def _tell() -> None:
    with contextlib.suppress(OSError):
        print("uait does not stop: something blocks it. It ends now.", file=sys.stderr, flush=True)
