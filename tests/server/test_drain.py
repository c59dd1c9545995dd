"""The way out is bounded, whatever clients do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from echo import Echo
from serving import Running, Serve
from wire import Wire, close_frame, dial, handshake, request

from uait.server import ASGIApp, NativeConnections, Phase, ServerLimits, Speak, bind, open_server
from uait.server.listener import CUT, KILL

LATE = 1.5
"""Seconds that a busy machine may add to a bound."""


def test_the_bounds_add_up_to_the_promise() -> None:
    assert CUT + 2 * KILL <= 2


async def open_request(running: Running, wire: Wire, data: bytes) -> None:
    before = running.server.statistics().accepted
    await wire.send(data)
    while running.server.statistics().accepted < before:
        await trio.sleep(0.005)
    await trio.sleep(0.1)


@pytest.mark.parametrize("used", [True, False])
async def test_an_idle_connection_ends_at_once(serve: Serve, either: ASGIApp, used: bool) -> None:
    async with serve(either) as running, running.dial() as wire:
        if used:
            await wire.ask()
        await running.settled(1)
        began = trio.current_time()
        await running.server.drain(10)
        assert trio.current_time() - began < LATE
        assert await wire.rest() == b""
        assert running.server.statistics().stuck == ()


async def test_a_request_in_flight_is_finished_and_told_that_it_was_the_last(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        await open_request(running, wire, request("/slow"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, 10)
            answer = await wire.answer()
            assert (answer.body, answer.headers["connection"]) == (b"slow", "close")
            assert await wire.rest() == b""


async def test_a_request_half_sent_is_still_served(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        await open_request(running, wire, request("/echo", "Content-Length: 4", method="POST")[:20])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, 10)
            await trio.sleep(0.1)
            await wire.send(request("/echo", "Content-Length: 4", method="POST")[20:], b"abcd")
            assert (await wire.answer()).body == b"abcd"


async def test_new_connections_wait_for_the_next_server(speak: Speak, echo: Echo) -> None:
    sockets = bind("localhost", 0)
    port = sockets[0].getsockname()[1]
    with trio.fail_after(20):
        async with open_server(echo, sockets, speak=speak) as first:
            await first.drain(1)
            async with dial(port) as wire:
                await wire.send(request())
                await trio.sleep(0.1)
                assert first.statistics().accepted == 0
                async with open_server(echo, sockets, speak=speak):
                    assert (await wire.answer()).body == b"hello"
    for sock in sockets:
        sock.close()


async def test_new_connections_are_refused_where_that_is_asked_for(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running:
        await running.server.drain(1, refuse=True)
        for host in ("127.0.0.1", "::1"):
            with pytest.raises(ConnectionRefusedError):
                async with running.dial(host):
                    pass


async def test_websockets_are_closed_with_1012(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as talking, running.dial() as deaf:
        await talking.open_websocket("/ws")
        await deaf.open_websocket("/ws/deaf")
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, 10)
            for wire in (talking, deaf):
                assert await wire.close_code() == 1012
                await wire.send(close_frame(1012))
        assert trio.current_time() - began < LATE
        assert running.server.statistics().stuck == ()


async def test_a_websocket_that_is_not_accepted_yet_is_told_to_come_back(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await open_request(running, wire, handshake("/ws/never"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, 10)
            answer = await wire.answer()
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert "retry-after" in answer.headers


async def test_an_app_may_say_goodbye_its_own_way(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            leaving = trio.Event()
            running.drain.add(lambda _: leaving.set())
            await send({"type": "websocket.accept"})
            await leaving.wait()
            await send({"type": "websocket.close", "code": 3001})

    async with serve(app) as running, running.dial() as wire:
        await wire.open_websocket()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, 10)
            assert await wire.close_code() == 3001


HANGING = {
    "never answered": request("/wait"),
    "open stream": request("/sse"),
    "never read": request("/big"),
    "half a body": request("/echo", "Content-Length: 10", method="POST") + b"abc",
    "half a head": request("/")[:-3],
    "pipelined": request("/wait") * 5,
    "websocket flooded and never read": handshake("/ws/flood"),
    "websocket never accepted": handshake("/ws/never"),
}


@asynccontextmanager
async def hanging_clients(running: Running) -> AsyncIterator[None]:
    """All of them at once, each on a connection of its own."""
    async with AsyncExitStack() as stack:
        for data in HANGING.values():
            wire = await stack.enter_async_context(running.dial(receive_buffer=4096))
            await wire.send(data)
        await running.settled(len(HANGING))
        await trio.sleep(0.2)
        yield


@pytest.mark.parametrize("grace", [0, 0.5])
async def test_no_client_can_hold_it_up(serve: Serve, either: ASGIApp, grace: float) -> None:
    async with serve(either) as running, hanging_clients(running):
        began = trio.current_time()
        await running.server.drain(grace)
        assert trio.current_time() - began <= grace + 2 + LATE
        assert running.server.statistics().open == 0
    assert trio.current_time() - began <= grace + 2 + 2 * LATE
    if isinstance(either, Echo):
        assert either.inside == []


async def test_no_client_can_hold_up_the_end_of_the_block(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, AsyncExitStack() as stack:
        await stack.enter_async_context(hanging_clients(running))
        began = trio.current_time()
        clients = stack.pop_all()
    assert trio.current_time() - began <= 2 + LATE
    await clients.aclose()


async def test_no_client_can_hold_up_cancellation(serve: Serve, echo: Echo) -> None:
    async with AsyncExitStack() as clients:
        with trio.CancelScope() as scope:
            async with serve(echo) as running:
                await clients.enter_async_context(hanging_clients(running))
                began = trio.current_time()
                scope.cancel(reason="the test says so")
                await trio.sleep_forever()
        assert trio.current_time() - began <= 2 + LATE
        assert echo.inside == []


async def test_a_sender_that_shields_itself_is_cut_off_with_its_socket(serve: Serve) -> None:
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            with trio.CancelScope(shield=True):
                try:
                    for _ in range(20):
                        await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
                finally:
                    ended.set()

    async with serve(app) as running, running.dial(receive_buffer=4096) as wire:
        await open_request(running, wire, request())
        began = trio.current_time()
        await running.server.drain(0.1)
        assert trio.current_time() - began <= 0.1 + 2 + LATE
        (stuck,) = running.server.statistics().stuck
        assert "Writer" in stuck


@pytest.mark.parametrize("speak", [NativeConnections])
@pytest.mark.parametrize("how", ["drained", "cancelled"])
async def test_a_reader_that_shields_itself_is_cut_off_with_its_socket(serve: Serve, how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            with trio.move_on_after(2 * (2 + LATE), shield=True):
                while (await receive())["type"] != "http.disconnect":
                    pass

    with trio.CancelScope() as scope:
        async with serve(app) as running, running.dial() as wire:
            await open_request(running, wire, request("/", "Content-Length: 10", method="POST") + b"half")
            began = trio.current_time()
            if how == "cancelled":
                scope.cancel(reason="the test says so")
            await running.server.drain(0.1)
            assert trio.current_time() - began <= 0.1 + 2 + LATE
            await running.settled()
    assert trio.current_time() - began <= 0.1 + 2 + LATE
    assert scope.cancelled_caught == (how == "cancelled")


async def test_who_had_to_be_abandoned_is_named(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await open_request(running, wire, request("/wait"))
        host, port = wire.stream.socket.getsockname()  # type: ignore[union-attr]
        await running.server.drain(0.1)
        (stuck,) = running.server.statistics().stuck
        assert stuck.startswith(f"{host}:{port}: Echo._http (echo.py:")
        assert any(stuck in message for message in running.messages)


async def test_a_client_that_has_its_answer_and_stays_is_not_stuck(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await open_request(running, wire, request("/slow", "Content-Length: 10", method="POST"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.server.drain, 0.5)
            assert (await wire.answer()).body == b"slow"
        assert running.server.statistics().stuck == ()


async def test_the_phases_are_announced_in_their_order(serve: Serve, echo: Echo) -> None:
    phases: list[tuple[Phase, float]] = []
    async with serve(echo) as running, running.dial() as wire:
        await open_request(running, wire, request("/wait"))
        running.drain.add(lambda phase: phases.append((phase, trio.current_time())))
        await running.server.drain(0.3)
    (begin, began), (cut, cut_at) = phases
    assert (begin, cut) == (Phase.DRAINING, Phase.CUTTING)
    assert 0.25 <= cut_at - began <= 0.3 + LATE


async def test_draining_twice_is_harmless(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running:
        await running.server.drain(1)
        await running.server.drain(1)


async def test_two_servers_in_one_process_know_nothing_of_each_other(serve: Serve) -> None:
    async with serve(Echo()) as one, serve(Echo()) as two, two.dial() as wire:
        await one.server.drain(1)
        assert (await wire.ask()).headers.get("connection") != "close"


async def test_a_server_can_be_opened_again_and_again_without_leaving_anything(serve: Serve) -> None:
    import os

    before = None
    for _ in range(5):
        async with serve(Echo()) as running, running.dial() as wire:
            await wire.ask()
            await running.server.drain(1)
        tasks, files = trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))
        assert before in (None, (tasks, files))
        before = tasks, files


def test_the_limits_must_be_limits() -> None:
    with pytest.raises(ValueError, match="connections must be above 0"):
        ServerLimits(connections=0)
