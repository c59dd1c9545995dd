"""What a request to another server costs in this process: our transport beside httpx as it is, with 1, 16 and 64 under way, against an upstream that answers at once.

    python tests/benchmarks/outgoing.py

Everything is asked for in one process and through httpx's interface, in turns, so that whatever else the machine does meets all alike:

* httpx: its client as it is;
* ours: its client over our transport;
* nobody: its client over a transport that makes an answer up, which is what the client itself costs;
* a Request: handed to our transport without a client, as our model providers do.

Beside the rate stands what one request cost of this process's own processor time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx
import trio

from uait.calls.transport import TrioTransport

UPSTREAM = r"""
import selectors, socket

BODY = b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"}}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 26 Nov 2026 20:00:00 GMT\r\ncontent-type: application/json\r\n"
    b"x-request-id: 0123456789abcdef\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
poll = selectors.EpollSelector() if hasattr(selectors, "EpollSelector") else selectors.DefaultSelector()
listener = socket.create_server(("127.0.0.1", 0), backlog=256)
poll.register(listener, selectors.EVENT_READ)
print(listener.getsockname()[1], flush=True)
while True:
    for key, _ in poll.select():
        sock = key.fileobj
        if sock is listener:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll.register(sock, selectors.EVENT_READ)
            continue
        try:
            data = sock.recv(65536)
            if data:
                sock.sendall(ANSWER * data.count(b"\r\n\r\n"))
                continue
        except OSError:
            pass
        poll.unregister(sock)
        sock.close()
"""

Ask = Callable[[], Awaitable[None]]


class Nobody(httpx.AsyncBaseTransport):
    """Answers without asking."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        return httpx.Response(200, headers=[(b"content-length", b"2")], stream=httpx.ByteStream(b"{}"))


@contextmanager
def upstream() -> Iterator[str]:
    """The instant upstream in a process of its own; gives its URL."""
    process = subprocess.Popen([sys.executable, "-c", UPSTREAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/chat/completions"
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def measure(ask: Ask, together: int, seconds: float) -> tuple[float, float]:
    """Let `together` tasks ask for a while. Returns answers a second, and the microseconds of processor time of one."""
    count = 0

    async def keep_asking() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await ask()
            count += 1

    begun, used = time.perf_counter(), time.process_time()
    end = begun + seconds
    with trio.fail_after(seconds + 30):
        async with trio.open_nursery() as nursery:
            for _ in range(together):
                nursery.start_soon(keep_asking)
    return count / (time.perf_counter() - begun), (time.process_time() - used) / count * 1e6


async def run(url: str, seconds: float) -> None:
    transport = TrioTransport()
    target, headers = httpx.URL(url), httpx.Headers({"accept-encoding": "identity", "user-agent": "uait"})
    async with (
        httpx.AsyncClient() as theirs,
        httpx.AsyncClient(transport=transport) as ours,
        httpx.AsyncClient(transport=Nobody()) as nobodys,
    ):

        async def with_httpx() -> None:
            (await theirs.get(url)).raise_for_status()

        async def with_ours() -> None:
            (await ours.get(url)).raise_for_status()

        async def with_nobody() -> None:
            (await nobodys.get(url)).raise_for_status()

        async def prepared() -> None:
            response = await transport.handle_async_request(httpx.Request("GET", target, headers=headers))
            await response.aread()
            await response.aclose()
            response.raise_for_status()

        ways = {"httpx": with_httpx, "ours": with_ours, "nobody": with_nobody, "a Request": prepared}
        for together in (1, 16, 64):
            rates = {}
            for name, ask in ways.items():
                await measure(ask, together, 0.3)
                rates[name] = await measure(ask, together, seconds)
            line = ", ".join(f"{name} {rate:5.0f}/s at {cost:4.0f} µs" for name, (rate, cost) in rates.items())
            print(
                f"{together:2} under way: {line}; ours / httpx {rates['ours'][0] / rates['httpx'][0]:.1f}, "
                f"a Request / httpx {rates['a Request'][0] / rates['httpx'][0]:.1f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement (default 2)")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}; goal: more than 3,000/s at 16 and at 64")
    with upstream() as url:
        trio.run(run, url, arguments.seconds)


if __name__ == "__main__":
    main()
