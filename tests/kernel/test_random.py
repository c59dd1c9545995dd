"""Lives of services drawn at random: crashes, hangs and slow teardowns in every mixture, ended in every way. What must hold holds in all of them.

The clock is mocked, so that minutes pass in milliseconds; the listening sockets are real.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uait.calls.client import Calls
from uait.errors import ServiceFailed, UaitError
from uait.kernel.host import Host, open_host
from uait.kernel.restart import RestartPolicy
from uait.kernel.service import Context, ServiceSpec
from uait.kernel.status import State
from uait.settings import Settings

GRACE = 5.0
NEEDS = {"ground": (), "middle": ("ground",), "top": ("middle", "ground"), "calm": ()}
"""`calm` does nothing wrong, ever, and nobody needs it."""

FOREVER = math.inf
MOMENTS = st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0, 3.0])
LONG = st.sampled_from([0.0, 0.1, 1.0, 4.0, 8.0, FOREVER])


@attrs.frozen
class Life:
    """What one incarnation does: how long until it is up, in which place it crashes and when, how long its teardown takes."""

    start: float
    crash: str
    after: float
    teardown: float


LIVES = st.builds(
    Life,
    start=st.sampled_from([0.0, 0.0, 0.1, 2.0, FOREVER]),
    crash=st.sampled_from(["never", "factory", "background", "lifespan", "early background", "both"]),
    after=MOMENTS,
    teardown=LONG,
)
CALM = Life(start=0, crash="never", after=0, teardown=0)


@attrs.define
class World:
    """What the services of one run did."""

    lives: dict[str, list[Life]]
    made: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(NEEDS, 0))
    inside: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)
    host: Host | None = None

    @contextmanager
    def note(self, what: str) -> Iterator[None]:
        self.inside.append(what)
        try:
            yield
        finally:
            self.inside.remove(what)

    def next_life(self, name: str) -> Life:
        self.made[name] += 1
        lives = self.lives[name]
        return lives.pop(0) if lives else CALM

    async def factory(self, ctx: Context) -> AsyncIterator[Any]:
        life = self.next_life(ctx.name)
        if f"resources of {ctx.name}" in self.inside:
            self.wrong.append(f"two incarnations of {ctx.name} at once")
        with self.note(f"resources of {ctx.name}"):
            if life.crash in ("early background", "both"):
                ctx.nursery.start_soon(self.background, ctx, life.after)
            await trio.sleep(life.start)
            if life.crash == "factory":
                raise RuntimeError("no luck in the factory")
            if life.crash == "background":
                ctx.nursery.start_soon(self.background, ctx, life.after)
            try:
                yield self.app(life)
                self.check_order(ctx.name)
            finally:
                await trio.sleep(life.teardown)

    async def background(self, ctx: Context, after: float) -> None:
        with self.note(f"background of {ctx.name}"):
            await trio.sleep(after)
            raise RuntimeError("no luck in the background")

    def check_order(self, name: str) -> None:
        """It was told to stop: then those that need it have ended, or had their time."""
        assert self.host is not None
        for other, needs in NEEDS.items():
            if name in needs and f"resources of {other}" in self.inside and trio.current_time() < self.host.stop_at:
                self.wrong.append(f"{name} closed before {other}")

    def app(self, life: Life) -> Any:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                if life.crash in ("lifespan", "both"):
                    await trio.sleep(life.after)
                    raise RuntimeError("no luck in the lifespan")
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
            else:
                await trio.sleep(float(scope["path"].removeprefix("/")))
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body"})

        return serve

    async def call(self, host: Host, name: str, after: float, seconds: float) -> None:
        """A request that begins `after` seconds from now; nothing is promised of its end but that it has one."""
        await trio.sleep(after)
        with suppress(UaitError):
            async with Calls(host, caller="test") as calls:
                await calls.client(name).request("GET", f"/{min(seconds, 9.0)}", timeout=20)

    async def watch(self, host: Host) -> None:
        """What must be true of the statuses at every moment."""
        seen = host.status()
        while True:
            for status in seen:
                if (status.state is State.READY) > bool(status.addresses):
                    self.wrong.append(f"{status.name} is ready without an address")
                if status.addresses and status.state not in (State.READY, State.DRAINING):
                    self.wrong.append(f"{status.name} is {status.state} and has addresses")
                if status.incarnation > status.restarts + 1:
                    self.wrong.append(f"{status.name} started more often than it crashed")
                if status.name == "calm" and (status.incarnation != 1 or status.last_error):
                    self.wrong.append("calm was touched")
            seen = await host.changed(seen)


def specs_of(world: World, essential: str | None) -> Sequence[ServiceSpec]:
    policy = RestartPolicy(base=0.5, cap=2, intensity=3, window=60)
    return [
        ServiceSpec(
            factory=world.factory, name=name, needs=needs, restart=policy, start_timeout=20, essential=name == essential
        )
        for name, needs in NEEDS.items()
    ]


async def live(
    world: World, data_dir: Path, end: str, after: float, essential: str | None, calls: Sequence[Any]
) -> None:
    config = Settings(data_dir=data_dir, only=tuple(NEEDS), grace=GRACE, environ={})
    stop_began = math.inf
    with trio.fail_after(10_000), suppress(ServiceFailed):
        async with trio.open_nursery() as around:
            with trio.CancelScope() as embedder:
                if end == "cancel at once":
                    embedder.deadline = stop_began = trio.current_time() + after
                try:
                    async with open_host(config, specs_of(world, essential)) as world.host:
                        host = world.host
                        around.start_soon(world.watch, host)
                        for call in calls:
                            around.start_soon(world.call, host, *call)
                        await trio.sleep(after)
                        stop_began = min(stop_began, trio.current_time())
                        if end == "stop":
                            await host.stop()
                        elif end == "cancel the host":
                            host.cancel()
                            await host.wait()
                        elif end == "stop, then cancel":
                            host.request_stop()
                            await trio.sleep(0.5)
                            host.cancel()
                        elif end == "cancel the embedder":
                            embedder.cancel(reason="the embedder leaves")
                except ServiceFailed:
                    stop_began = min(stop_began, world.host.stop_at - GRACE if world.host else trio.current_time())
            if stop_began < math.inf and trio.current_time() - stop_began > GRACE + 2:
                world.wrong.append(f"the stop took {trio.current_time() - stop_began} s")
            around.cancel_scope.cancel(reason="the host has ended")
    world.wrong += [f"left behind: {what}" for what in world.inside]
    if world.host is not None:
        world.wrong += [
            f"{status.name} is {status.state} after the end"
            for status in world.host.status()
            if status.state not in (State.STOPPED, State.FAILED)
        ]
        world.wrong += [f"{status.name} hung in {status.stuck}" for status in world.host.status() if status.stuck]


@given(
    lives=st.fixed_dictionaries({name: st.lists(LIVES, max_size=4) for name in ("ground", "middle", "top")}),
    end=st.sampled_from(
        ["leave", "stop", "cancel the host", "stop, then cancel", "cancel the embedder", "cancel at once"]
    ),
    after=st.sampled_from([0.0, 0.0005, 0.1, 0.6, 1.0, 2.5, 7.0, 40.0]),
    essential=st.sampled_from([None, None, "ground", "top"]),
    calls=st.lists(st.tuples(st.sampled_from(sorted(NEEDS)), MOMENTS, LONG), max_size=4),
)
@example(  # told to stop between its crash and the moment at which that is noticed
    lives={"ground": [], "middle": [], "top": [Life(start=0.0, crash="lifespan", after=0.0, teardown=8.0)]},
    end="leave",
    after=0.0,
    essential=None,
    calls=[],
)
@example(  # a failure and a cancellation at the same moment
    lives={"ground": [], "middle": [], "top": [Life(start=0.0, crash="factory", after=0.0, teardown=0.0)] * 4},
    end="cancel the embedder",
    after=7.0,
    essential="top",
    calls=[("calm", 0.0, 8.0)],
)
@settings(max_examples=60, deadline=None)
def test_every_life_ends_well(
    lives: dict[str, list[Life]],
    end: str,
    after: float,
    essential: str | None,
    calls: Sequence[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    world = World({**{name: list(each) for name, each in lives.items()}, "calm": []})
    trio.run(
        live,
        *(world, tmp_path_factory.mktemp("life"), end, after, essential, calls),
        clock=trio.testing.MockClock(autojump_threshold=0),
    )

    assert world.wrong == []
