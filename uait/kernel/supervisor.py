"""One service kept alive: started when what it needs is ready, started again after a crash, stopped within a bound.

Each incarnation is one lexical nest, in the order *calls -> background nursery -> factory's resources -> app -> server*, so that leaving it in any way
(stop, crash, cancellation) closes everything in reverse. What survives it is here: the listening sockets, the metrics, the counters, the last error.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio
from prometheus_client.core import CollectorRegistry

from uait.calls.client import Calls, LocalService
from uait.errors import ServiceFailed, Unavailable
from uait.kernel.background import open_background
from uait.kernel.report import describe, own_traceback, split
from uait.kernel.restart import RestartTracker
from uait.kernel.service import Context, ServiceSpec
from uait.kernel.status import ServiceStatus, State
from uait.server import NativeConnections, Server, ServerLimits, Speak, open_server
from uait.server.asgi import ASGIApp, Receive, Scope, Send
from uait.server.drain import Drain
from uait.server.stuck import place, where
from uait.settings.model import ServerKind

if TYPE_CHECKING:
    from uait.settings import Settings

TEARDOWN = 1.5
"""Seconds past the grace period at which an incarnation that is still closing its resources is cancelled."""

FAREWELL = 0.5
"""Seconds that a call from this process has to say that its service ends, before it is cancelled."""

CLEANUP = 5.0
"""Seconds that an incarnation has to close its resources after a crash: a teardown that hangs must not keep the service from starting again."""


class Surroundings(Protocol):
    """What a keeper sees of the host."""

    settings: Settings
    stop_at: float

    async def local(self, name: str) -> LocalService | None: ...
    def statuses(self) -> tuple[ServiceStatus, ...]: ...
    async def changed(self, seen: tuple[ServiceStatus, ...] | None = None) -> tuple[ServiceStatus, ...]: ...
    def announce(self) -> None: ...


class Keeper:
    """Runs one service for as long as the host runs it.

    Args:
        spec: what to run.
        settings: the service's own settings, already read.
        sockets: listening; the host owns and closes them.
        host: the host's side of this.
    """

    def __init__(self, spec: ServiceSpec, settings: Any, sockets: Sequence[socket.socket], host: Surroundings) -> None:
        self.spec = spec
        self.settings = settings
        self.sockets = sockets
        self.log = logging.getLogger(f"uait.{spec.name}")
        self.status = ServiceStatus(
            name=spec.name,
            title=spec.title,
            state=State.PENDING,
            since=time.time(),
            summary=spec.summary,
            version=spec.version,
            origin=spec.origin,
            port=sockets[0].getsockname()[1] if sockets else 0,
            needs=spec.needs,
            intents=spec.intents,
        )
        self._host = host
        self._registry = CollectorRegistry()
        self._tracker = RestartTracker(spec.restart)
        self._stop = trio.Event()
        self._scope: trio.CancelScope | None = None
        self._task: trio.lowlevel.Task | None = None
        self._incarnation: _Incarnation | None = None
        self._server: Server | None = None
        self._ready_at: float | None = None
        self._crash: BaseException | None = None

    # What the host asks of it

    @property
    def local(self) -> LocalService | None:
        """The running app, for calls within the process; None while there is none."""
        return self._incarnation.local if self._incarnation else None

    def request_stop(self) -> None:
        """Begin to stop, by the ladder: drain until the host's `stop_at`, then cut, then cancel. Idempotent; `run` returns when it has stopped."""
        if self._stop.is_set():
            return
        self._stop.set()
        match self.status.state:
            case State.PENDING | State.BACKOFF:
                self._set(State.STOPPED)  # which also wakes it where it waits for what it needs
            case State.STARTING if self._scope is not None:
                # Nobody is inside yet, so there is nothing to wait for.
                self._scope.cancel(reason="told to stop before it was ready")
            case State.READY if self._server is not None:
                # It drains first; but where it has just crashed, and has not got as far as to say so, it is on its way out already.
                self._server.end_by(self._host.stop_at + TEARDOWN)
            case State.DRAINING:  # it cleans up after a crash
                self._end_by_the_stop()

    def cancel(self, reason: str) -> None:
        """Stop at once, without a drain."""
        self.request_stop()
        if self._incarnation is not None:
            self._incarnation.drain.cut()
        self._end_by_the_stop()
        if self._scope is not None:
            self._scope.cancel(reason=reason)

    def note_stuck(self) -> None:
        """Write down where it hangs: for a service that outlived its stop."""
        stuck = where(self._task) if self._task is not None else ""
        self._set(self.status.state, stuck=stuck)
        self.log.error("%s does not stop; it hangs in %s", self.spec.title, stuck)

    def note_slow(self, seconds: float) -> None:
        """Tell where it is: for a service that keeps a start waiting."""
        waits = place(self._task) if self._task is not None else ""
        text = "%s is not ready after %g s, and is given up after %g s; it is in %s"
        self.log.warning(text, self.spec.title, seconds, self.spec.start_timeout, waits)

    # Its life

    async def run(self) -> None:
        """Keep the service until `request_stop`, or until it has failed for good.

        Raises:
            ServiceFailed: an essential service has failed for good. Any other's failure stays in its room.
        """
        self._task = trio.lowlevel.current_task()
        try:
            while await self._needs_are_ready():
                error = await self._run_once()
                if self._stop.is_set():
                    break
                assert error is not None  # a permanent service that ends unasked has failed, and says how
                delay = self._judge(error)
                if delay is None:
                    self._fail(error)
                    return
                with trio.move_on_after(delay):
                    await self._stop.wait()
        finally:
            self._task = None
            if self.status.state is not State.FAILED:
                self._set(State.STOPPED)

    async def _needs_are_ready(self) -> bool:
        """Wait for everything in `needs`. False where there is nothing to start any more: a stop was asked for, or a need has failed for good."""
        while not self._stop.is_set():
            seen = self._host.statuses()
            needed = {status.name: status.state for status in seen if status.name in self.spec.needs}
            if all(state is State.READY for state in needed.values()):
                return True
            for name, state in needed.items():
                if state in (State.FAILED, State.STOPPED):
                    self._fail(ServiceFailed(f"{name}, which it needs, is {state}"))
                    return False
            await self._host.changed(seen)
        return False

    async def _run_once(self) -> BaseException | None:
        """Run one incarnation to its end. Returns the crash that ended it, or None after a stop; lets through what no supervisor may swallow."""
        self._set(State.STARTING, incarnation=self.status.incarnation + 1)
        self._ready_at = self._crash = None
        crash: BaseException | None = None
        with trio.CancelScope(deadline=trio.current_time() + self.spec.start_timeout) as self._scope:
            try:
                await self._incarnate(self._scope)
            except BaseException as error:
                crash, rest = split(error)
                if crash is not None:
                    self._report(crash)
                if crash is None:
                    raise
                if rest is not None:
                    raise rest from None
            finally:
                self._incarnation = self._server = None
        if crash is None and not self._stop.is_set():
            crash = ServiceFailed(self._why_it_ended(self._scope))
            crash.__cause__ = self._crash
            self._report(crash)
        return crash

    def _why_it_ended(self, scope: trio.CancelScope) -> str:
        if not scope.cancelled_caught:
            return "it returned, and a service must not"
        if self._crash is not None:
            return f"it crashed, and its teardown did not end within {CLEANUP:g} s"
        return f"it was not ready within {self.spec.start_timeout:g} s"

    async def _incarnate(self, scope: trio.CancelScope) -> None:
        drain = Drain()
        limits = _server_limits(self._host.settings.limits)
        async with Calls(self._host, caller=self.spec.name) as calls, open_background(self.spec.name) as background:
            ctx = Context(
                spec=self.spec,
                settings=self.settings,
                host_settings=self._host.settings,
                log=self.log,
                nursery=background.nursery,
                drain=drain,
                registry=self._registry,
                calls=calls,
                directory_statuses=self._host.statuses,
                status_changed=self._host.changed,
            )
            async with _open_app(self.spec, ctx) as app:
                try:
                    speak = _speak(self._host.settings.server)
                    async with open_server(
                        app, self.sockets, limits=limits, drain=drain, log=self.log, speak=speak
                    ) as server:
                        self._server = server
                        incarnation = self._incarnation = _Incarnation(self.spec.name, app, drain)
                        scope.deadline = math.inf
                        self._ready_at = trio.current_time()
                        self._set(State.READY, addresses=server.addresses, intents=(*self.spec.intents, *ctx.intents))
                        try:
                            await self._stop.wait()
                            await self._drain(server, incarnation)
                            self._end_by_the_stop()
                        finally:
                            # Before the app's own shutdown, and also after a crash: whoever is inside by an in-process call must not go on in a dead service.
                            self._incarnation = None
                            drain.cut()
                            incarnation.end()
                            if not self._stop.is_set():
                                self._set(State.DRAINING, addresses=())
                    await background.stop()  # its tasks end before the resources that they use
                except BaseException as error:
                    self._crash = split(error)[0]
                    raise
                finally:
                    background.cancel()
                    self._leave(scope)

    def _end_by_the_stop(self) -> None:
        """Bound what an incarnation has left to do, the app's own shutdown included, by the host's stop."""
        end = self._host.stop_at + TEARDOWN
        if self._server is not None:
            self._server.end_by(end)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, end)

    def _leave(self, scope: trio.CancelScope) -> None:
        """What is left of this incarnation is its teardown: bound it."""
        if self._stop.is_set():
            self._end_by_the_stop()
            return
        scope.deadline = min(scope.deadline, trio.current_time() + CLEANUP)

    async def _drain(self, server: Server, incarnation: _Incarnation) -> None:
        """Let what is under way finish until the host's `stop_at`: on sockets and in process both at once, for each may wait for the other."""
        self._set(State.DRAINING)
        grace = max(0.0, self._host.stop_at - trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.drain, grace, refuse=True))
            nursery.start_soon(incarnation.finish, grace)

    def _judge(self, error: BaseException) -> float | None:
        now = trio.current_time()
        ready_for = now - self._ready_at if self._ready_at is not None else 0.0
        delay = self._tracker.crashed(now, ready_for=ready_for)
        if delay is not None:
            self._set(State.BACKOFF, last_error=describe(error), restarts=self.status.restarts + 1, addresses=())
            self.log.warning("%s starts again in %.2f s", self.spec.title, delay)
        return delay

    def _fail(self, error: BaseException) -> None:
        self._set(State.FAILED, last_error=describe(error), addresses=())
        for sock in self.sockets:
            sock.close()  # refused at once is better than waiting in a backlog that nobody will ever serve
        self.log.error("%s has failed for good: %s", self.spec.title, describe(error))
        if self.spec.essential:
            raise ServiceFailed(f"{self.spec.title}, which is essential, has failed: {describe(error)}") from error

    def _report(self, crash: BaseException) -> None:
        phase = (
            "while starting" if self._ready_at is None else "while stopping" if self._stop.is_set() else "while running"
        )
        self.log.error(
            "%s crashed %s (incarnation %d): %s",
            self.spec.title,
            phase,
            self.status.incarnation,
            describe(crash),
            exc_info=own_traceback(crash),
        )

    def _set(self, state: State, **changes: Any) -> None:
        since = self.status.since if state is self.status.state else time.time()
        if state is State.STOPPED:
            changes["addresses"] = ()
        self.status = attrs.evolve(self.status, state=state, since=since, **changes)
        self._host.announce()


class _Incarnation:
    """One running app, and how many in-process calls are inside it."""

    def __init__(self, name: str, app: ASGIApp, drain: Drain) -> None:
        self.drain = drain
        self.local = LocalService(name=name, app=self._enter)
        self._app = app
        self._over = False
        self._inside: set[trio.CancelScope] = set()
        self._empty = trio.Event()

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._over:  # it ended between the question where it is and the call
            raise self._ended()
        call = trio.CancelScope()
        self._inside.add(call)
        try:
            with call:
                await self._app(scope, receive, send)
        finally:
            self._inside.remove(call)
            if not self._inside:
                self._empty.set()
                self._empty = trio.Event()
        if call.cancelled_caught:
            raise self._ended()

    def _ended(self) -> Unavailable:
        return Unavailable(f"The service {self.local.name} ended while it answered; try again.")

    def end(self) -> None:
        """Let nobody in any more, and cancel the calls of those who do not listen to the drain, soon after the others had their word."""
        self._over = True
        deadline = trio.current_time() + FAREWELL
        for call in self._inside:
            call.deadline = min(call.deadline, deadline)

    async def finish(self, grace: float) -> None:
        """Announce the drain, and wait until nobody is inside, at most `grace` seconds; then announce the cut and wait one more."""
        self.drain.begin()
        for patience in (grace, 1.0):
            with trio.move_on_after(patience):
                while self._inside:
                    await self._empty.wait()
                return
            self.drain.cut()
            self.end()


@contextlib.asynccontextmanager
async def _open_app(spec: ServiceSpec, ctx: Context) -> AsyncIterator[ASGIApp]:
    """Call the factory, of either kind: `return app`, or `yield app` with teardown behind it."""
    made = spec.factory(ctx)
    if inspect.isasyncgen(made):
        async with contextlib.asynccontextmanager(lambda: made)() as app:
            yield _checked(app)
    else:
        yield _checked(await made)  # type: ignore[misc]  # `load` has made sure that it is a coroutine


def _checked(app: Any) -> ASGIApp:
    if not callable(app):
        raise ServiceFailed(
            f"its factory gave {type(app).__name__} and not an ASGI app: end it with `return app` or `yield app`"
        )
    return app  # type: ignore[no-any-return]


def unavailable(status: ServiceStatus) -> Unavailable:
    """The answer to a call of a service that is not there."""
    return Unavailable(
        f"The service {status.name} {status.state.said}.",
        details={"service": status.name, "state": status.state.value},
    )


def _speak(server: ServerKind) -> Speak:
    if server == "native":
        return NativeConnections
    from uait.server.hypercorn import HypercornConnections  # takes its time, and its memory

    return HypercornConnections


def _server_limits(limits: Any) -> ServerLimits:
    """The host's limits as the server's: each field that both have."""
    return ServerLimits(
        **{
            field.name: getattr(limits, field.name)
            for field in attrs.fields(ServerLimits)
            if hasattr(limits, field.name)
        }
    )
