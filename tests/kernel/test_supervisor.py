"""One service kept alive, and what its crash does to others: nothing.

The clock is mocked and jumps when every task waits; the listening sockets are real.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from uait.errors import ServiceFailed, Unavailable
from uait.kernel.host import serve
from uait.kernel.restart import RestartPolicy
from uait.kernel.service import Context, ServiceSpec, service
from uait.kernel.status import State
from uait.settings import Settings

QUICK = RestartPolicy(base=0.1, cap=1, intensity=3, window=60)


def crashes_in_factory(ctx: Context) -> None:
    raise RuntimeError("no luck")


def crashes_by_returning_nothing(ctx: Context) -> None:
    return None


def crashes_at_once_in_the_background(ctx: Context) -> Any:
    async def crash() -> None:
        raise RuntimeError("no luck")

    ctx.nursery.start_soon(crash)
    return _idle


def crashes_in_the_background_later(ctx: Context) -> Any:
    async def crash() -> None:
        await trio.sleep(1)
        raise RuntimeError("no luck")

    ctx.nursery.start_soon(crash)
    return _idle


def crashes_in_lifespan(ctx: Context) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no luck"})

    return app


async def _idle(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("not asked")


@pytest.mark.parametrize(
    ("crash", "message"),
    [
        (crashes_in_factory, "no luck"),
        (crashes_by_returning_nothing, "not an ASGI app"),
        (crashes_at_once_in_the_background, "no luck"),
        (crashes_in_the_background_later, "no luck"),
        (crashes_in_lifespan, "no luck"),
    ],
)
async def test_a_crash_of_any_kind_harms_no_other(
    crash: Any, message: str, host_of: Any, plain: Any, ask: Any, until: Any, autojump_clock: Any
) -> None:
    @service(restart=QUICK)
    async def bad(ctx: Context) -> Any:
        return crash(ctx)

    good = service(name="good")(plain)
    async with host_of(bad, good) as host:
        statuses = await until(host, lambda now: now["bad"].state is State.FAILED)

        assert statuses["bad"].incarnation == 4
        assert statuses["bad"].restarts == 3
        assert message in (statuses["bad"].last_error or "")
        assert statuses["good"].incarnation == 1
        assert await ask(host, "good", "/still") == {"path": "/still"}


async def test_a_factory_that_hangs_is_not_waited_for_for_ever(host_of: Any, until: Any, autojump_clock: Any) -> None:
    @service(start_timeout=5, restart=RestartPolicy(intensity=0))
    async def slow(ctx: Context) -> Any:
        await trio.sleep_forever()

    started = trio.current_time()
    async with host_of(slow) as host:
        statuses = await until(host, lambda now: now["slow"].state is State.FAILED)

    assert statuses["slow"].last_error == "ServiceFailed: it was not ready within 5 s"
    assert trio.current_time() - started == pytest.approx(5, abs=0.1)


async def test_whoever_waits_for_a_slow_start_is_told_what_it_waits_for(
    host_of: Any, caplog: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    @service(start_timeout=30, restart=RestartPolicy(intensity=0))
    async def hangs(ctx: Context) -> Any:
        await trio.sleep_forever()

    @service(start_timeout=30)
    async def slow(ctx: Context) -> AsyncIterator[Any]:
        await trio.sleep(6)
        yield _idle

    @service()
    async def brisk(ctx: Context) -> Any:
        await trio.sleep(4)
        return _idle

    async with host_of(hangs, slow, brisk):
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    (first, second) = sorted(told)  # each once, and nothing about what is quick
    assert first.startswith("hangs is not ready after 5 s, and is given up after 30 s; it is in ")
    assert ".hangs (test_supervisor.py:" in first
    assert second.startswith("slow is not ready after 5 s")
    assert ".slow (test_supervisor.py:" in second


async def test_it_recovers_with_a_fresh_instance_on_the_same_port(
    host_of: Any, plain_app: Any, ask: Any, until: Any, autojump_clock: Any
) -> None:
    incarnations: list[Context] = []
    crash = trio.Event()

    @service(restart=QUICK)
    async def phoenix(ctx: Context) -> Any:
        incarnations.append(ctx)

        async def crash_once() -> None:
            await crash.wait()
            if len(incarnations) == 1:
                raise RuntimeError("once")

        ctx.nursery.start_soon(crash_once)
        return plain_app

    async with host_of(phoenix) as host:
        before = host.addresses("phoenix")
        crash.set()
        statuses = await until(
            host, lambda now: now["phoenix"].incarnation == 2 and now["phoenix"].state is State.READY
        )

        assert incarnations[0] is not incarnations[1]
        assert incarnations[0].registry is incarnations[1].registry
        assert before
        assert statuses["phoenix"].addresses == before
        assert statuses["phoenix"].last_error == "RuntimeError: once"


async def test_an_in_process_call_waits_while_the_service_starts_again(
    host_of: Any, plain_app: Any, ask: Any, autojump_clock: Any
) -> None:
    starts = 0

    @service(restart=RestartPolicy(base=2, cap=2))
    async def flaky(ctx: Context) -> Any:
        nonlocal starts
        starts += 1
        if starts < 2:
            raise RuntimeError("not yet")
        return plain_app

    async with host_of(flaky) as host:
        assert host.status()[0].state is State.BACKOFF
        assert await ask(host, "flaky", "/x") == {"path": "/x"}


async def test_a_call_of_a_failed_service_is_refused_at_once(host_of: Any, ask: Any, autojump_clock: Any) -> None:
    @service(restart=RestartPolicy(intensity=0))
    async def bad(ctx: Context) -> Any:
        raise RuntimeError("no luck")

    async with host_of(bad) as host:
        with pytest.raises(Unavailable, match="bad has failed, and is not started again"):
            await ask(host, "bad")


async def test_a_crash_is_reported_once_with_service_phase_and_cause(
    host_of: Any, caplog: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    @service(restart=RestartPolicy(intensity=0))
    async def bad(ctx: Context) -> Any:
        async with trio.open_nursery():
            try:
                raise OSError("the disk")
            except OSError as error:
                raise RuntimeError("no luck") from error

    with caplog.at_level(logging.ERROR, "uait"):
        async with host_of(bad):
            pass

    crashes = [record.message for record in caplog.records if "crashed" in record.message]
    assert crashes == ["bad crashed while starting (incarnation 1): RuntimeError: no luck <- OSError: the disk"]


async def test_an_essential_failure_stops_the_host_with_one_bare_error(
    host_of: Any, plain: Any, autojump_clock: Any
) -> None:
    @service(essential=True, restart=RestartPolicy(intensity=0))
    async def vital(ctx: Context) -> Any:
        async def crash() -> None:
            await trio.sleep(1)
            raise RuntimeError("no luck")

        ctx.nursery.start_soon(crash)
        return _idle

    with pytest.raises(ServiceFailed, match="vital, which is essential, has failed: RuntimeError: no luck"):
        async with host_of(vital, service(name="good")(plain)), trio.open_nursery():
            await trio.sleep_forever()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_interrupts_are_never_swallowed(
    interrupt: type[BaseException], host_of: Any, autojump_clock: Any
) -> None:
    @service
    async def rude(ctx: Context) -> Any:
        raise interrupt

    with pytest.RaisesGroup(interrupt, flatten_subgroups=True):
        async with host_of(rude):
            await trio.sleep_forever()


async def test_it_starts_after_what_it_needs_and_stops_before_it(
    host_of: Any, plain_app: Any, autojump_clock: Any
) -> None:
    order: list[str] = []

    def recorded(name: str, *needs: str) -> Any:
        @service(name=name, needs=needs)
        async def factory(ctx: Context) -> AsyncIterator[Any]:
            await trio.sleep(1)
            order.append(f"{name} up")
            yield plain_app
            order.append(f"{name} down")

        return factory

    async with host_of(recorded("a", "b"), recorded("b", "c"), recorded("c")):
        assert order == ["c up", "b up", "a up"]

    assert order[3:] == ["a down", "b down", "c down"]


async def test_what_needs_a_failed_service_has_failed_too(host_of: Any, plain: Any, autojump_clock: Any) -> None:
    @service(restart=RestartPolicy(intensity=0))
    async def bad(ctx: Context) -> Any:
        raise RuntimeError("no luck")

    async with host_of(bad, service(name="poor", needs=["bad"])(plain)) as host:
        statuses = {status.name: status for status in host.status()}

        assert statuses["poor"].state is State.FAILED
        assert statuses["poor"].last_error == "ServiceFailed: bad, which it needs, is failed"


async def test_teardown_follows_the_yield_and_background_tasks_end_before_it(
    host_of: Any, plain_app: Any, autojump_clock: Any
) -> None:
    order: list[str] = []

    @service
    async def tidy(ctx: Context) -> AsyncIterator[Any]:
        async def work() -> None:
            try:
                await trio.sleep_forever()
            finally:
                order.append("background ended")

        ctx.nursery.start_soon(work)
        yield plain_app
        order.append("resources closed")

    async with host_of(tidy):
        pass

    assert order == ["background ended", "resources closed"]


async def test_a_hanging_teardown_is_cancelled_within_the_bound(
    host_of: Any, plain_app: Any, autojump_clock: Any
) -> None:
    @service
    async def clingy(ctx: Context) -> AsyncIterator[Any]:
        yield plain_app
        await trio.sleep_forever()

    async with host_of(clingy, grace=3) as host:
        started = trio.current_time()

    assert trio.current_time() - started <= 3 + 2
    assert host.status()[0].state is State.STOPPED


@pytest.mark.parametrize("word", ["request_stop", "cancel"])
async def test_an_apps_own_shutdown_that_hangs_is_ended_within_the_bound(
    word: str, host_of: Any, autojump_clock: Any
) -> None:
    @service
    async def clingy(ctx: Context) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await trio.sleep_forever()

        return app

    async with host_of(clingy, grace=0) as host:
        began = trio.current_time()
        getattr(host, word)()
        await host.wait()

        assert trio.current_time() - began <= 2
        assert host.status()[0].stuck == ""


async def test_a_task_that_resists_is_named_with_the_line_it_hangs_in(
    host_of: Any, plain_app: Any, until: Any, autojump_clock: Any
) -> None:
    let_go = trio.Event()

    @service
    async def stubborn(ctx: Context) -> AsyncIterator[Any]:
        yield plain_app
        with trio.CancelScope(shield=True):
            await let_go.wait()

    async with trio.open_nursery() as nursery:

        async def release(host: Any) -> None:
            await until(host, lambda now: now["stubborn"].stuck)
            let_go.set()

        async with host_of(stubborn, grace=1) as host:
            nursery.start_soon(release, host)

    assert "stubborn (test_supervisor.py:" in host.status()[0].stuck


async def test_requests_in_process_may_finish_within_the_grace_period(
    host_of: Any, ask: Any, autojump_clock: Any
) -> None:
    @service
    async def slow(ctx: Context) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise RuntimeError("only http")
            await trio.sleep(2)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'"done"'})

        return app

    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        async with host_of(slow, grace=5) as host:

            async def call() -> None:
                answers.append(await ask(host, "slow"))

            nursery.start_soon(call)
            await trio.sleep(1)
            started = trio.current_time()

        assert trio.current_time() - started == pytest.approx(1, abs=0.1)

    assert answers == ["done"]


@pytest.mark.parametrize("end", ["a crash", "a stop"])
async def test_no_call_goes_on_in_a_dead_service(host_of: Any, ask: Any, end: str, autojump_clock: Any) -> None:
    """Of an app that knows nothing of drains, too."""
    ended: list[float] = []

    @service
    async def deaf(ctx: Context) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise RuntimeError("only http")
            try:
                await trio.sleep_forever()
            finally:
                ended.append(trio.current_time())

        async def crash() -> None:
            await trio.sleep(2)
            raise RuntimeError("no luck")

        if end == "a crash":
            ctx.nursery.start_soon(crash)
        return app

    async with host_of(deaf, grace=1) as host:
        began = trio.current_time()
        if end == "a stop":
            trio.lowlevel.spawn_system_task(_after, 1, host.request_stop)
        with pytest.raises(Unavailable, match="ended while it answered"):
            await ask(host, "deaf")
        assert trio.current_time() - began == pytest.approx(2.5, abs=0.1)
        assert ended == [pytest.approx(trio.current_time(), abs=0.1)]


async def _after(seconds: float, call: Any) -> None:
    await trio.sleep(seconds)
    call()


async def test_a_second_word_stops_at_once(host_of: Any, autojump_clock: Any) -> None:
    inside = trio.Event()

    @service
    async def slow(ctx: Context) -> Any:
        async def work() -> None:
            inside.set()
            await trio.sleep_forever()

        ctx.nursery.start_soon(work)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise RuntimeError("only http")
            await trio.sleep_forever()

        return app

    async with host_of(slow, grace=100) as host, trio.open_nursery() as nursery:

        async def call() -> None:
            local = await host.local("slow")
            with trio.move_on_after(50):
                await local.app({"type": "http", "path": "/"}, trio.sleep_forever, trio.sleep_forever)

        nursery.start_soon(call)
        await inside.wait()
        await trio.sleep(1)
        host.request_stop()
        await trio.sleep(1)
        started = trio.current_time()
        host.cancel()
        await host.wait()

        assert trio.current_time() - started < 2
        nursery.cancel_scope.cancel(reason="the test has seen enough")


async def test_a_stop_does_not_wait_for_a_start(tmp_path: Path, autojump_clock: Any) -> None:
    starting, closed = trio.Event(), trio.Event()

    async def slow(ctx: Context) -> Any:
        starting.set()
        try:
            await trio.sleep_forever()
        finally:
            closed.set()

    settings = Settings(data_dir=tmp_path, only=("slow",), grace=30.0, environ={})
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, settings, [ServiceSpec(factory=slow, name="slow")])
        await starting.wait()
        nursery.cancel_scope.cancel(reason="enough")

    assert closed.is_set()
    assert trio.current_time() - began < 1


async def test_a_stop_finds_a_service_that_is_about_to_start(host_of: Any, plain: Any, autojump_clock: Any) -> None:
    """Between the word that it starts and its first own task there is a moment; a stop can fall into it."""

    @service(restart=RestartPolicy(base=1, cap=1, intensity=9))
    async def flaky(ctx: Context) -> Any:
        raise RuntimeError("not yet")

    for word in ("request_stop", "cancel") * 10:  # trio shuffles what runs in one go
        async with host_of(flaky) as host:
            seen = host.status()
            while seen[0].state is not State.STARTING:
                seen = await host.changed(seen)
            getattr(host, word)()
            await host.wait()

        assert host.status()[0].state is State.STOPPED


async def test_a_stop_finds_a_crashed_service_that_waits_for_what_it_needs(
    host_of: Any, plain_app: Any, until: Any, autojump_clock: Any
) -> None:
    starts = {"below": 0, "above": 0}
    crash = trio.Event()

    async def crash_together(ctx: Context) -> None:
        await crash.wait()
        raise RuntimeError("both")

    async def make(ctx: Context) -> Any:
        starts[ctx.name] += 1
        if starts[ctx.name] > 1:
            await trio.sleep_forever()
        ctx.nursery.start_soon(crash_together, ctx)
        return plain_app

    below = ServiceSpec(factory=make, name="below", start_timeout=500)
    above = ServiceSpec(factory=make, name="above", needs=["below"])
    async with host_of(below, above, grace=100) as host:
        crash.set()
        await until(host, lambda now: now["below"].state is State.STARTING and now["above"].state is State.BACKOFF)
        await trio.sleep(10)
        began = trio.current_time()

    assert trio.current_time() - began < 1


@pytest.mark.parametrize("where", ["lifespan", "background"])
async def test_a_teardown_that_hangs_after_a_crash_does_not_keep_it_from_starting_again(
    where: str, host_of: Any, until: Any, caplog: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    crash = trio.Event()

    async def later() -> None:
        await crash.wait()
        raise RuntimeError("no luck")

    @service(restart=QUICK)
    async def clingy(ctx: Context) -> AsyncIterator[Any]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                raise RuntimeError("only lifespan")
            await receive()
            await send({"type": "lifespan.startup.complete"})
            if where == "lifespan":
                await later()
            await receive()

        if where == "background":
            ctx.nursery.start_soon(later)
        try:
            yield app
        finally:
            await trio.sleep_forever()

    async with host_of(clingy) as host:
        began = trio.current_time()
        crash.set()
        now = await until(host, lambda now: now["clingy"].incarnation == 2)

        assert trio.current_time() - began <= 6
        assert "no luck" in now["clingy"].last_error
        assert now["clingy"].addresses == ()


async def test_nobody_is_let_into_a_service_that_closes(
    host_of: Any, plain_app: Any, ask: Any, autojump_clock: Any
) -> None:
    closing = trio.Event()

    @service
    async def slow(ctx: Context) -> AsyncIterator[Any]:
        yield plain_app
        closing.set()
        await trio.sleep(1)

    async with host_of(slow, grace=5) as host:
        host.request_stop()
        await closing.wait()
        with pytest.raises(Unavailable, match="slow is stopped"):
            await ask(host, "slow")


@pytest.mark.parametrize("end", ["a crash", "a stop"])
async def test_nobody_is_let_into_an_app_that_shuts_down(
    host_of: Any, plain_app: Any, ask: Any, end: str, autojump_clock: Any
) -> None:
    closing = trio.Event()
    entered: list[str] = []

    @service
    async def slow(ctx: Context) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                entered.append("closing" if closing.is_set() and host.status()[0].incarnation == 1 else "open")
                await plain_app(scope, receive, send)
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            closing.set()
            await trio.sleep(1)
            await send({"type": "lifespan.shutdown.complete"})

        async def crash() -> None:
            await trio.sleep(1)
            if not closing.is_set():
                raise RuntimeError("no luck")

        if end == "a crash":
            ctx.nursery.start_soon(crash)
        return app

    async with host_of(slow, grace=5) as host:
        if end == "a stop":
            host.request_stop()
        await closing.wait()
        assert host.status()[0].state is State.DRAINING
        if end == "a stop":
            with pytest.raises(Unavailable, match="slow is stopped"):
                await ask(host, "slow")
        else:
            await ask(host, "slow")
    assert entered == (["open"] if end == "a crash" else [])


async def test_nobody_is_let_into_an_app_that_ended_just_now(host_of: Any, plain_app: Any, autojump_clock: Any) -> None:
    """Between the question where a service runs and the call it may have ended."""

    @service(name="plain")
    async def plain(ctx: Context) -> Any:
        return plain_app

    async with host_of(plain, grace=1) as host:
        local = await host.local("plain")
        assert local is not None
        await host.stop()
        with pytest.raises(Unavailable):
            await local.app({"type": "http", "path": "/"}, trio.sleep_forever, trio.sleep)


async def test_what_is_stopped_has_no_addresses(host_of: Any, plain: Any, autojump_clock: Any) -> None:
    async with host_of(service(name="one")(plain)) as host:
        assert host.addresses("one")

    assert host.addresses("one") == ()


async def test_an_essential_failure_lets_the_others_finish_what_is_under_way(
    host_of: Any, ask: Any, autojump_clock: Any
) -> None:
    answers: list[Any] = []

    @service(essential=True, restart=RestartPolicy(intensity=0))
    async def vital(ctx: Context) -> Any:
        async def crash() -> None:
            await trio.sleep(1)
            raise RuntimeError("no luck")

        ctx.nursery.start_soon(crash)
        return _idle

    @service
    async def slow(ctx: Context) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise RuntimeError("only http")
            await trio.sleep(2)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'"done"'})

        return app

    async with trio.open_nursery() as nursery:

        async def call(host: Any) -> None:
            answers.append(await ask(host, "slow"))

        with pytest.raises(ServiceFailed, match="vital, which is essential"):
            async with host_of(vital, slow, grace=5) as host:
                nursery.start_soon(call, host)
                await trio.sleep_forever()

    assert answers == ["done"]
    assert {status.name: status.state for status in host.status()} == {"vital": State.FAILED, "slow": State.STOPPED}


async def test_an_essential_failure_at_the_start_is_raised_before_anybody_has_the_host(
    host_of: Any, plain: Any, autojump_clock: Any
) -> None:
    @service(essential=True, restart=RestartPolicy(intensity=0))
    async def vital(ctx: Context) -> Any:
        raise RuntimeError("no luck")

    with pytest.raises(ServiceFailed, match="no luck"):
        async with host_of(vital, service(name="good")(plain)):
            pytest.fail("nobody should get here")


async def test_a_second_word_finds_a_task_that_resists(host_of: Any, plain_app: Any, autojump_clock: Any) -> None:
    let_go = trio.Event()

    @service
    async def stubborn(ctx: Context) -> AsyncIterator[Any]:
        yield plain_app
        with trio.CancelScope(shield=True):
            await let_go.wait()

    async with host_of(stubborn, grace=300) as host:
        host.request_stop()
        await trio.sleep(1)
        host.cancel()
        await trio.sleep(3)
        stuck = host.status()[0].stuck
        let_go.set()

    assert "stubborn (test_supervisor.py:" in stuck


async def test_the_logged_traceback_begins_in_the_service(
    host_of: Any, caplog: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    @service(restart=RestartPolicy(intensity=0))
    async def bad(ctx: Context) -> Any:
        async def crash() -> None:
            raise RuntimeError("no luck")

        ctx.nursery.start_soon(crash)
        await trio.sleep(1)

    with caplog.at_level(logging.ERROR, "uait"):
        async with host_of(bad):
            pass

    (record,) = [record for record in caplog.records if "crashed" in record.message]
    lines = logging.Formatter().formatException(record.exc_info).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "in crash" in lines[1]
    assert lines[-1] == "RuntimeError: no luck"
