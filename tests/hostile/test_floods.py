"""More than is good: of connections, of tiny pieces, of what is never read. Others are served all the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from echo import Echo
from serving import KINDS, Running, serving
from wire import BINARY, TEXT, Wire, dial, frame, request

FILES = 64
"""That the flooded server may have open."""

TESTS = Path(__file__).parent.parent


@attrs.define
class Flooded:
    """A server in a process of its own, and what it has logged."""

    port: int
    process: subprocess.Popen[str]

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def log(self) -> str:
        """All of it; the server has ended then."""
        self.process.terminate()
        return self.process.communicate(timeout=10)[0]


@asynccontextmanager
async def flooded(kind: str) -> AsyncIterator[Flooded]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r}); import hostile.flooded"]
    process = subprocess.Popen([*command, kind, str(FILES)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Flooded(int(await trio.to_thread.run_sync(process.stdout.readline)), process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def connected(stack: AsyncExitStack, port: int, count: int) -> list[Wire]:
    return [await stack.enter_async_context(dial(port)) for _ in range(count)]


@pytest.mark.skipif(sys.platform != "linux", reason="it counts files in /proc")
@pytest.mark.parametrize(
    "what",
    ["silent", pytest.param("idle", marks=pytest.mark.hostile), pytest.param("half a head", marks=pytest.mark.hostile)],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_up_to_the_file_limit_is_survived(kind: str, what: str) -> None:
    with trio.fail_after(30):
        async with flooded(kind) as server, dial(server.port) as honest, AsyncExitStack() as stack:
            assert (await honest.ask()).status == 200
            before = server.open_files()
            flood = await connected(stack, server.port, 2 * FILES)  # the rest waits in the backlog
            for wire in flood if what != "silent" else []:
                await wire.send(request() if what == "idle" else request()[:20])
            while server.open_files() < FILES:
                await trio.sleep(0.01)
            for _ in range(10):  # who is inside is served
                assert (await honest.ask()).body == b"hello"
                await trio.sleep(0.02)
            async with dial(
                server.port
            ) as late:  # who comes is served in turn: those who say nothing are sent away in time
                assert (await late.ask()).body == b"hello"
            await stack.aclose()
            while server.open_files() > before:
                await trio.sleep(0.02)
            async with dial(server.port) as after:
                assert (await after.ask()).body == b"hello"
            log = server.log()
            assert log.count("cannot accept connections") == 1  # and not once for each
            assert not [line for line in log.splitlines() if line.startswith("ERROR")]


async def serves_others(running: Running, times: int = 5) -> None:
    """Somebody else's requests are answered while the flood is on. A bound on each would be a bound on the machine; that they get through at all is not."""
    async with running.dial() as wire:
        for _ in range(times):
            assert (await wire.ask()).body == b"hello"


FLOODS = {
    "chunks of one byte": (request("/count", "Transfer-Encoding: chunked", method="POST"), b"1\r\nx\r\n" * 2000),
    "chunks with extensions": (request("/count", "Transfer-Encoding: chunked", method="POST"), b"1;a=b\r\nx\r\n" * 2000),
    "bytes that nobody takes": (request("/wait", "Content-Length: 1000000000", method="POST"), b"x" * 10_000),
    "chunks that nobody takes": (request("/wait", "Transfer-Encoding: chunked", method="POST"), b"1\r\nx\r\n" * 2000),
    "requests": (b"", request("/") * 200),
    "requests that nobody answers": (request("/wait"), request("/") * 200),
    "line ends": (b"", b"\r\n" * 5000),
}  # fmt: skip


@pytest.mark.hostile
@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_on_one_connection_keeps_nobody_else_from_being_served(kind: str, name: str) -> None:
    first, piece = FLOODS[name]
    async with serving(Echo(), speak=KINDS[kind], body_bytes=2**40) as running, running.dial() as wire:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                await wire.rest()

            @nursery.start_soon
            async def flood() -> None:
                try:
                    await wire.send(first)
                    while True:
                        await wire.send(piece)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

            await trio.sleep(0.1)
            await serves_others(running)
            nursery.cancel_scope.cancel(reason="they were served")
        wire.reset()  # an ordinary end would wait behind what nobody takes in
        await running.settled()


@pytest.mark.hostile
@pytest.mark.parametrize("name", ["tiny messages", "empty pieces", "pings", "pongs"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_frames_keeps_nobody_else_from_being_served(kind: str, name: str) -> None:
    piece = {
        "tiny messages": frame(TEXT, b"x"),
        "empty pieces": frame(BINARY, fin=False) + frame(0, fin=False) * 98 + frame(0),
        "pings": frame(9, b"x"),
        "pongs": frame(10, b"x"),
    }[name] * 500
    async with serving(Echo(), speak=KINDS[kind]) as running, running.dial() as wire:
        await wire.open_websocket()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                while await wire.stream.receive_some():
                    pass

            @nursery.start_soon
            async def flood() -> None:
                while True:
                    await wire.send(piece)

            await trio.sleep(0.1)
            await serves_others(running)
            nursery.cancel_scope.cancel(reason="they were served")
        wire.reset()  # an ordinary end would wait behind what nobody takes in
        await running.settled()


@pytest.mark.hostile
@pytest.mark.parametrize("path", ["/big", "/ws/flood"])
@pytest.mark.parametrize("kind", KINDS)
async def test_slow_readers_hold_up_nobody(kind: str, path: str) -> None:
    async with serving(Echo(), speak=KINDS[kind], send_timeout=1.0) as running, AsyncExitStack() as stack:
        readers = []
        for _ in range(20):
            wire = await stack.enter_async_context(running.dial(receive_buffer=4096))
            readers.append(wire)
            if path == "/big":
                await wire.send(request(path))
            else:
                await wire.open_websocket(path)
        async with trio.open_nursery() as nursery:

            async def read_slowly(wire: Wire) -> None:
                while True:
                    assert await wire.stream.receive_some(2000)
                    await trio.sleep(0.05)

            for wire in readers:
                nursery.start_soon(read_slowly, wire)
            await serves_others(running, 20)
            nursery.cancel_scope.cancel(reason="they were served")
        assert running.server.statistics().open >= len(readers)
        await running.settled()  # and now that they read no more, they are dropped
