"""When the client goes, the work for it stops."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio
from echo import Echo, answer
from serving import Running, Serve
from wire import TEXT, Wire, frame, request

from uait.server.disconnect import SCOPE_KEY

SOON = 0.5
"""Seconds; the promise is 0.1, and the machine may be busy."""


async def until_inside(echo: Echo) -> None:
    while not echo.inside:
        await trio.sleep(0.005)


async def until_outside(echo: Echo) -> None:
    with trio.fail_after(SOON):
        while echo.inside:
            await trio.sleep(0.005)


async def leave(wire: Wire, way: str) -> None:
    if way == "close":
        await wire.aclose()
    elif way == "reset":
        wire.reset()
    else:
        await wire.half_close()


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
@pytest.mark.parametrize("path", ["/wait", "/sse", "/listen"])
async def test_the_app_is_told_or_cancelled(serve: Serve, echo: Echo, path: str, way: str) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request(path))
        await until_inside(echo)
        await leave(wire, way)
        await until_outside(echo)
        assert echo.ended in ([f"{path} cancelled"], [f"{path} returned"])
        assert running.server.statistics().failed == 0


async def test_also_where_the_client_has_gone_before_it_is_asked_for_the_body(serve: Serve) -> None:
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            wire.reset()
            try:
                while (await receive())["type"] != "http.disconnect":
                    pass
                await trio.sleep_forever()
            finally:
                ended.set()

    async with serve(app) as running, running.dial() as wire:
        await wire.send(request("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        with trio.fail_after(SOON):
            await ended.wait()


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_also_while_the_request_is_still_coming(serve: Serve, echo: Echo, way: str) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/echo", "Content-Length: 10", method="POST"), b"abc")
        await until_inside(echo)
        await leave(wire, way)
        await until_outside(echo)


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_also_behind_pipelined_requests_which_are_not_begun_then(serve: Serve, echo: Echo, way: str) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/wait"), *[request("/slow")] * 20)
        await until_inside(echo)
        await trio.sleep(0.05)
        await leave(wire, way)
        await until_outside(echo)
        await running.settled()
        assert echo.ended == ["/wait cancelled"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("what", ["a body", "requests", "messages"])
async def test_also_behind_more_than_is_taken_in(serve: Serve, echo: Echo, what: str, way: str) -> None:
    async with serve(echo, message_bytes=60_000) as running, running.dial() as wire:
        if what == "a body":
            await wire.send(request("/wait", "Content-Length: 100000000", method="POST"))
            piece = b"x" * 10_000
        elif what == "requests":
            await wire.send(request("/wait"))
            piece = request("/") * 1000
        else:
            await wire.open_websocket("/ws/wait-for-the-end")
            piece = frame(TEXT, b"x" * 1000) * 10
        await until_inside(echo)
        # An end that the client's system cannot deliver, because nothing more is taken in there, is known to nobody; a reset is.
        left = 50_000 if way == "close" else 100_000_000
        with trio.move_on_after(0.2):
            while left > 0:
                await wire.send(piece)
                left -= len(piece)
        await trio.sleep(0.05)
        await leave(wire, way)
        await until_outside(echo)


async def test_also_for_a_client_that_does_not_read(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial(receive_buffer=4096) as wire:
        await wire.send(request("/big"))
        await until_inside(echo)
        await trio.sleep(0.1)
        wire.reset()
        await until_outside(echo)


@pytest.mark.parametrize("why", ["the body stalls", "the answer is not read", "reset"])
async def test_an_app_that_shields_its_receive_is_told(serve: Serve, why: str) -> None:
    told: list[str] = []
    inside = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        async with trio.open_nursery() as nursery:
            if why == "the answer is not read":

                @nursery.start_soon
                async def talk() -> None:
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    while True:
                        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

            with trio.move_on_after(5, shield=True):
                while (message := await receive())["type"] == "http.request":
                    assert message["more_body"]
                    inside.set()
            told.append(message["type"])
            nursery.cancel_scope.cancel(reason="told")

    limits = {"idle_timeout": 0.3} if why == "the body stalls" else {"send_timeout": 0.3}
    async with serve(app, **limits) as running, running.dial(receive_buffer=4096) as wire:
        await wire.send(request("/", "Content-Length: 10", method="POST"), b"abc")
        await inside.wait()
        if why == "reset":
            wire.reset()
        elif why == "the body stalls":
            assert (await wire.answer()).status == 408
        await running.settled()
    assert told == ["http.disconnect"]


async def test_the_scope_has_who_announces_it(serve: Serve) -> None:
    announced = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        with trio.CancelScope() as mine:
            scope[SCOPE_KEY].add(lambda: mine.cancel(reason="the client left"))
            await trio.sleep_forever()
        announced.append(scope[SCOPE_KEY].gone)
        await trio.lowlevel.checkpoint()
        announced.append("had a moment for itself")

    async with serve(app) as running, running.dial() as wire:
        await wire.send(request())
        await running.settled(1)
        await trio.sleep(0.05)
        await wire.aclose()
        await running.settled()
    assert announced == [True, "had a moment for itself"]


async def test_an_answered_request_announces_nothing(serve: Serve) -> None:
    gone = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        scope[SCOPE_KEY].add(lambda: gone.append(True))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with serve(app) as running, running.dial() as wire:
        await wire.ask()
        await wire.ask()
    assert gone == []


async def test_an_app_that_sends_without_end_to_nobody_does_not_freeze_the_others(serve: Serve) -> None:
    """hypercorn's send returns without a checkpoint then."""
    spinning = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["path"] == "/":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            with trio.move_on_after(0.2, shield=True):
                spinning.set()
                while True:
                    await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async with serve(app) as running, running.dial() as wire:
        await wire.send(request("/spin"))
        await wire.head()
        wire.reset()
        await spinning.wait()
        await still_answers(running)


async def still_answers(running: Running) -> None:
    async with running.dial() as wire:
        assert (await wire.ask()).status == 204


async def test_each_task_that_waits_for_the_end_hears_of_it(serve: Serve) -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await receive()

        async def listen() -> None:
            heard.append((await receive())["type"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(listen)
            await trio.sleep(0.02)
            await answer(send, b"done")

    async with serve(app) as running, running.dial() as wire:
        for _ in range(2):
            assert (await wire.ask()).body == b"done"
        with trio.fail_after(5):
            while len(heard) < 4:
                await trio.sleep(0.001)
    assert set(heard) == {"http.disconnect"}


@pytest.mark.parametrize("status", [204, 304])
async def test_also_behind_an_answer_without_a_body(serve: Serve, status: int) -> None:
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            await send({"type": "http.response.start", "status": status, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        finally:
            ended.set()

    async with serve(app) as running:
        async with running.dial() as wire:
            await wire.send(request())
            await wire.head()
        with trio.fail_after(5):
            await ended.wait()
