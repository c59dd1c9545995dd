"""What a gateway mounts: the service's own app where it runs here, a streaming proxy where it does not. Every test here runs both ways."""

from __future__ import annotations

import contextlib

import attrs
import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

from uait.calls import Calls
from uait.calls.lifetime import open_helpers
from uait.errors import APIError, Conflict, NotFound, Unavailable
from uait.server import text_frame

SOON = 5.0


@pytest.fixture
def front(connect, serve):
    """A server whose every request is handed to the service that `app` is. Gives its base URL."""

    @contextlib.asynccontextmanager
    async def front(app):
        async with connect(app) as client:

            async def handing_over(scope, receive, send):
                try:
                    await client.asgi(scope, receive, send)
                except APIError as error:
                    if scope["type"] == "websocket":
                        await send({"type": "websocket.close", "code": 1008, "reason": error.text})
                    elif error.http_status != 502:
                        await start(send, error.http_status)
                        await chunk(send, b"", more=False)

            async with serve(handing_over) as (host, port):
                yield f"http://{host}:{port}"

    return front


async def read_all(receive):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def start(send, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def chunk(send, body, more=True):
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def test_a_request_and_its_answer_go_through_unchanged(front, respond):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope, body=await read_all(receive))
        await start(
            send,
            201,
            [
                (b"content-type", b"text/plain"),
                (b"set-cookie", b"a=1"),
                (b"set-cookie", b"b=2"),
                (b"content-encoding", b"gzip"),
            ],
        )
        await chunk(send, b"not really gzip", more=False)

    async with (
        front(app) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("POST", "/a%2Fb/ü?q=1&r=%20", content=b"body", headers={"X-Own": "1"}) as response,
    ):
        raw = b"".join([piece async for piece in response.aiter_raw()])
    assert (seen["method"], seen["path"], seen["query_string"], seen["body"]) == (
        "POST",
        "/a/b/ü",
        b"q=1&r=%20",
        b"body",
    )
    assert seen["raw_path"] == b"/a%2Fb/%C3%BC"
    assert (b"x-own", b"1") in seen["headers"]
    assert (response.status_code, raw) == (201, b"not really gzip")
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers["content-encoding"] == "gzip"


async def test_an_error_of_the_service_goes_through(front, answer):
    body = Conflict("Taken.").as_dict("req-1")
    async with front(answer(409, body)) as url, httpx.AsyncClient(base_url=url) as client:
        response = await client.get("/")
    assert (response.status_code, response.json()) == (409, body)


async def test_head_and_no_content(front):
    async def app(scope, receive, send):
        if scope["method"] == "HEAD":
            await start(send, 200, [(b"content-length", b"1000")])
        else:
            await start(send, 204)
        await chunk(send, b"", more=False)

    async with front(app) as url, httpx.AsyncClient(base_url=url) as client:
        head = await client.head("/")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "1000", b"")
        assert (await client.delete("/")).status_code == 204


async def test_bytes_go_on_as_they_come(front):
    go_on = trio.Event()

    async def app(scope, receive, send):
        await read_all(receive)
        await start(send, headers=[(b"content-type", b"text/event-stream")])
        await chunk(send, b"data: 1\n\n")
        await go_on.wait()
        await chunk(send, b"data: 2\n\n", more=False)

    async with front(app) as url, httpx.AsyncClient(base_url=url) as client, client.stream("GET", "/") as response:
        pieces = response.aiter_raw()
        with trio.fail_after(SOON):
            assert await anext(pieces) == b"data: 1\n\n"
            go_on.set()
            assert [piece async for piece in pieces] == [b"data: 2\n\n"]


async def test_an_upload_goes_on_as_it_comes(front):
    to_send, parts = trio.open_memory_channel(0)
    arrived_send, arrived = trio.open_memory_channel(10)

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                await arrived_send.send(message["body"])
        await start(send)
        await chunk(send, b"ok", more=False)

    async with front(app) as url, httpx.AsyncClient(base_url=url) as client, trio.open_nursery() as nursery:

        async def upload():
            assert (await client.post("/", content=parts)).content == b"ok"

        nursery.start_soon(upload)
        with trio.fail_after(SOON):
            for part in (b"one", b"two"):
                await to_send.send(part)
                assert await arrived.receive() == part
            await to_send.aclose()


@attrs.define
class Watched:
    """An app that goes on for ever, in one of several ways, and tells when it has ended."""

    way: str
    sent: int = 0
    began: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, scope, receive, send):
        try:
            if self.way == "in the middle of the upload":
                await receive()
                self.began.set()
                await trio.sleep_forever()
            await read_all(receive)
            if self.way == "before the answer":
                self.began.set()
                await trio.sleep_forever()
            await start(send)
            while True:
                await chunk(send, b"x" * 65536)
                self.sent += 1
                self.began.set()
                if self.way == "between two pieces":
                    await trio.sleep_forever()
        finally:
            self.ended.set()


@pytest.mark.parametrize(
    "way", ["in the middle of the upload", "before the answer", "between two pieces", "while it sends"]
)
async def test_a_client_that_leaves_stops_everything_behind_it(front, way):
    app = Watched(way)
    async with front(app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        length = 100 if way == "in the middle of the upload" else 4
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nbody" % length)
        with trio.fail_after(SOON):
            await app.began.wait()
            await stream.aclose()
            await app.ended.wait()


async def test_a_client_that_does_not_read_holds_the_service_back(front):
    app = Watched("while it sends")
    async with front(app) as url, httpx.AsyncClient(base_url=url) as client, client.stream("GET", "/"):
        before = -1
        with trio.fail_after(SOON):
            while app.sent > before:
                before = app.sent
                await trio.sleep(0.2)
        assert app.sent < 1000


async def test_a_service_that_breaks_off_breaks_the_answer(front, caplog):
    async def app(scope, receive, send):
        await read_all(receive)
        await start(send, headers=[(b"content-length", b"100")])
        await chunk(send, b"half")
        raise ZeroDivisionError

    caplog.set_level("CRITICAL", "hypercorn.error")
    async with front(app) as url, httpx.AsyncClient(base_url=url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


async def test_nobody_there(directory, discovery_of):
    directory.apps["discovery"] = discovery_of({"ill": []})
    directory.down.add("broken")
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    async with Calls(directory, caller="test") as calls:
        for name, error in (("unknown", NotFound), ("ill", Unavailable), ("broken", Unavailable)):
            with pytest.raises(error):
                await calls.client(name).asgi(scope, trio.sleep_forever, trio.sleep_forever)


# WebSockets


@attrs.define
class Echo:
    """Sends back what it is sent; notes how it was closed."""

    subprotocol: str | None = None
    seen: dict = attrs.field(factory=dict)
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, scope, receive, send):
        self.seen.update(scope)
        try:
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept", "subprotocol": self.subprotocol})
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    self.seen["code"] = message["code"]
                    return
                if message.get("text") == "close":
                    await send({"type": "websocket.close", "code": 4321, "reason": "as you say"})
                    return
                data = "bytes" if message.get("bytes") is not None else "text"
                await send({"type": "websocket.send", data: message[data]})
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def websocket(url: str, path: str = "/ws", **options):
    """trio-websocket with its socket closed, which it leaves to others when the server closes."""
    host, _, port = url.removeprefix("http://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    try:
        async with open_helpers("the test is over") as nursery:
            yield await wrap_client_stream(nursery, stream, host, path, **options)
    finally:
        await trio.aclose_forcefully(stream)


async def test_messages_go_both_ways_as_what_they_are(front):
    app = Echo()
    async with front(app) as url, websocket(url, "/ws?user_id=me") as connection:
        with trio.fail_after(SOON):
            for message in ("text", b"bytes", "", b"", "ü" * 1000, b"\0" * 70_000):
                await connection.send_message(message)
                assert await connection.get_message() == message
    assert (app.seen["path"], app.seen["query_string"]) == ("/ws", b"user_id=me")


async def test_the_subprotocol_is_the_services_choice(front):
    async with front(Echo(subprotocol="two")) as url, websocket(url, subprotocols=["one", "two"]) as connection:
        assert connection.subprotocol == "two"


async def test_the_services_close_reaches_the_client(front):
    async with front(Echo()) as url, websocket(url) as connection:
        await connection.send_message("close")
        with trio.fail_after(SOON), pytest.raises(ConnectionClosed) as caught:
            await connection.get_message()
    assert (caught.value.reason.code, caught.value.reason.reason) == (4321, "as you say")


async def test_a_client_that_vanishes_ends_the_services_side(front):
    app = Echo()
    async with front(app) as url:
        async with websocket(url) as connection:
            await connection.send_message("hello")
            await connection.get_message()
            await trio.aclose_forcefully(connection._stream)
        with trio.fail_after(SOON):
            await app.ended.wait()


async def test_a_refusal_is_a_refusal(front):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 1008})

    async with front(app) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            with trio.fail_after(SOON):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 403")


async def test_a_client_that_floods_is_slowed_down(front):
    sent = taken = 0
    go_on = trio.Event()

    async def app(scope, receive, send):
        nonlocal taken
        await receive()
        await send({"type": "websocket.accept"})
        await go_on.wait()
        while (await receive())["type"] == "websocket.receive":
            taken += 1

    async with front(app) as url, websocket(url) as connection, trio.open_nursery() as nursery:

        async def flood():
            nonlocal sent
            for _ in range(1000):
                await connection.send_message(b"x" * 65536)
                sent += 1

        nursery.start_soon(flood)
        before = -1
        with trio.fail_after(30):
            while sent > before:
                before = sent
                await trio.sleep(0.2)
            assert sent < 1000
            go_on.set()
            while taken < 1000:
                await trio.sleep(0.01)


async def test_a_service_that_floods_is_slowed_down(front):
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": b"x" * 65536})
            sent += 1
        await send({"type": "websocket.close", "code": 1000})

    taken = 0
    async with front(app) as url, websocket(url) as connection:
        before = -1
        with trio.fail_after(30):
            while sent > before:
                before = sent
                await trio.sleep(0.2)
            assert sent < 1000
            with pytest.raises(ConnectionClosed):
                while True:
                    await connection.get_message()
                    taken += 1
    assert taken == 1000


async def test_a_service_of_this_process_may_push_frames_to_the_client_itself(front):
    seen = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        outlet = scope.get("uait.outlet")
        seen.append(outlet is not None)
        if outlet is not None:
            outlet.push(text_frame("pushed"))
        while (await receive())["type"] == "websocket.receive":
            pass

    async with front(app) as url, websocket(url) as connection:
        with trio.fail_after(SOON):
            assert await connection.get_message() == "pushed"
    assert seen == [True]  # behind a socket it is the way to the front, which hands the message on
