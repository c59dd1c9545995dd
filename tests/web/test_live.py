"""The same over real sockets: our app on our server, with clients that others wrote."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
import trio_websocket
from quart import websocket

from uait.server import bind, open_server
from uait.settings import Limits
from uait.web import Event, body, event_stream


@pytest.fixture
async def app(make_app: Any) -> Any:
    app = make_app(limits=Limits(body_bytes=10_000))
    app.ended = trio.Event()

    @app.post("/echo")
    async def echo() -> Any:
        return await body(dict[str, Any])

    @app.get("/sleep")
    async def sleep() -> None:
        try:
            await trio.sleep_forever()
        finally:
            app.ended.set()

    @app.get("/events")
    async def events() -> Any:
        async def count() -> AsyncIterator[Event]:
            try:
                yield Event("first", id="1")
                await trio.sleep_forever()
            finally:
                app.ended.set()

        return event_stream(count(), endless=True)

    @app.websocket("/ws")
    async def ws() -> None:
        try:
            while True:
                message = await websocket.receive()
                if message == "crash":
                    raise ValueError("/secret")
                await websocket.send(message)
        finally:
            app.ended.set()

    return app


@contextlib.asynccontextmanager
async def serve(app: Any) -> AsyncIterator[tuple[Any, str]]:
    async with contextlib.AsyncExitStack() as stack:
        sockets = [stack.enter_context(socket) for socket in bind("127.0.0.1", 0)]
        server = await stack.enter_async_context(open_server(app, sockets, drain=app.context.drain))
        yield server, server.addresses[0]


async def ended(app: Any) -> None:
    with trio.fail_after(5):
        await app.ended.wait()


async def test_requests_and_refusals(app: Any) -> None:
    async with serve(app) as (_, url), httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/echo", json={"a": 1})
        assert (response.status_code, response.json()) == (200, {"a": 1})
        response = await client.post("/echo", json={"a": "x" * 20_000})
        assert (response.status_code, response.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
        response = await client.get("/sleep", headers={"X-Request-Timeout-Ms": "50"})
        assert (response.status_code, response.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
        assert (await client.get("/a%00b")).status_code == 404
        assert (await client.head("/health")).content == b""


@pytest.mark.parametrize("path", ["/sleep", "/events"])
async def test_when_the_client_leaves_the_work_stops(app: Any, path: str, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "uait.test")
    async with serve(app) as (_, url), httpx.AsyncClient(base_url=url) as client:
        with trio.move_on_after(0.3):
            async with client.stream("GET", path) as response:
                async for _ in response.aiter_bytes():
                    pass
        await ended(app)
        await trio.testing.wait_all_tasks_blocked()
    assert [record.status for record in caplog.records if hasattr(record, "status")] == [499]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_event_stream_is_told_of_the_drain(app: Any) -> None:
    async with serve(app) as (server, url), httpx.AsyncClient(base_url=url) as client, trio.open_nursery() as nursery:
        async with client.stream("GET", "/events") as response:
            lines = response.aiter_lines()
            assert [await anext(lines), await anext(lines)] == ["id: 1", "data: first"]
            nursery.start_soon(server.drain, 5)
            rest = [line async for line in lines]
        assert "event: error" in rest
        assert any("UNAVAILABLE" in line for line in rest)
        await ended(app)


@contextlib.asynccontextmanager
async def open_websocket(url: str, path: str) -> AsyncIterator[Any]:
    """As trio-websocket's own, which leaves its socket open when it is refused."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
        yield await trio_websocket.wrap_client_stream(nursery, stream, host, path)
        nursery.cancel_scope.cancel(reason="the test is done with it")


async def test_websocket_messages(app: Any) -> None:
    async with serve(app) as (_, url):
        async with open_websocket(url, "/ws") as ws:
            for message in ("text", b"bytes", b"", ""):
                await ws.send_message(message)
                assert await ws.get_message() == message
        await ended(app)


async def test_a_crash_closes_with_1011(app: Any) -> None:
    async with serve(app) as (_, url), open_websocket(url, "/ws") as ws:
        await ws.send_message("crash")
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await ws.get_message()
        assert closed.value.reason.code == 1011
        assert "secret" not in (closed.value.reason.reason or "")


async def test_a_refused_handshake_has_a_body(app: Any) -> None:
    async with serve(app) as (_, url):
        with pytest.RaisesGroup(trio_websocket.ConnectionRejected) as caught:
            async with open_websocket(url, "/ws?user_id="):
                pass
        (refused,) = caught.value.exceptions
        assert refused.status_code == 400
        assert b"INVALID_REQUEST" in (refused.body or b"")


async def test_a_drain_closes_with_1012(app: Any) -> None:
    async with serve(app) as (server, url), open_websocket(url, "/ws") as ws, trio.open_nursery() as nursery:
        await ws.send_message("x")
        assert await ws.get_message() == "x"
        nursery.start_soon(server.drain, 5)
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await ws.get_message()
        assert closed.value.reason.code == 1012
