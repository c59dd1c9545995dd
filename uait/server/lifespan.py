"""The app's life: ASGI's lifespan protocol (https://asgi.readthedocs.io/en/latest/specs/lifespan.html), with failures that say why."""

from __future__ import annotations

import enum
import logging
from typing import Any

import trio

from uait.errors import ServiceFailed
from uait.server.asgi import ASGIApp, Message, Scope


class _Phase(enum.Enum):
    STARTING = enum.auto()
    RUNNING = enum.auto()
    STOPPING = enum.auto()


class _Told(Exception):
    """Raised into the app where it reports a failure, so that Python keeps what it was handling as our context: the real cause."""


class Lifespan:
    """One app's lifespan call, which lives as long as the server.

    Attributes:
        state: what the app puts there at startup stands, copied, in the scope of every request.
    """

    def __init__(self, app: ASGIApp, log: logging.Logger, *, startup_timeout: float, shutdown_timeout: float) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._log = log
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._phase = _Phase.STARTING
        self._asked = self._asked_twice = False
        self._told: _Told | None = None
        self._scope = trio.CancelScope()
        self._patience = trio.CancelScope()
        self._stopping = trio.Event()
        self._over = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the call. `started()` when the app is ready, which an app without lifespan support is at once.

        Support is missing where the call ends, in whatever way, before it has asked for the first message. Once started it is shielded from outside cancellation until
        `shutdown`, for the app must hear of the end only after its connections are gone.

        Raises:
            ServiceFailed: startup failed or took too long, or the call crashed later (what an app runs in the background there has crashed, then). `__cause__` is the app's error.
        """
        self._started = task_status.started
        self._scope.deadline = trio.current_time() + self._startup_timeout
        crash: BaseException | None = None
        try:
            with self._scope:
                await self._app(self._make_scope(), self._receive, self._send)
        except* Exception as group:
            crash = _only(group)
        finally:
            self._over.set()
        self._judge(crash)

    async def shutdown(self) -> None:
        """Tell the app to shut down, and wait at most `shutdown_timeout` seconds. What fails is logged. To be called under a shield."""
        if self._phase is _Phase.RUNNING:
            self._phase = _Phase.STOPPING
            self._stopping.set()
            began = trio.current_time()
            self.end_by(began + self._shutdown_timeout)
            with self._patience:
                await self._over.wait()
            if not self._over.is_set():
                self._log.error("the app did not shut down within %.3g s", max(0.0, self._patience.deadline - began))
        self._scope.cancel(reason="the server is closed")

    def end_by(self, deadline: float) -> None:
        """Let `shutdown`, under way or to come, wait until `deadline` (on trio's clock) at the longest."""
        self._patience.deadline = min(self._patience.deadline, deadline)

    def _make_scope(self) -> Scope:
        return {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}

    async def _receive(self) -> Message:
        await trio.lowlevel.checkpoint()
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        if self._asked_twice:
            await trio.sleep_forever()
        self._asked_twice = True
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        kind = message["type"]
        if kind == "lifespan.startup.complete" and self._phase is _Phase.STARTING:
            self._run()
        elif kind == "lifespan.shutdown.complete":
            self._over.set()
        elif kind in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
            self._told = _Told(message.get("message") or "the app does not say why")
            raise self._told
        else:
            raise RuntimeError(f"the lifespan has no place for the message {kind!r} now")

    def _run(self) -> None:
        self._phase = _Phase.RUNNING
        self._scope.deadline = float("inf")
        self._scope.shield = True
        self._started(None)

    def _judge(self, crash: BaseException | None) -> None:
        """The call has ended: find out whether that was in order."""
        why = ""
        if self._told is not None:
            why, crash = str(self._told), _only(self._told.__context__)
        elif crash is not None:
            why = str(crash) or repr(crash)
        if self._phase is _Phase.STARTING:
            if self._scope.cancelled_caught:
                raise ServiceFailed(f"the app's startup took longer than {self._startup_timeout:g} s")
            if why and self._asked:
                raise ServiceFailed(f"the app's startup failed: {why}") from crash
            self._log.debug("the app does not support lifespan: %s", why or "the call returned")
            self._run()
        elif why and self._phase is _Phase.RUNNING:
            raise ServiceFailed(f"what the app runs in its lifespan crashed: {why}") from crash
        elif why:
            self._log.error("the app's shutdown failed: %s", why, exc_info=crash)


def _only(error: BaseException | None) -> BaseException | None:
    """The one error in a group, however deep; the group itself where there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
