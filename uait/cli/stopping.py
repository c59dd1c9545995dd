"""What SIGINT and SIGTERM do: the first lets open requests finish, the second stops at once, the third has the system's own effect."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import trio

from uait.cli.arguments import Exit
from uait.kernel.host import Host

LAST_RESORT = 5.0
"""Seconds past the promised end of a stop after which the process ends itself: only code that blocks the whole loop gets so far."""

log = logging.getLogger("uait.cli")


class Stop:
    """A context manager around the whole run; leaving it calls off the last resort.

    Args:
        grace: seconds that open requests have after the first signal.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._host: Host | None = None
        self._starting = trio.CancelScope()
        self._count = 0
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()

    @contextmanager
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
                    token.run_sync_soon(self._soon, signal.Signals(number).name)
                else:
                    for each in before:
                        signal.signal(each, signal.SIG_DFL)
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
        self._die_after(self._grace + 2 + LAST_RESORT)
        if self._host is None:
            self._starting.cancel(reason=why)
        else:
            self._host.request_stop()

    def _at_once(self, why: str) -> None:
        log.warning("%s again: stopping at once; once more kills", why)
        self._die_after(LAST_RESORT)
        if self._host is not None:
            self._host.cancel(f"{why} came twice")

    def _die_after(self, seconds: float) -> None:
        timer = threading.Timer(seconds, _die, [seconds])
        timer.daemon = True
        timer.start()
        self._timers.append(timer)


def _die(seconds: float) -> None:
    print(f"uait did not stop within {seconds:g} s: something blocks it. It ends now.", file=sys.stderr, flush=True)
    os._exit(Exit.FAILED)
