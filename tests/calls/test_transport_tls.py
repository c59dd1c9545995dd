"""Our httpx transport over TLS, and what it leaves to httpx's own: proxies and HTTP/2."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx
import pytest
import trio
import trustme
from calls.raw_server import always, read_request, server

from uait.calls.transport import TrioTransport
from uait.server import bind, open_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture
def contexts() -> Contexts:
    """A server's and a client's that trust each other."""
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    return theirs, ours


class Corked(trio.abc.Stream):
    """A stream that sends nothing before it is told to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.corked = False
        self._held = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._held += data
        if not self.corked:
            held, self._held = self._held, b""
            await self.stream.send_all(held)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


@asynccontextmanager
async def secure_server(
    serve: Callable[[trio.SSLStream[Corked]], Awaitable[None]], context: ssl.SSLContext
) -> AsyncIterator[str]:
    async def secure(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(trio.SSLStream(Corked(stream), context, server_side=True, https_compatible=True))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, secure, 0, host="127.0.0.1"))
        yield f"https://localhost:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_tls_connections_serve_again(contexts: Contexts) -> None:
    serve, seen = always(OK)
    async with (
        secure_server(serve, contexts[0]) as url,  # type: ignore[arg-type]
        httpx.AsyncClient(transport=TrioTransport(ssl_context=contexts[1])) as client,
    ):
        for _ in range(3):
            assert (await client.get(url)).text == "hello"
        assert (await client.post(url, content=b"x" * 3_000_000)).text == "hello"
    assert seen.count(b"") == 1


async def test_whom_the_certificate_does_not_name_is_not_asked(contexts: Contexts) -> None:
    serve, _ = always(OK)
    async with secure_server(serve, contexts[0]) as url:  # type: ignore[arg-type]
        for address, context in ((url, None), (url.replace("localhost", "127.0.0.1"), contexts[1])):
            async with httpx.AsyncClient(transport=TrioTransport(ssl_context=context)) as client:
                with pytest.raises(httpx.ConnectError):
                    await client.get(address)


async def test_who_speaks_no_tls_is_not_asked() -> None:
    async with server(lambda stream: stream.send_all(OK)) as (url, client):
        with pytest.raises(httpx.ConnectError):
            await client.get(url.replace("http:", "https:"))


async def test_an_answer_that_nobody_asked_for_is_nobodys_over_tls_too(contexts: Contexts) -> None:
    # It comes in a record of its own, but together with the answer: it has left the socket when the answer is read.
    connections = 0

    async def serve(stream: trio.SSLStream[Corked]) -> None:
        nonlocal connections
        connections += 1
        while await read_request(stream):  # type: ignore[arg-type]
            stream.transport_stream.corked = True
            await stream.send_all(OK)
            await stream.send_all(OK.replace(b"hello", b"evil!"))
            stream.transport_stream.corked = False
            await stream.transport_stream.send_all(b"")

    async with (
        secure_server(serve, contexts[0]) as url,
        httpx.AsyncClient(transport=TrioTransport(ssl_context=contexts[1])) as client,
    ):
        for _ in range(3):
            assert (await client.get(url)).text == "hello"
    assert connections == 3


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Names a proxy in the environment, for plain HTTP, and whom it is not for."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def proxy(url: str, none_for: str = "") -> None:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", none_for)

    return proxy


async def test_a_proxy_is_asked_where_the_environment_names_one(proxy: Callable[..., None]) -> None:
    serve, seen = always(OK)
    async with server(serve) as (url, _):
        proxy(url.removeprefix("http://"), "somewhere.invalid,127.0.0.1")
        async with httpx.AsyncClient(transport=TrioTransport()) as client:
            assert (await client.get("http://elsewhere.invalid/x")).text == "hello"
            assert (await client.get(f"{url}/direct")).text == "hello"
            with pytest.raises(httpx.ConnectError):
                await client.get("http://somewhere.invalid/")
        async with httpx.AsyncClient(transport=TrioTransport(trust_env=False)) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("http://elsewhere.invalid/x")
    assert [request.split(b"\r\n")[0] for request in seen if request] == [
        b"GET http://elsewhere.invalid/x HTTP/1.1",
        b"GET /direct HTTP/1.1",
    ]


async def test_http_2_is_spoken_where_it_is_asked_for(contexts: Contexts) -> None:
    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"hello"})

    contexts[0].set_alpn_protocols(["h2", "http/1.1"])
    [listening] = bind("127.0.0.1", 0)
    with listening:
        async with open_server(app, [listening], tls=contexts[0]):
            url = f"https://localhost:{listening.getsockname()[1]}/"
            # In this order: httpx's own transport has its say in the context.
            for http2, version in ((False, "HTTP/1.1"), (True, "HTTP/2")):
                async with httpx.AsyncClient(transport=TrioTransport(ssl_context=contexts[1], http2=http2)) as client:
                    response = await client.get(url)
                    assert (response.http_version, response.text) == (version, "hello")
