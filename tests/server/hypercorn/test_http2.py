"""TLS, and HTTP/2 over it."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trio
import trustme
from echo import Echo
from serving import Running, Serve
from wire import TEXT, Wire, close_frame, frame

from uait.server import ASGIApp


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@asynccontextmanager
async def dial_tls(running: Running, authority: trustme.CA, *protocols: str) -> AsyncIterator[Wire]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    stream = await trio.open_tcp_stream("127.0.0.1", running.port)
    secure = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    await secure.do_handshake()
    wire = Wire(secure)
    try:
        yield wire
    finally:
        await trio.aclose_forcefully(secure)


class Client:
    """A client of HTTP/2 that does one thing at a time."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: dict[int, list[Any]] = {}
        self.closed = False

    async def start(self) -> None:
        self.h2.initiate_connection()
        await self.flush()
        while not any(isinstance(event, h2.events.RemoteSettingsChanged) for event in self.events.get(0, [])):
            await self.step()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            await self.wire.send(data)

    async def step(self) -> None:
        """Take in what comes next."""
        try:
            data = await self.wire.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = True
            raise EOFError
        for event in self.h2.receive_data(data):
            self.events.setdefault(getattr(event, "stream_id", 0) or 0, []).append(event)
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, h2.events.ConnectionTerminated):
                self.closed = True
        await self.flush()

    async def request(self, path: str, method: str = "GET", *, end: bool = True, **pseudo: str) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "localhost")]
        headers += [(f":{name}", value) for name, value in pseudo.items() if name == "protocol"]
        headers += [(name.replace("_", "-"), value) for name, value in pseudo.items() if name != "protocol"]
        self.h2.send_headers(stream_id, headers, end_stream=end)
        await self.flush()
        return stream_id

    async def data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.h2.send_data(stream_id, data, end_stream=end)
        await self.flush()

    async def status(self, stream_id: int) -> int:
        while True:
            for event in self.events.get(stream_id, []):
                if isinstance(event, h2.events.ResponseReceived):
                    return int(dict(event.headers)[":status"])
                if isinstance(event, h2.events.StreamReset):
                    return -int(event.error_code)
            await self.step()

    async def body(self, stream_id: int, at_least: int | None = None) -> bytes:
        """The data of a stream so far: to its end, or until there is `at_least` so much."""
        while True:
            events = self.events.get(stream_id, [])
            data = b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))
            ended = any(isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)) for event in events)
            if ended or (at_least is not None and len(data) >= at_least):
                return data
            await self.step()


@asynccontextmanager
async def speak(running: Running, authority: trustme.CA) -> AsyncIterator[Client]:
    async with dial_tls(running, authority, "h2") as wire:
        client = Client(wire)
        await client.start()
        yield client


async def test_http_1_over_tls(serve: Serve, either: ASGIApp, tls: ssl.SSLContext, authority: trustme.CA) -> None:
    async with serve(either, tls=tls) as running:
        assert running.server.addresses[0] == f"https://127.0.0.1:{running.port}"
        async with dial_tls(running, authority) as wire:
            assert (await wire.ask()).body == b"hello"
            assert (await wire.ask("/echo", method="POST", body=b"x" * 300_000)).body == b"x" * 300_000
            assert (await wire.ask("/", "Connection: close")).body == b"hello"
        async with dial_tls(running, authority) as wire:
            await wire.open_websocket()
            await wire.send(frame(TEXT, b"hi"))
            assert await wire.frame() == (TEXT, b"hi")
            await wire.send(close_frame())
            assert await wire.close_code() == 1000


async def test_plain_text_on_a_tls_port_costs_nothing(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls, header_timeout=0.3) as running:
        async with running.dial() as wire:
            await wire.send(b"GET / HTTP/1.1\r\n\r\n")
            await wire.rest()
        async with running.dial() as silent:
            assert await silent.rest() == b""
        async with dial_tls(running, authority) as wire:
            assert (await wire.ask()).status == 200
        assert running.server.statistics().failed == 0


async def test_a_tls_client_that_does_not_read_is_dropped(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls, send_timeout=0.3) as running, dial_tls(running, authority) as wire:
        await wire.send(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await running.settled(1)
        await running.settled(0)


async def test_a_tls_client_that_does_not_read_cannot_hold_up_the_end(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls) as running, dial_tls(running, authority) as wire:
        await wire.send(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await running.settled(1)
        await trio.sleep(0.3)
        began = trio.current_time()
        await running.server.drain(0.1)
        assert trio.current_time() - began < 3.5
        assert running.server.statistics().open == 0


async def test_requests_and_answers(serve: Serve, either: ASGIApp, tls: ssl.SSLContext, authority: trustme.CA) -> None:
    async with serve(either, tls=tls) as running, speak(running, authority) as client:
        slow = await client.request("/slow")
        quick = await client.request("/echo", "POST", end=False)
        await client.data(quick, b"abc", end=True)
        assert await client.body(quick) == b"abc"
        assert await client.body(slow) == b"slow"
        assert [await client.status(stream) for stream in (quick, slow)] == [200, 200]


async def test_a_crash_is_a_500_and_an_incomplete_answer_a_reset(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls) as running, speak(running, authority) as client:
        assert await client.status(await client.request("/crash")) == 500
        late = await client.request("/crash-late")
        assert await client.status(late) == 200
        await client.body(late)
        assert any(isinstance(event, h2.events.StreamReset) for event in client.events[late])
        assert await client.status(await client.request("/")) == 200


async def test_taking_a_request_back_cancels_its_work_alone(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls) as running, speak(running, authority) as client:
        stream = await client.request("/wait")
        while not echo.inside:
            await trio.sleep(0.01)
        client.h2.reset_stream(stream)
        await client.flush()
        while echo.inside:
            await trio.sleep(0.01)
        assert await client.status(await client.request("/")) == 200


async def test_data_after_the_answer_ends_nothing(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    """hypercorn lets a KeyError out here, and loses every other request on the connection."""
    async with serve(echo, tls=tls) as running, speak(running, authority) as client:
        other = await client.request("/slow")
        stream = await client.request("/", "POST", end=False)
        assert await client.body(stream) == b"hello"
        for _ in range(3):
            await client.data(stream, b"abc")
        assert await client.body(other) == b"slow"
        assert await client.status(await client.request("/")) == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/\xff\xfe"), ("GET", "nowhere"), ("GET", "*")])
async def test_what_is_no_request_is_reset_alone(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA, method: str, path: str
) -> None:
    async with serve(echo, tls=tls) as running, speak(running, authority) as client:
        client.h2.config.validate_outbound_headers = False
        assert await client.status(await client.request(path, method)) < 0
        assert await client.status(await client.request("/")) == 200


async def test_a_client_that_opens_no_window_is_given_up(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls, send_timeout=0.3) as running, dial_tls(running, authority, "h2") as wire:
        client = Client(wire)
        client.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
        )
        await client.start()
        streams = [await client.request("/big"), await client.request("/")]
        for stream in streams:
            assert await client.status(stream) == 200
            assert await client.body(stream) == b""
        while echo.inside:
            await trio.sleep(0.01)
        assert await client.status(await client.request("/crash")) == 500


async def test_too_large_a_body_is_413(serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA) -> None:
    async with serve(echo, tls=tls, body_bytes=1000) as running, speak(running, authority) as client:
        stream = await client.request("/count", "POST", end=False)
        for _ in range(5):
            await client.data(stream, b"x" * 1000)
        assert await client.status(stream) == 413
        assert await client.status(await client.request("/")) == 200


async def test_a_websocket(serve: Serve, either: ASGIApp, tls: ssl.SSLContext, authority: trustme.CA) -> None:
    async with serve(either, tls=tls) as running, speak(running, authority) as client:
        stream = await client.request("/ws", "CONNECT", end=False, protocol="websocket", sec_websocket_version="13")
        assert await client.status(stream) == 200
        await client.data(stream, frame(TEXT, b"hi"))
        assert await client.body(stream, 4) == b"\x81\x02hi"
        await client.data(stream, close_frame(1000))
        assert await client.body(stream) == b"\x81\x02hi\x88\x02" + struct.pack("!H", 1000)
        for _ in range(2):  # and more data, which hypercorn falls over
            await client.data(stream, b"abc")
        assert await client.status(await client.request("/")) == 200


async def test_a_websocket_of_another_version_is_refused(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls) as running, speak(running, authority) as client:
        stream = await client.request("/ws", "CONNECT", end=False, protocol="websocket", sec_websocket_version="8")
        assert await client.status(stream) == 400
        assert await client.status(await client.request("/")) == 200


async def test_an_idle_connection_is_closed(
    serve: Serve, either: ASGIApp, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(either, tls=tls, idle_timeout=0.3) as running, speak(running, authority) as client:
        assert await client.status(await client.request("/")) == 200
        with pytest.raises(EOFError):
            while True:
                await client.step()


async def test_a_drain_finishes_what_is_open(
    serve: Serve, either: ASGIApp, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(either, tls=tls) as running:
        async with speak(running, authority) as client, speak(running, authority) as idle:
            stream = await client.request("/slow")
            await idle.status(await idle.request("/"))
            await trio.sleep(0.1)
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.server.drain, 10)
                assert await client.body(stream) == b"slow"
            assert trio.current_time() - began < 3
        assert running.server.statistics().stuck == ()


async def test_rapid_resets_cost_the_connection(
    serve: Serve, echo: Echo, tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    async with serve(echo, tls=tls) as running:
        async with speak(running, authority) as client:
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                for _ in range(1000):
                    client.h2.reset_stream(await client.request("/wait"))
                    await client.flush()
                while True:
                    await client.step()
        await running.settled()
        assert echo.inside == []
        async with speak(running, authority) as client:
            assert await client.status(await client.request("/")) == 200
