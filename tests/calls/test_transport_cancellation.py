"""Whatever is cancelled, and wherever: no place at an origin, no connection and no task stays behind, and the next request is served."""

from __future__ import annotations

import contextvars
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
import trio.lowlevel
from calls.raw_server import read_request

from uait.calls.transport import TrioTransport

SOON = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

mine = contextvars.ContextVar[object]("mine")


class CancelAt(trio.abc.Instrument):
    """Cancels a scope before the n-th step of the tasks that run in it."""

    def __init__(self, at: int) -> None:
        self.scope = trio.CancelScope()
        self._at = at
        self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.context.get(mine) is self:
            self._steps += 1
            if self._steps == self._at:
                self.scope.cancel(reason="it is the test's turn")

    async def run(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do `work`, in a task of its own."""

        async def inside() -> None:
            mine.set(self)
            with self.scope:
                await work()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(inside)


class Server:
    """Answers by the path it is asked for, and counts its connections."""

    def __init__(self) -> None:
        self.open = 0
        self.asked = 0

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            async with stream:
                await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        asked = 0
        while request := await read_request(stream):
            asked += 1
            self.asked += 1
            match request.split(b" ", 2)[1]:
                case b"/parts":
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n")
                    await trio.lowlevel.checkpoint()
                    await stream.send_all(b"1\r\nk\r\n0\r\n\r\n")
                case b"/upload":
                    body = request.partition(b"\r\n\r\n")[2]
                    while not body.endswith(b"0\r\n\r\n"):
                        if not (more := await stream.receive_some()):
                            return
                        body = body[-5:] + more
                    await stream.send_all(OK)
                case b"/stale" if asked > 1:
                    return
                case b"/close":
                    await stream.send_all(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                    return
                case _:
                    await stream.send_all(OK)


@asynccontextmanager
async def serving(**options: int) -> AsyncIterator[tuple[Server, TrioTransport, str]]:
    server = Server()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, server, 0, host="127.0.0.1"))
        async with TrioTransport(**options) as transport:
            yield server, transport, f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
            await nothing_is_left(server, transport)
        nursery.cancel_scope.cancel(reason="the test is over")


async def nothing_is_left(server: Server, transport: TrioTransport) -> None:
    """Nobody has a place, and no connection is open that is not kept for the next one."""
    pool = transport._pool
    assert pool._places == {}
    kept = sum(len(connections) for connections in pool._idle.values())
    assert kept == pool._idle_count
    with trio.fail_after(SOON):
        while server.open != kept:
            await trio.sleep(0.001)


async def ask(transport: TrioTransport, url: str, *, method: str = "GET", parts: int = 0, read: int = -1) -> None:
    """Ask, and read so many pieces of the answer, or all."""

    times = dict.fromkeys(("connect", "read", "write", "pool"), SOON)
    content = Some(Endless(), parts) if parts else None
    response = await transport.handle_async_request(
        httpx.Request(method, url, content=content, extensions={"timeout": times})
    )
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    try:
        pieces = [piece async for piece in Some(stream, read)]
    finally:
        await stream.aclose()
    if read < 0:
        assert (response.status_code, b"".join(pieces)) == (200, b"ok")


class Endless:
    """A body without an end."""

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"x" * 200_000


class Some:
    """The first so many pieces of a body, without a generator that could be left halfway."""

    def __init__(self, stream: AsyncIterable[bytes], count: int) -> None:
        self._pieces = aiter(stream)
        self._count = count

    def __aiter__(self) -> Some:
        return self

    async def __anext__(self) -> bytes:
        if self._count == 0:
            raise StopAsyncIteration
        self._count -= 1
        return await anext(self._pieces)


async def first_ask(transport: TrioTransport, url: str) -> None:
    await ask(transport, url)


async def ask_over_a_kept_connection(transport: TrioTransport, url: str) -> None:
    await ask(transport, url)
    await ask(transport, url)


async def ask_in_parts(transport: TrioTransport, url: str) -> None:
    await ask(transport, f"{url}/parts")


async def leave_in_the_middle(transport: TrioTransport, url: str) -> None:
    await ask(transport, f"{url}/parts", read=1)


async def upload(transport: TrioTransport, url: str) -> None:
    await ask(transport, f"{url}/upload", method="POST", parts=4)


async def ask_over_a_stale_connection(transport: TrioTransport, url: str) -> None:
    await ask(transport, f"{url}/stale")
    await ask(transport, f"{url}/stale")


async def ask_when_it_is_full(transport: TrioTransport, url: str) -> None:
    async with trio.open_nursery() as nursery:
        for path in ("/parts", "/", "/close", "/"):
            nursery.start_soon(ask, transport, url + path)


@pytest.mark.parametrize(
    "work",
    [
        first_ask,
        ask_over_a_kept_connection,
        ask_in_parts,
        leave_in_the_middle,
        upload,
        ask_over_a_stale_connection,
        ask_when_it_is_full,
    ],
)
async def test_a_cancellation_at_any_step_leaves_nothing(
    work: Callable[[TrioTransport, str], Awaitable[None]],
) -> None:
    async with serving(per_origin=2) as (server, transport, url):
        for at in range(1, 1000):
            cancel = CancelAt(at)
            trio.lowlevel.add_instrument(cancel)
            try:
                with trio.fail_after(SOON):
                    await cancel.run(partial(work, transport, url))
            finally:
                trio.lowlevel.remove_instrument(cancel)
            await nothing_is_left(server, transport)
            with trio.fail_after(SOON):
                await ask(transport, url)
            if not cancel.scope.cancel_called:
                break
            # A connection that is kept would spare the next round the steps of making one.
            transport._pool.close()
            transport._pool._closed = False
        assert 3 < at < 999


async def test_who_is_cancelled_already_asks_for_nothing() -> None:
    async with serving() as (server, transport, url):
        await ask(transport, url)
        with trio.CancelScope() as scope:
            scope.cancel(reason="before it begins")
            await ask(transport, url, method="POST")
        await trio.sleep(0.02)
        assert server.asked == 1


async def cancelling_at_random(times: int, seed: int) -> None:
    """Ask for all kinds of answers, a few at once, until so many of those who asked have been cancelled."""
    source = random.Random(seed)
    left = times
    async with serving(per_origin=3) as (server, transport, url):

        async def keep_asking() -> None:
            nonlocal left
            while left > 0:
                path = source.choice(["/", "/parts", "/upload", "/stale", "/close"])
                parts = source.choice([1, 4]) if path == "/upload" else 0
                method, read = "POST" if parts else "GET", source.choice([-1, 0, 1])
                with trio.move_on_after(source.choice([0, 0.0005, 0.002, 0.01])) as scope:
                    await ask(transport, url + path, method=method, parts=parts, read=read)
                left -= scope.cancelled_caught

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(keep_asking)
        await nothing_is_left(server, transport)
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask, transport, url)


async def test_hundreds_of_cancellations_leave_nothing() -> None:
    await cancelling_at_random(300, 1)


@pytest.mark.hostile
async def test_ten_thousand_cancellations_leave_nothing() -> None:
    await cancelling_at_random(10_000, 2)
