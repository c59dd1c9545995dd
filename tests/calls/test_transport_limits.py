"""Our httpx transport's patience, and how much it asks for at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from calls.raw_server import always, read_request, server

from uait.calls.pool import Pool
from uait.calls.transport import TrioTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SOON = 5.0


async def hang(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def test_times_are_kept() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        if b"/body" in await read_request(stream):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none")
        await trio.sleep_forever()

    async with server(serve) as (url, client):
        for path in ("/head", "/body"):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{url}{path}", timeout=0.1)


async def test_who_reads_nothing_is_not_waited_for() -> None:
    async with server(hang) as (url, client):
        with pytest.raises(httpx.WriteTimeout):
            await client.post(url, content=b"x" * 50_000_000, timeout=httpx.Timeout(SOON, write=0.1))


async def test_no_answer_is_expected_before_the_request_is_out() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += await stream.receive_some()
        if b"/late" in data:
            await trio.sleep_forever()
        await stream.send_all(OK)

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(4):
            await trio.sleep(0.1)
            yield b"part"

    async with server(serve) as (url, client):
        times = httpx.Timeout(SOON, read=0.2)
        assert (await client.post(url, content=slowly(), timeout=times)).text == "ok"
        with trio.fail_after(SOON), pytest.raises(httpx.ReadTimeout):
            await client.post(f"{url}/late", content=slowly(), timeout=times)


async def test_a_connection_has_its_time() -> None:
    # There is a server, but it says nothing that would make it one of TLS.
    async with server(hang) as (url, client):
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(url.replace("http:", "https:"), timeout=httpx.Timeout(SOON, connect=0.1))


async def test_only_so_many_are_served_at_once_and_the_others_in_their_turn() -> None:
    asked: list[bytes] = []
    go_on = trio.Semaphore(0)

    async def serve(stream: trio.SocketStream) -> None:
        while request := await read_request(stream):
            asked.append(request.split(b" ", 2)[1])
            await go_on.acquire()
            await stream.send_all(OK)

    async with server(serve, per_origin=2) as (url, client), trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(client.get, f"{url}/{number}")
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert asked == [b"/0", b"/1"]
        for count in range(3, 7):
            go_on.release()
            # Whoever comes just when a place gets free does not go before those who wait.
            nursery.start_soon(client.get, f"{url}/late-{count}")
            while len(asked) < count:
                await trio.sleep(0.001)
        assert asked == [b"/0", b"/1", b"/2", b"/3", b"/4", b"/5"]
        for _ in range(6):
            go_on.release()


async def test_a_place_has_its_time_and_an_answer_keeps_its_place_until_it_is_closed() -> None:
    serve, _ = always(OK)
    async with server(serve, per_origin=1) as (url, client):
        times = httpx.Timeout(SOON, pool=0.1)
        async with client.stream("GET", url):
            with pytest.raises(httpx.PoolTimeout):
                await client.get(url, timeout=times)
        assert (await client.get(url, timeout=times)).text == "ok"


async def test_what_fails_gives_its_place_to_the_next() -> None:
    serve, _ = always(b"SSH-2.0-x\r\n\r\n")
    async with server(serve, per_origin=1) as (url, client):
        for _ in range(3):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(url, timeout=httpx.Timeout(SOON, pool=0.1))


async def test_an_origin_that_is_full_keeps_nobody_from_another() -> None:
    serve, _ = always(OK)
    async with server(serve, per_origin=1) as (url, client), client.stream("GET", url):
        other = url.replace("127.0.0.1", "localhost")
        assert (await client.get(other, timeout=httpx.Timeout(SOON, pool=0.1))).text == "ok"


async def test_only_so_many_wait() -> None:
    pool = Pool(per_origin=1, queue_per_origin=2)
    origin = ("http", "somewhere", 80)
    await pool.enter(origin)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(pool.enter, origin)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(httpx.PoolTimeout, match="2 requests wait"):
            await pool.enter(origin)
        for _ in range(3):
            pool.leave(origin)
    assert pool._places == {}


async def test_without_times_there_are_none() -> None:
    serve, _ = always(OK)
    async with server(serve) as (url, _), TrioTransport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert await response.aread() == b"ok"
