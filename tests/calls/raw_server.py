"""A server that speaks bytes, and a client of it with our transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx
import trio

from uait.calls.transport import TrioTransport

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
