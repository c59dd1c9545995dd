"""The one nursery: every service is a child of it.

    async with open_host(settings) as host:         # all services ready (or reported as failed)
        ...                                         # leaving the block, or cancelling it, drains and stops them all

    host = await nursery.start(uait.serve, settings)   # the same, as a task of an embedder's nursery

No signal handlers, no global state: two hosts in one process work.
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable

import trio

from uait.calls.client import LocalService
from uait.errors import PluginError, ServiceFailed
from uait.kernel.plan import Plan, check, take
from uait.kernel.plugins import Plugin
from uait.kernel.report import leaves
from uait.kernel.service import ServiceSpec
from uait.kernel.status import ServiceStatus, State
from uait.kernel.supervisor import Keeper, unavailable
from uait.settings import Settings, load_settings

PATIENCE = 10.0
"""Seconds that an in-process call waits for a service that is starting, at most; the caller's own deadline may be shorter."""

SLOW_START = 5.0
"""Seconds after which it is told what a start still waits for."""

CLOSING = 2.0
"""Seconds past the grace period after which a stop says who hangs, and where."""


class Host:
    """The running services. Made by `open_host`; everything here is called from the host's own trio thread.

    Attributes:
        settings: what it was started with.
        stop_at: when the grace period of the stop that is under way ends, on trio's clock; infinite before.
    """

    def __init__(
        self, settings: Settings, plan: Plan, sockets: dict[str, list[socket.socket]], release: Callable[[], None]
    ) -> None:
        self.settings = settings
        self._release = release  # the data directory, and ports: whoever has waited for the stop may take them again
        self.stop_at = math.inf
        self._broken = tuple(_broken_status(plugin, error) for plugin, error in plan.broken)
        self._keepers = {
            spec.name: Keeper(spec, plan.settings[spec.name], sockets[spec.name], self) for spec in plan.specs
        }
        self._statuses: tuple[ServiceStatus, ...] = ()
        self._change = trio.Event()
        self._stop = trio.Event()
        self._stopped = trio.Event()
        self._patience = trio.CancelScope()
        self._failures: list[ServiceFailed] = []
        self.announce()

    # For everybody

    def status(self) -> tuple[ServiceStatus, ...]:
        """All services as they are now, in the order of their start; plugins that could not be loaded come last."""
        return self._statuses

    def addresses(self, name: str) -> tuple[str, ...]:
        """The base URLs on which `name` listens, such as `http://127.0.0.1:8016`; none while it is down."""
        return self._keepers[name].status.addresses

    async def changed(self, seen: tuple[ServiceStatus, ...] | None = None) -> tuple[ServiceStatus, ...]:
        """Wait until `status()` differs from `seen` (left out: from what it is now), and return it."""
        seen = self._statuses if seen is None else seen
        while self._statuses == seen:
            await self._change.wait()
        return self._statuses

    async def stop(self) -> None:
        """Drain and stop everything, and wait until it has ended: at most the grace period and 2 s, and longer only for what shields itself from cancellation, which is then named in the log."""
        self.request_stop()
        await self._stopped.wait()

    def request_stop(self) -> None:
        """Begin to drain and stop; `wait` tells when it is done. Idempotent."""
        if not self._stop.is_set():
            self.stop_at = trio.current_time() + self.settings.grace
            self._stop.set()

    def cancel(self, reason: str = "the host is told to stop at once") -> None:
        """Stop at once, without a drain (what a second signal means)."""
        self.request_stop()
        self.stop_at = min(self.stop_at, trio.current_time())
        self._patience.deadline = self.stop_at + CLOSING
        for keeper in self._keepers.values():
            keeper.cancel(reason)

    async def wait(self) -> None:
        """Wait until the host has stopped, whoever asked it to."""
        await self._stopped.wait()

    # For keepers and calls

    def statuses(self) -> tuple[ServiceStatus, ...]:
        return self._statuses

    def announce(self) -> None:
        """A keeper's status has changed."""
        self._statuses = (*(keeper.status for keeper in self._keepers.values()), *self._broken)
        self._change.set()
        self._change = trio.Event()

    async def local(self, name: str) -> LocalService | None:
        """The service `name` of this host, for an in-process call; waits while it starts (again).

        Returns:
            None where this host has no such service.

        Raises:
            Unavailable: it has failed or stopped, or is not back within `PATIENCE`.
        """
        keeper = self._keepers.get(name)
        if keeper is None:
            for status in self._broken:
                if status.name == name:
                    raise unavailable(status)
            return None
        if keeper.local is None:
            with trio.move_on_after(PATIENCE):
                while keeper.local is None and keeper.status.state not in (State.FAILED, State.STOPPED):
                    await self.changed()
        if keeper.local is None:
            raise unavailable(keeper.status)
        return keeper.local

    # Its life

    async def _run(self) -> None:
        """Run every keeper until the stop has been asked for and has ended.

        This task is shielded from the embedder's cancellation, which `_until_cancelled` turns into a stop: every wait in here is bounded by it.
        """
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    for keeper in self._keepers.values():
                        nursery.start_soon(self._keep, keeper, name=f"service {keeper.spec.name}")
                    await self._stop.wait()
                    await self._stop_all()
            if self._failures:
                raise self._failures[0]
        finally:
            self._stop.set()
            try:
                self._release()
            finally:
                self._stopped.set()

    async def _keep(self, keeper: Keeper) -> None:
        """Run one keeper. An essential one's failure is raised when the others have stopped, as they do for any other reason: by the ladder."""
        try:
            await keeper.run()
        except ServiceFailed as error:
            self._failures.append(error)
            self.request_stop()

    async def _until_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.request_stop()

    async def _stop_all(self) -> None:
        """Ask each service to stop once those that need it have ended; say who hangs when the time is over."""
        async with trio.open_nursery() as nursery:
            for keeper in self._keepers.values():
                nursery.start_soon(self._stop_in_turn, keeper)
            self._patience.deadline = self.stop_at + CLOSING
            with self._patience:
                while any(self._alive(keeper) for keeper in self._keepers.values()):
                    await self.changed()
            for keeper in self._keepers.values():
                if self._alive(keeper):
                    keeper.cancel("it did not stop within its time")
                    keeper.note_stuck()

    async def _stop_in_turn(self, keeper: Keeper) -> None:
        dependants = [other for other in self._keepers.values() if keeper.spec.name in other.spec.needs]
        with trio.CancelScope(deadline=self.stop_at):
            while any(self._alive(other) for other in dependants):
                await self.changed()
        keeper.request_stop()

    @staticmethod
    def _alive(keeper: Keeper) -> bool:
        return keeper.status.state not in (State.STOPPED, State.FAILED)

    async def _settled(self) -> None:
        """Wait until every service is up, or known not to be; where that takes long, say in the log what is waited for."""
        with trio.move_on_after(SLOW_START) as patience:
            await self._all_have_moved()
        if patience.cancelled_caught:
            for keeper in self._keepers.values():
                if keeper.status.state is State.STARTING:
                    keeper.note_slow(SLOW_START)
            await self._all_have_moved()

    async def _all_have_moved(self) -> None:
        while not self._stop.is_set():
            states = {status.name: status.state for status in self._statuses}
            waiting = [keeper.spec for keeper in self._keepers.values() if keeper.status.state is State.PENDING]
            # Whoever waits for a service that is down for now has to wait on; everybody else is about to move.
            held_up = {State.PENDING, State.BACKOFF}
            moving = [spec for spec in waiting if not any(states[need] in held_up for need in spec.needs)]
            if State.STARTING not in states.values() and not moving:
                return
            await self.changed()
        await trio.sleep_forever()  # what stopped it before anybody had it ends this, too


@contextlib.asynccontextmanager
async def open_host(
    settings: Settings | None = None, services: Iterable[ServiceSpec | str] = ()
) -> AsyncIterator[Host]:
    """Start every service and stop them when the block is left.

    Plugins are imported here, in the caller's event loop: the first time in a process, that holds it up for a second or two.

    Args:
        settings: left out: from the settings file and the environment, as `python -m uait` reads them.
        services: further ones, as specs or `module:attr`; they win over installed ones of the same name.

    Yields:
        The host, when every service is ready or known to have failed (`Host.status`). One that fails does not end the block, unless its spec says
        that it is `essential`: then all others are stopped as by `Host.stop`, the block is cancelled, and `ServiceFailed` is raised.

    On cancellation the services drain for `settings.grace` seconds all the same: the block then ends within that and 2 s, but for what shields itself from cancellation: that is waited for, as by
    `Host.stop`. `Host.cancel` is quicker.

    Raises:
        SettingsError, StartError: before anything runs; with every problem at once.
    """
    settings = settings if settings is not None else load_settings()
    with contextlib.ExitStack() as stack:
        plan = check(settings, services)
        host = Host(settings, plan, take(settings, plan, stack), stack.close)
        body: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host._run, name="uait host")
                nursery.start_soon(host._until_cancelled)
                await host._settled()
                try:
                    yield host
                except BaseException as error:
                    body = error
                    raise
                nursery.cancel_scope.cancel(reason="the host is closed")
        except BaseExceptionGroup as group:
            # Callers should not have to know how many nurseries are in here: the block's own exception, or an essential service's failure, comes out bare.
            if (alone := _only(group, body)) is None:
                raise
            raise alone from alone.__cause__


def _only(group: BaseExceptionGroup[BaseException], body: BaseException | None) -> BaseException | None:
    """The one exception that `group` stands for, or None where there are several. A cancellation beside a failure is none of them: it has done what it was for."""
    # Not the same object where the block had a nursery of its own: trio takes groups apart and builds them anew.
    if body is not None and (own := list(leaves(body))):
        return body if list(leaves(group)) == own else None
    failed, rest = group.split(ServiceFailed)
    found: BaseException | None = failed if rest is None or not any(leaves(rest)) else None
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def serve(
    settings: Settings | None = None,
    services: Iterable[ServiceSpec | str] = (),
    *,
    task_status: trio.TaskStatus[Host] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the services as a task: `host = await nursery.start(uait.serve, settings)`. For arguments, errors and cancellation see `open_host`.

    Returns when the host has stopped (`host.stop()`).
    """
    async with open_host(settings, services) as host:
        task_status.started(host)
        await host.wait()


def _broken_status(plugin: Plugin, error: PluginError) -> ServiceStatus:
    return ServiceStatus(
        name=plugin.name,
        title=plugin.name,
        state=State.FAILED,
        since=time.time(),
        version=plugin.version,
        origin=plugin.origin,
        last_error=str(error),
    )
