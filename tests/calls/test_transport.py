"""Our httpx transport: HTTP/1.1 as servers really speak it, connections used again where that is safe, and closed at once where it is not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from uait.calls.transport import REPLAYABLE, TrioTransport

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve, **options: Any) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """Serve raw connections; gives the URL and a client with the transport."""

    async def guarded(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await serve(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, guarded, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with httpx.AsyncClient(transport=TrioTransport(**options), timeout=5) as client:
            yield url, client
        nursery.cancel_scope.cancel(reason="the test is over")


async def read_request(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


def always(answer: bytes, *, close: bool = False) -> tuple[Serve, list[bytes]]:
    """A server that gives the same answer to everything, and what it has been asked, a "" for each connection's beginning."""
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        seen.append(b"")
        while request := await read_request(stream):
            seen.append(request)
            await stream.send_all(answer)
            if close:
                return

    return serve, seen


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
async def test_answers_in_every_framing_and_the_connection_serves_again(answer: bytes) -> None:
    serve, seen = always(answer)
    async with server(serve) as (url, client):
        for _ in range(3):
            response = await client.get(f"{url}/a?b=c%20d")
            assert (response.status_code, response.text) == (200, "hello")
            assert "link" not in response.headers
    assert seen.count(b"") == 1
    assert seen[1].startswith(b"GET /a?b=c%20d HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more than was asked for",
    ],
)
async def test_connections_that_cannot_serve_again_are_not_used_again(answer: bytes) -> None:
    serve, seen = always(answer, close=b"more" not in answer)
    async with server(serve) as (url, client):
        for _ in range(2):
            assert (await client.get(url)).text == "hello"
    assert seen.count(b"") == 2


async def test_answers_without_a_body() -> None:
    serve, seen = always(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with server(serve) as (url, client):
        for _ in range(2):
            assert (await client.delete(url)).content == b""
    assert seen.count(b"") == 1
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    async with server(serve) as (url, client):
        assert (await client.head(url)).headers["content-length"] == "5"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000,
    ],
)
async def test_what_is_no_answer_or_half_of_one_is_an_error(answer: bytes) -> None:
    serve, _ = always(answer, close=True)
    async with server(serve) as (url, client):
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await client.get(url)
    assert caught.value.request.url.path == "/"


@pytest.mark.parametrize("size", [0, 10, 60_000, 5_000_000])
async def test_bodies_are_sent(size: int) -> None:
    body = b"x" * size
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with server(serve) as (url, client):
        assert (await client.post(url, content=body)).status_code == 200
        assert (await client.post(url, content=body)).status_code == 200
    assert seen[1].partition(b"\r\n\r\n")[2] == body
    assert seen.count(b"") == 1


async def test_a_body_that_is_made_while_it_is_sent() -> None:
    got = b""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal got
        while not got.endswith(b"0\r\n\r\n"):
            got += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one", b"", b"three"):
            yield part

    async with server(serve) as (url, client):
        assert (await client.post(url, content=parts())).status_code == 200
    assert got.partition(b"\r\n\r\n")[2] == b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_a_body_that_fails_fails_the_request() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    async def serve(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with server(serve) as (url, client):
        with pytest.raises(ZeroDivisionError):
            await client.post(url, content=parts())


async def test_an_answer_before_the_body_is_sent_is_taken() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await trio.sleep_forever()

    async with server(serve) as (url, client):
        with trio.fail_after(5):
            assert (await client.post(url, content=b"x" * 50_000_000)).status_code == 413


async def test_pieces_come_as_they_are_sent() -> None:
    go = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go.wait()
        await stream.send_all(b"3\r\ntwo\r\n0\r\n\r\n")

    async with server(serve) as (url, _):
        transport = TrioTransport()
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        pieces = aiter(response.stream)
        assert await anext(pieces) == b"one"
        go.set()
        assert await anext(pieces) == b"two"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        await response.stream.aclose()
        await transport.aclose()


@pytest.mark.parametrize("when", ["before the head", "in the body", "not read at all"])
async def test_an_answer_that_is_left_has_its_connection_closed(when: str) -> None:
    closed = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await read_request(stream)
        if when != "before the head":
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none")
        assert await stream.receive_some() == b""
        closed.set()

    async with server(serve) as (url, _):
        transport = TrioTransport()
        with trio.move_on_after(0.1):
            response = await transport.handle_async_request(httpx.Request("GET", url))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            try:
                if when == "in the body":
                    async for _ in response.stream:
                        pass
            finally:
                await response.stream.aclose()
        with trio.fail_after(5):
            await closed.wait()


def closing_when_asked_again(seen: list[bytes]) -> Serve:
    """A server that closes each connection at its second request, when nobody can have noticed."""

    async def serve(stream: trio.SocketStream) -> None:
        seen.append(await read_request(stream))
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some()

    return serve


async def test_a_connection_closed_under_our_hands_is_replaced_where_that_is_safe() -> None:
    seen: list[bytes] = []
    async with server(closing_when_asked_again(seen)) as (url, client):
        for _ in range(3):
            assert (await client.get(url)).status_code == 200
        assert (await client.post(url, extensions={REPLAYABLE: True})).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(url)
    assert len(seen) == 4


async def test_a_connection_closed_while_idle_is_not_tried() -> None:
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=True)
    async with server(serve) as (url, client):
        await client.post(url)
        await trio.sleep(0.05)
        assert (await client.post(url)).status_code == 200
    assert seen.count(b"") == 2


async def test_idle_connections_are_few_and_not_old(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.rate = 1
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with server(serve, idle_timeout=10, idle_per_origin=2) as (url, client):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.get, url)
        assert seen.count(b"") == 5
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(client.get, url)
        assert seen.count(b"") == 8
        mock_clock.jump(11)
        await client.get(url)
        assert seen.count(b"") == 9


async def test_times_are_kept() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        if b"/body" in await read_request(stream):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none")
        await trio.sleep_forever()

    async with server(serve) as (url, client):
        for path in ("/head", "/body"):
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{url}{path}", timeout=0.1)


async def test_nobody_there() -> None:
    async with httpx.AsyncClient(transport=TrioTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")


@pytest.mark.parametrize("headers", [{"x": "a\r\nevil: 1"}, {"x": "a\0"}, {"x\n": "a"}])
async def test_nothing_can_be_smuggled_into_the_head(headers: dict[str, str]) -> None:
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with server(serve) as (url, client):
        with pytest.raises((httpx.LocalProtocolError, ValueError)):
            await client.get(url, headers=headers)
    assert all(b"evil" not in request for request in seen)


async def test_tls() -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    async def secure(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(trio.SSLStream(stream, theirs, server_side=True, https_compatible=True))  # type: ignore[arg-type]

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, secure, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with httpx.AsyncClient(transport=TrioTransport(ssl_context=ours)) as client:
            for _ in range(2):
                assert (await client.get(f"https://localhost:{port}/")).text == "hello"
        assert seen.count(b"") == 1
        async with httpx.AsyncClient(transport=TrioTransport()) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"https://localhost:{port}/")
        nursery.cancel_scope.cancel(reason="the test is over")
