"""Providers behind a forward proxy, as `HTTP_PROXY` and `HTTPS_PROXY` name it: everything is as without one, down to who is told that the client has left."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
import trio
import trustme
from mock_upstream import KINDS, Upstream

from uait.errors import TooManyRequests, Unavailable
from uait.llm.kinds import Kinds, ProviderSettings
from uait.llm.messages import Chunk, Collected
from uait.llm.upstream import Timeouts
from uait.settings.values import structure

# httpx, which asks through proxies for us, leaves its generators to the garbage collector where an answer is not read to its end.
pytestmark = pytest.mark.filterwarnings(r"ignore:Async generator '(httpx|httpcore)\.:ResourceWarning")
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
TIMEOUTS = Timeouts(connect=5, first_token=20, idle=20, total=40)


@attrs.define
class Proxy:
    """A running forward proxy.

    Attributes:
        asked: the first line of every request.
        open: connections of clients open now.
    """

    url: str = ""
    asked: list[str] = attrs.field(factory=list)
    open: int = 0
    changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def until_closed(self) -> None:
        with trio.fail_after(5):
            while self.open:
                await self.changed.park()

    async def serve(self, client: trio.SocketStream) -> None:
        self.open += 1
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
                await self._serve(client)
        finally:
            client.socket.close()
            self.open -= 1
            self.changed.unpark_all()

    async def _serve(self, client: trio.SocketStream) -> None:
        lines, buffer = await _head(client, b"")
        self.asked.append(lines[0])
        method, target, _ = lines[0].split(" ")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        assert parts.hostname is not None
        async with await trio.open_tcp_stream(parts.hostname, parts.port or 80) as server:
            try:
                async with trio.open_nursery() as nursery:
                    if method == "CONNECT":
                        await client.send_all(b"HTTP/1.1 200 Connected\r\n\r\n")
                        nursery.start_soon(_pump, client, server, nursery.cancel_scope)
                    else:
                        nursery.start_soon(self._requests, client, server, lines, buffer, nursery.cancel_scope)
                    nursery.start_soon(_pump, server, client, nursery.cancel_scope)
            finally:
                server.socket.close()

    async def _requests(
        self, client: trio.SocketStream, server: trio.SocketStream, lines: list[str], buffer: bytes, scope: Any
    ) -> None:
        with suppress(EOFError, trio.BrokenResourceError):
            while True:
                method, target, version = lines[0].split(" ")
                parts = urlsplit(target)
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                fields = [line for line in lines[1:] if not line.lower().startswith("proxy-")]
                length = next((int(line[15:]) for line in fields if line.lower().startswith("content-length:")), 0)
                while len(buffer) < length:
                    buffer += await _more(client)
                head = "\r\n".join([f"{method} {path} {version}", *fields])
                await server.send_all(head.encode("latin-1") + b"\r\n\r\n" + buffer[:length])
                lines, buffer = await _head(client, buffer[length:])
                self.asked.append(lines[0])
        scope.cancel(reason="the client has gone")


async def _more(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(65536)
    if not data:
        raise EOFError
    return bytes(data)


async def _head(stream: trio.SocketStream, buffer: bytes) -> tuple[list[str], bytes]:
    while b"\r\n\r\n" not in buffer:
        buffer += await _more(stream)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest


async def _pump(source: Any, sink: Any, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
    scope.cancel(reason="one side has closed")


@asynccontextmanager
async def listening(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    found = Proxy()
    async with listening(found.serve) as port:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        yield found


def make(settings: dict[str, Any]) -> Any:
    return Kinds().make("mock", structure(settings, ProviderSettings), "k", TIMEOUTS)


@asynccontextmanager
async def opened(settings: dict[str, Any]) -> AsyncIterator[Any]:
    provider = make(settings)
    try:
        yield provider
    finally:
        await provider.aclose()


async def answer(provider: Any, request: Any) -> Collected:
    collected = Collected()
    async with provider.stream(request) as chunks:
        async for chunk in chunks:
            collected.add(chunk)
    return collected


@STREAM
@pytest.mark.parametrize("kind", KINDS)
async def test_questions_go_through_it(
    proxy: Proxy, upstream: Upstream, question: Any, kind: str, stream: bool
) -> None:
    async with opened(upstream.provider(kind)) as provider:
        for _ in range(2):
            said = await answer(provider, question("tokens", stream=stream))
            assert (said.text, said.finish) == ("tok0 tok1 tok2 tok3 tok4 ", "stop")
        assert "tokens" in [model.id for model in await provider.models()]
        with pytest.raises(TooManyRequests) as caught:
            await answer(provider, question("rate-limited?wait=ms", stream=stream))
        assert caught.value.headers["Retry-After"] in ("2", "3")
    assert len(proxy.asked) >= 4
    assert all(f" {upstream.root}/" in line for line in proxy.asked)
    await proxy.until_closed()
    await upstream.until(lambda server: server.connections == 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_tokens_come_as_they_are_made(proxy: Proxy, upstream: Upstream, question: Any, kind: str) -> None:
    async with opened(upstream.provider(kind)) as provider, provider.stream(question("stall")) as chunks:
        with trio.fail_after(5):
            assert await anext(chunks) == Chunk("Hello")
    await upstream.until(lambda server: server.connections == 0)


@STREAM
@pytest.mark.parametrize("scenario", ["silent", "silent-after-headers", "stall", "tokens?count=1000&delay=0.01"])
@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_leaves_ends_the_question_behind_it(
    proxy: Proxy, upstream: Upstream, question: Any, kind: str, scenario: str, stream: bool
) -> None:
    async with opened(upstream.provider(kind)) as provider:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, provider, question(scenario, stream=stream))
            await upstream.until(lambda server: server.open_requests == 1)
            await trio.sleep(0.02)
            nursery.cancel_scope.cancel(reason="the client leaves")
        await upstream.until(lambda server: server.connections == 0)
        await proxy.until_closed()
        assert upstream.left == 1


async def test_a_proxy_that_is_not_there(
    upstream: Upstream, question: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with opened(upstream.provider("openai")) as provider:
        with pytest.raises(Unavailable) as caught:
            await answer(provider, question("tokens"))
    assert caught.value.error_code == "PROVIDER_UNREACHABLE"


async def test_whom_no_proxy_names_is_asked_directly(
    proxy: Proxy, upstream: Upstream, question: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    async with opened(upstream.provider("openai")) as provider:
        assert (await answer(provider, question("tokens"))).finish == "stop"
    assert proxy.asked == []


async def test_https_goes_through_a_tunnel(
    proxy: Proxy, upstream: Upstream, question: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy sees where to, and nothing else."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def unwrap(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True)
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(upstream.url).port or 0) as plain:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pump, secure, plain, nursery.cancel_scope)
                nursery.start_soon(_pump, plain, secure, nursery.cancel_scope)
            plain.socket.close()
        stream.socket.close()

    async with listening(unwrap) as port:
        async with opened({"base_url": f"https://localhost:{port}/v1"}) as provider:
            for stream in (True, False):
                assert (await answer(provider, question("tokens", stream=stream))).finish == "stop"
            async with provider.stream(question("stall")) as chunks:
                assert await anext(chunks) == Chunk("Hello")
            await upstream.until(lambda server: server.open_requests == 0)
        assert set(proxy.asked) == {f"CONNECT localhost:{port} HTTP/1.1"}
        await proxy.until_closed()
        await upstream.until(lambda server: server.connections == 0)
