"""Our httpx transport: HTTP/1.1 as servers really speak it, connections used again where that is safe, and closed at once where it is not."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator

import httpx
import pytest
import trio
import trio.testing
from calls.raw_server import Serve, always, read_request, server

from uait.calls.transport import REPLAYABLE, TrioTransport


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


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
async def test_answers_that_have_no_body_whatever_they_say(method: str, answer: bytes) -> None:
    serve, seen = always(answer)
    async with server(serve) as (url, client):
        for _ in range(3):
            assert (await client.request(method, url)).content == b""
    assert seen.count(b"") == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
)
async def test_a_body_where_there_is_none_is_not_taken_for_the_next_answer(answer: bytes) -> None:
    serve, seen = always(answer)
    async with server(serve) as (url, client):
        for _ in range(2):
            assert (await client.head(url)).content == b""
    assert seen.count(b"") == 2


async def test_an_answer_that_nobody_asked_for_is_nobodys() -> None:
    evil = b"HTTP/1.1 201 Evil\r\nSet-Cookie: a=b\r\nContent-Length: 4\r\n\r\nevil"
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + evil)
    async with server(serve) as (url, client):
        for _ in range(2):
            response = await client.get(url)
            assert (response.status_code, response.reason_phrase, response.text) == (200, "OK", "hello")
            assert "set-cookie" not in response.headers
    assert seen.count(b"") == 2


async def test_trailers_are_no_headers() -> None:
    serve, _ = always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\n\r\n")
    async with server(serve) as (url, _):
        transport = TrioTransport()
        response = await transport.handle_async_request(httpx.Request("GET", url))
        assert await response.aread() == b"ok"
        assert "set-cookie" not in response.headers
        assert response.stream.trailers == [(b"Set-Cookie", b"a=b")]  # type: ignore[union-attr]
        await transport.aclose()


async def test_what_an_answer_says_of_itself() -> None:
    serve, _ = always(b"HTTP/1.0 404 Nowhere\r\nX-A:  spaces \t\r\n\r\n", close=True)
    async with server(serve) as (url, client):
        response = await client.get(url)
    assert (response.http_version, response.reason_phrase, response.headers["x-a"]) == ("HTTP/1.0", "Nowhere", "spaces")


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
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 513 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 513 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
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


async def test_an_early_answer_that_takes_the_request_does_not_end_it() -> None:
    got = b""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal got
        got += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        while not got.endswith(b"0\r\n\r\n"):
            got += await stream.receive_some()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"part"
            await trio.sleep(0.02)

    async with server(serve) as (url, client):
        assert (await client.post(url, content=parts())).text == "ok"
    assert got.count(b"4\r\npart\r\n") == 3
    assert got.endswith(b"0\r\n\r\n")


class Parts:
    """A body in parts that can be left in the middle; httpx leaves a generator to the garbage collector then."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = iter(parts)

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for part in self._parts:
            return part
        raise StopAsyncIteration


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"three", {"Content-Length": "4"}),
        (b"three", {"Content-Length": "6"}),
        (b"three", {"Content-Length": "five"}),
        (b"three", {"Transfer-Encoding": "gzip"}),
        ([b"th", b"ree"], {"Content-Length": "4"}),
        ([b"th", b"ree"], {"Content-Length": "6"}),
    ],
)
async def test_a_body_that_is_not_as_its_head_says_does_not_go_out(
    content: bytes | list[bytes], headers: dict[str, str]
) -> None:
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with server(serve) as (url, client):
        with pytest.raises(httpx.LocalProtocolError):
            await client.post(url, content=content if isinstance(content, bytes) else Parts(content), headers=headers)
        assert (await client.get(url)).status_code == 200
    assert not any(b"three" in request for request in seen)


async def test_a_body_in_one_piece_can_go_in_chunks() -> None:
    got = b""

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal got
        while not got.endswith(b"0\r\n\r\n"):
            got += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with server(serve) as (url, client):
        await client.post(url, content=b"hello", headers={"Transfer-Encoding": "chunked"})
    assert got.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert b"content-length" not in got.lower()


async def test_who_asks_for_the_end_of_the_connection_does_not_use_it_again() -> None:
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with server(serve) as (url, client):
        for _ in range(2):
            await client.get(url, headers={"Connection": "close"})
    assert seen.count(b"") == 2


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


def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


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


async def test_what_nobody_can_have_seen_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = trio.Event()
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        seen.append(await read_request(stream))
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if len(seen) == 1:
            reset(stream)
            closed.set()

    async def parts() -> AsyncIterator[bytes]:
        yield b"part"

    # As if the news came just then.
    monkeypatch.setattr("uait.calls.http1.Connection.quiet", lambda self: True)
    async with server(serve) as (url, client):
        await client.get(url)
        await closed.wait()
        await trio.sleep(0.05)
        assert (await client.post(url, content=parts())).status_code == 200
    assert len(seen) == 2


async def test_who_closes_without_reading_everything_breaks_the_request() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(1000)
        reset(stream)

    async with server(serve) as (url, client):
        with pytest.raises(httpx.WriteError):
            await client.post(url, content=b"x" * 50_000_000)


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


async def test_nobody_there() -> None:
    async with httpx.AsyncClient(transport=TrioTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")


@pytest.mark.parametrize(
    "headers", [{"x": "a\r\nevil: 1"}, {"x": "a\0"}, {"x\n": "a"}, {"x: evil; y": "a"}, {"": "a"}, {"x": "\nevil"}]
)
async def test_nothing_can_be_smuggled_into_the_head(headers: dict[str, str]) -> None:
    serve, seen = always(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with server(serve) as (url, client):
        with pytest.raises((httpx.LocalProtocolError, ValueError)):
            await client.get(url, headers=headers)
    assert all(b"evil" not in request for request in seen)
