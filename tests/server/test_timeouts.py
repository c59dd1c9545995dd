"""Clients that let us wait."""

from __future__ import annotations

import pytest
import trio
from echo import Echo
from serving import Serve
from wire import request

from uait.server import ASGIApp


@pytest.mark.parametrize("requests", [1, 3])
async def test_an_idle_connection_is_closed(serve: Serve, either: ASGIApp, requests: int) -> None:
    async with serve(either, idle_timeout=0.2) as running, running.dial() as wire:
        for _ in range(requests):
            assert (await wire.ask()).status == 200
        began = trio.current_time()
        assert await wire.rest() == b""
        assert trio.current_time() - began >= 0.15


async def test_a_request_starts_the_idle_time_anew(serve: Serve, either: ASGIApp) -> None:
    async with serve(either, idle_timeout=0.5) as running, running.dial() as wire:
        for _ in range(4):
            assert (await wire.ask()).status == 200
            await trio.sleep(0.25)


async def test_the_time_for_a_head_begins_with_its_first_byte(serve: Serve, either: ASGIApp) -> None:
    async with serve(either, header_timeout=0.4) as running, running.dial() as wire:
        assert (await wire.ask()).status == 200
        await trio.sleep(0.6)
        await wire.send(request()[:10])
        await trio.sleep(0.1)
        await wire.send(request()[10:])
        assert (await wire.answer()).status == 200


async def test_a_connection_that_says_nothing_is_closed(serve: Serve, echo: Echo) -> None:
    async with serve(echo, header_timeout=0.2) as running, running.dial() as wire:
        assert await wire.rest() == b""


@pytest.mark.parametrize("after", [0, 1])
async def test_a_head_that_drips_is_given_up(serve: Serve, either: ASGIApp, after: int) -> None:
    async with serve(either, header_timeout=0.3) as running, running.dial() as wire:
        for _ in range(after):
            await wire.ask()
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def drip() -> None:
                for byte in request("/", "X: " + "y" * 1000):
                    await wire.send(bytes([byte]))
                    await trio.sleep(0.02)

            answer = await wire.answer()
            nursery.cancel_scope.cancel(reason="answered")
        assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
        assert trio.current_time() - began < 5


async def test_a_body_that_stops_coming_is_given_up(serve: Serve, echo: Echo) -> None:
    async with serve(echo, idle_timeout=0.2) as running, running.dial() as wire:
        await wire.send(request("/echo", "Content-Length: 10", method="POST"), b"abc")
        answer = await wire.answer()
        assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")
        assert await wire.rest() == b""
    assert echo.ended == ["/echo raised ConnectionError"] or echo.ended == ["/echo cancelled"]


async def test_a_long_answer_is_no_idle_time(serve: Serve, either: ASGIApp) -> None:
    async with serve(either, idle_timeout=0.1, header_timeout=0.1) as running, running.dial() as wire:
        assert (await wire.ask("/slow")).body == b"slow"


async def test_a_client_that_does_not_read_is_dropped(serve: Serve, echo: Echo) -> None:
    async with serve(echo, send_timeout=0.3) as running, running.dial(receive_buffer=4096) as wire:
        await wire.send(request("/big"))
        while not echo.inside:
            await trio.sleep(0.01)
        await running.settled()
        assert echo.ended == ["/big cancelled"]


async def test_a_client_that_asks_on_and_on_and_does_not_read_is_dropped(serve: Serve, echo: Echo) -> None:
    async with serve(echo, send_timeout=0.3) as running, running.dial(receive_buffer=4096) as wire:
        with trio.move_on_after(0.2):
            await wire.send(request("/big"), request("/") * 100_000)
        await running.settled()
        assert echo.ended == ["/big cancelled"]


async def test_a_client_that_reads_slowly_is_not_dropped(serve: Serve, echo: Echo) -> None:
    async with serve(echo, send_timeout=0.5) as running, running.dial(receive_buffer=4096) as wire:
        await wire.send(request("/big"))
        await wire.head()
        for _ in range(15):
            await wire.stream.receive_some(100_000)
            await trio.sleep(0.1)
        assert echo.inside == ["/big"]
