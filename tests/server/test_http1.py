"""HTTP/1.1 as honest clients use it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel
from echo import Echo, answer
from serving import Serve
from wire import request

from uait.server import ASGIApp, NativeConnections


async def test_both_loopback_addresses_answer(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running:
        for host in ("127.0.0.1", "::1"):
            async with running.dial(host) as wire:
                answer = await wire.ask()
                assert (answer.status, answer.body) == (200, b"hello")
        assert running.server.addresses == (f"http://127.0.0.1:{running.port}", f"http://[::1]:{running.port}")


async def test_a_connection_serves_request_after_request(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        for i in range(20):
            body = b"x" * i
            assert (await wire.ask("/echo", method="POST", body=body)).body == body
        assert running.server.statistics().accepted == 1


async def test_pipelined_requests_are_answered_in_their_order(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        bodies = [str(i).encode() for i in range(30)]
        await wire.send(*(request("/echo", method="POST", body=body) for body in bodies))
        assert [(await wire.answer()).body for _ in bodies] == bodies


async def test_requests_pipelined_behind_a_slow_one_wait_and_are_answered(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/slow"), request("/"))
        await trio.sleep(0.1)
        await wire.send(request("/scope"))
        assert [(await wire.answer()).body[:5] for _ in range(3)] == [b"slow", b"hello", b"{'pat"]


async def test_a_request_may_come_byte_by_byte(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        for byte in request("/echo", method="POST", body=b"abc"):
            await wire.send(bytes([byte]))
            await trio.sleep(0.001)
        assert (await wire.answer()).body == b"abc"


async def test_a_body_in_chunks_arrives(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        await wire.send(request("/echo", "Transfer-Encoding: chunked", method="POST"))
        await wire.send(b"3\r\nabc\r\n2;extension=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n")
        assert (await wire.answer()).body == b"abcde"
        assert (await wire.ask()).status == 200


async def test_line_ends_before_a_request_are_nothing(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(b"\r\n\r\n", request("/"))
        assert (await wire.answer()).status == 200
        await wire.send(b"\r\n")
        await trio.sleep(0.05)
        assert (await wire.ask()).status == 200


async def test_100_continue_is_sent_to_who_waits_for_it(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        await wire.send(request("/echo", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert (await wire.head()).status == 100
        await wire.send(b"abc")
        assert (await wire.answer()).body == b"abc"


async def test_head_has_no_body(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        answer = await wire.ask(method="HEAD")
        assert answer.headers["content-length"] == "5"
        assert (await wire.ask()).body == b"hello"  # the connection is where it should be


async def test_what_is_no_request_after_a_head_is_told_so_with_a_body(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.ask(method="HEAD")
        await wire.send(b"nonsense\r\n\r\n")
        answer = await wire.answer()
        assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
        assert await wire.rest() == b""
        assert running.server.statistics().failed == 0


async def test_a_refused_head_has_no_body(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(b"HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert (await wire.answer(head_only=True)).status == 400
        assert await wire.rest() == b""
        assert running.server.statistics().failed == 0


@pytest.mark.parametrize("path", ["/big", "/sse", "/empty-pieces"])
async def test_head_of_a_stream_without_end_has_an_end(serve: Serve, echo: Echo, path: str) -> None:
    async with serve(echo) as running, running.dial() as wire:
        assert (await wire.ask(path, method="HEAD")).status == 200
        assert (await wire.ask()).body == b"hello"
        assert echo.ended[0] == f"{path} cancelled"


async def test_empty_pieces_without_end_do_not_freeze_the_others(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as endless, running.dial() as wire:
        await endless.send(request("/empty-pieces"))
        await endless.head()
        assert (await wire.ask()).body == b"hello"


@pytest.mark.parametrize("close", ["Connection: close, Upgrade", "Connection: Upgrade\r\nConnection: close"])
async def test_connection_close_is_kept_beside_an_upgrade_that_is_not_taken(
    serve: Serve, echo: Echo, close: str
) -> None:
    async with serve(echo) as running, running.dial() as wire:
        answer = await wire.ask("/echo", close, "Upgrade: foo/2", method="POST", body=b"abc")
        assert (answer.body, answer.headers["connection"]) == (b"abc", "close")
        assert await wire.rest() == b""


async def test_a_coding_that_is_none_is_refused_beside_an_upgrade_that_is_not_taken(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/echo", "Connection: Upgrade", "Upgrade: x", "Transfer-Encoding: gzip", method="POST"))
        assert (await wire.answer()).status in (400, 501)
        assert await wire.rest() == b""
        assert running.server.statistics().failed == 0
    assert echo.ended == []


async def test_http_1_0_is_answered_and_closed(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        answer = await wire.ask(version="1.0")
        assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"hello", "close")
        assert await wire.rest() == b""


async def test_connection_close_is_kept(serve: Serve, either: ASGIApp) -> None:
    async with serve(either) as running, running.dial() as wire:
        answer = await wire.ask("/", "Connection: close")
        assert answer.headers["connection"] == "close"
        assert await wire.rest() == b""


async def test_an_answer_before_the_end_of_the_request_keeps_the_connection(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/", "Content-Length: 5", method="POST"))
        assert (await wire.answer()).body == b"hello"
        await wire.send(b"abcde", request("/scope"))
        assert b"/scope" in (await wire.answer()).body


async def test_an_answer_long_before_the_end_of_the_request_reaches_the_client(serve: Serve, echo: Echo) -> None:
    size = 3_000_000
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/", f"Content-Length: {size}", method="POST"))
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upload() -> None:
                try:
                    for _ in range(size // 1000):
                        await wire.send(b"x" * 1000)
                        await trio.lowlevel.checkpoint()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

            assert (await wire.answer()).body == b"hello"
            nursery.cancel_scope.cancel(reason="the answer is here")
        await running.settled()


async def test_a_large_body_goes_both_ways_without_being_collected(serve: Serve, echo: Echo) -> None:
    piece, count = b"y" * 100_000, 100
    async with serve(echo, body_bytes=len(piece) * count) as running, running.dial() as wire:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def upload() -> None:
                await wire.send(request("/mirror", f"Content-Length: {len(piece) * count}", method="POST"))
                for _ in range(count):
                    await wire.send(piece)

            answer = await wire.answer()
        assert answer.body == piece * count


async def test_an_app_that_does_not_read_slows_the_client_down(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/wait", "Transfer-Encoding: chunked", method="POST"))
        sent = 0
        with trio.move_on_after(0.5):
            while sent < 200_000_000:
                await wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent += 65536
        assert sent < 50_000_000  # the system's buffers, and no more than one of ours


async def test_the_scope_says_who_asks_what(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        shown = (await wire.ask("/scope?a=%20b", "X-Two: 1", "x-two: 2")).body
        client = wire.stream.socket.getsockname()  # type: ignore[union-attr]
        for part in (
            "'path': '/scope'",
            "'query_string': b'a=%20b'",
            "(b'x-two', b'1'), (b'x-two', b'2')",
            "'http_version': '1.1'",
            repr(client),
        ):
            assert part.encode() in shown


async def test_a_url_as_target_is_its_path_at_its_host(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        shown = (await wire.ask("http://other.example/scope?q")).body
        assert b"'path': '/scope'" in shown
        assert b"(b'host', b'other.example')" in shown


async def test_after_its_answer_an_app_hears_of_the_end(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        assert (await wire.ask("/after")).body == b"done"
        assert (await wire.ask()).body == b"hello"
    assert echo.received == [{"type": "http.disconnect"}]
    assert echo.ended[0] == "/after returned"


@pytest.mark.parametrize("path", ["/crash", "/return", "/bad-header", "/bad-status"])
async def test_an_app_that_fails_before_its_answer_costs_a_500_with_an_error_body(
    serve: Serve, echo: Echo, path: str
) -> None:
    async with serve(echo) as running, running.dial() as wire:
        answer = await wire.ask(path)
        assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
        request_id = answer.json["error"]["request_id"]
        assert answer.headers["x-request-id"] == request_id
        assert any(request_id in message for message in running.messages)
        assert b"on purpose" not in answer.body
        assert (await wire.ask()).status == 200
        assert running.server.statistics().failed == 0


@pytest.mark.parametrize("path", ["/crash-late", "/return-late", "/short"])
async def test_an_answer_that_stays_incomplete_ends_the_connection(serve: Serve, echo: Echo, path: str) -> None:
    async with serve(echo) as running, running.dial() as wire:
        with pytest.raises(EOFError):
            await wire.ask(path)
        assert len([message for message in running.messages if path in message]) == 1


async def test_an_incomplete_answer_to_http_1_0_does_not_look_complete(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/crash-late", version="1.0"))
        with pytest.raises(trio.BrokenResourceError):  # a reset, and not just the end
            while await wire.stream.receive_some():
                pass


async def test_too_large_a_body_is_413_when_the_app_goes_on_reading(serve: Serve, echo: Echo) -> None:
    async with serve(echo, body_bytes=1000) as running:
        async with running.dial() as wire:
            assert (await wire.ask("/echo", method="POST", body=b"x" * 1000)).status == 200
        async with running.dial() as wire:
            await wire.send(request("/count", "Transfer-Encoding: chunked", method="POST"))
            await wire.send(*[b"80\r\n" + b"x" * 128 + b"\r\n"] * 2000)
            answer = await wire.answer()
            assert (answer.status, answer.code) == (413, "PAYLOAD_TOO_LARGE")
            assert await wire.rest() == b""
        assert echo.ended[-1] == "/count cancelled"
        async with running.dial() as wire:  # though the app would be given all of it at once
            assert (await wire.ask("/count", method="POST", body=b"x" * 1001)).status == 413
    assert echo.ended[-1] == "/count cancelled"


async def test_a_wrong_chunk_that_comes_with_its_head_is_refused_at_once(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/echo", "Transfer-Encoding: chunked", method="POST") + b"ZZ\r\n")
        with trio.fail_after(5):
            assert (await wire.answer()).status == 400


async def test_http_1_0_expects_nothing(serve: Serve, echo: Echo) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/echo", "Expect: 100-continue", "Content-Length: 3", method="POST", version="1.0"))
        await trio.sleep(0.05)
        await wire.send(b"abc")
        answer = await wire.answer()
        assert (answer.status, answer.body) == (200, b"abc")


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_an_app_that_gives_up_receiving_loses_nothing(serve: Serve, size: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        taken, more = 0, True
        while more:
            with trio.CancelScope() as patience:
                patience.cancel(reason="only what is there already")
                await receive()
                raise AssertionError("receive has not noticed that it is cancelled")
            message = await receive()
            taken += len(message["body"])
            more = message["more_body"]
        await answer(send, b"%d" % taken)

    async with serve(app) as running, running.dial() as wire:
        with trio.fail_after(10):
            assert (await wire.ask(method="POST", body=b"x" * size)).body == b"%d" % size


async def test_connection_close_is_kept_where_the_answer_begins_before_the_body_has_come(
    serve: Serve, echo: Echo
) -> None:
    async with serve(echo) as running, running.dial() as wire:
        await wire.send(request("/mirror", "Connection: close", "Content-Length: 3", method="POST"))
        await wire.head()
        await wire.send(b"abc")
        with trio.fail_after(5):
            assert await wire.rest() == b"3\r\nabc\r\n0\r\n\r\n"


async def test_pipelined_requests_let_others_run_in_between(serve: Serve) -> None:
    in_a_row = most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal in_a_row, most
        if scope["type"] != "http":
            return
        in_a_row += 1
        most = max(most, in_a_row)
        await answer(send, b"")

    async def other() -> None:
        nonlocal in_a_row
        while True:
            in_a_row = 0
            await trio.lowlevel.checkpoint()

    async with serve(app) as running, running.dial() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await wire.send(request() * 400)
        for _ in range(400):
            await wire.answer()
        nursery.cancel_scope.cancel(reason="all are answered")
    assert most <= 16


@pytest.mark.parametrize("speak", [NativeConnections])
async def test_trailers_may_come_in_parts(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"b", b"2")]})

    async with serve(app) as running, running.dial() as wire:
        await wire.send(request("/", "TE: trailers", "Connection: close"))
        await wire.head()
        assert await wire.rest() == b"1\r\nx\r\n0\r\na: 1\r\nb: 2\r\n\r\n"


async def test_a_rest_that_cannot_be_read_behind_an_answer_ends_the_connection_and_freezes_nobody(
    serve: Serve, echo: Echo
) -> None:
    async with serve(echo) as running, running.dial() as wire, running.dial() as other:
        await wire.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        assert (await wire.answer()).body == b"hello"
        await wire.send(b"no chunk\r\n")
        assert await wire.rest() == b""
        assert (await other.ask()).status == 200
