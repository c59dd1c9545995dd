from __future__ import annotations

from typing import Any

import pytest
import trio
from echo import Echo
from quart_trio import QuartTrio
from serving import Serve

from uait.errors import ServiceFailed


async def test_startup_comes_before_serving_and_shutdown_after_the_last_connection(serve: Serve, echo: Echo) -> None:
    order: list[str] = []

    class App(Echo):
        async def _live(self, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            order.append("started")
            await receive()
            order.append(f"shutdown with {len(self.inside)} inside")
            await send({"type": "lifespan.shutdown.complete"})

    app = App()
    async with serve(app) as running, running.dial() as wire:
        assert order == ["started"]
        await wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        while not app.inside:
            await trio.sleep(0.01)
    assert order == ["started", "shutdown with 0 inside"]


async def test_what_startup_puts_into_the_state_is_in_every_scope(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["colour"] = "red"
            await send({"type": "lifespan.startup.complete"})
            await trio.sleep_forever()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"].pop("colour").encode()})

    async with serve(app, shutdown_timeout=0.1) as running, running.dial() as wire:
        assert (await wire.ask()).body == b"red"
        assert (await wire.ask()).body == b"red"  # each request has a copy


async def test_a_failed_startup_is_one_error_with_the_real_cause(serve: Serve) -> None:
    app = QuartTrio("failing")

    @app.before_serving
    async def fail() -> None:
        raise ZeroDivisionError("no database")

    with pytest.raises(ServiceFailed, match="startup failed: no database") as caught:
        async with serve(app):
            raise AssertionError("it must not serve")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_a_failed_startup_of_a_plain_app_says_what_it_said(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with pytest.raises(ServiceFailed, match="startup failed: no disk"):
        async with serve(app):
            raise AssertionError


async def test_an_app_that_raises_at_startup_has_failed(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyError("setting")

    with pytest.raises(ServiceFailed, match="startup failed") as caught:
        async with serve(app):
            raise AssertionError
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_startup_without_end_has_failed(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    with pytest.raises(ServiceFailed, match="took longer than"):
        async with serve(app, startup_timeout=0.1):
            raise AssertionError


async def test_a_startup_can_be_cancelled(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(0.1) as scope:
        async with serve(app):
            raise AssertionError
    assert scope.cancelled_caught


@pytest.mark.parametrize("way", ["raises", "returns"])
async def test_an_app_without_lifespan_is_served_all_the_same(serve: Serve, way: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            if way == "raises":
                raise AssertionError("only http here")
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serve(app) as running, running.dial() as wire:
        assert (await wire.ask()).status == 204


async def test_a_crash_of_what_the_app_runs_in_its_nursery_ends_the_server(serve: Serve) -> None:
    app = QuartTrio("crashing")

    async def crash() -> None:
        await trio.sleep(0.05)
        raise ZeroDivisionError("in the background")

    @app.before_serving
    async def start() -> None:
        app.nursery.start_soon(crash)

    with pytest.raises(ServiceFailed, match="in the background") as caught:
        async with serve(app):
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


async def test_shutdown_hooks_run_when_the_block_is_cancelled(serve: Serve) -> None:
    app = QuartTrio("closing")
    closed = []

    @app.after_serving
    async def close() -> None:
        await trio.sleep(0.05)
        closed.append(True)

    with trio.CancelScope() as scope:
        async with serve(app):
            scope.cancel(reason="the test says so")
            await trio.sleep_forever()
    assert closed == [True]


async def test_a_shutdown_without_end_is_cut_off(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await trio.sleep_forever()

    async with serve(app, shutdown_timeout=0.1) as running:
        pass
    assert "the app did not shut down within 0.1 s" in running.messages


async def test_a_failed_shutdown_is_logged_and_nothing_more(serve: Serve) -> None:
    app = QuartTrio("failing")

    @app.after_serving
    async def fail() -> None:
        raise ZeroDivisionError("too late")

    async with serve(app) as running:
        pass
    assert "the app's shutdown failed: too late" in running.messages


async def test_what_the_block_raises_comes_out_as_it_is(serve: Serve, echo: Echo) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with serve(echo):
            raise LookupError("mine")


async def test_an_app_that_goes_on_after_shutdown_is_cancelled(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})

    async with serve(app):
        pass
