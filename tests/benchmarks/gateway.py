"""What the way through the gateway and the chat service costs, with an upstream that answers at once.

    python tests/benchmarks/gateway.py

The same load generator asks the mock upstream itself and, through uait, the same upstream again; three processes share the machine, so read the
ratios, not the numbers. Streams are measured twice: with an upstream that has everything ready at once, so that chunks travel many to a packet, and with
one that sends each chunk by itself. Last: how long after a client has left is its upstream connection closed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio
from _process import running, used

UPSTREAM = Path(__file__).parents[1] / "mock_upstream"
PACED = Path(__file__).with_name("_paced.py")
CHUNKS = 100

OFFERED = 30_000
"""Chunks a second that the paced upstream sends over all streams together, as far as it can."""


@contextmanager
def upstream(program: Path = UPSTREAM) -> Iterator[tuple[int, int]]:
    """A model server in a process of its own; gives its port and its process id."""
    process = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().rstrip().rpartition(":")[2].partition("/")[0]), process.pid
    finally:
        process.kill()
        process.wait(10)


def request(path: str, body: dict[str, object]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def answer(stream: trio.SocketStream) -> tuple[int, int]:
    """Read one answer. Returns the number of `data:` events in it, and its status."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += await some(stream)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if b"chunked" in head.lower():
        events, tail = rest.count(b"data:"), rest[-8:]
        while not tail.endswith(b"0\r\n\r\n"):
            data = await some(stream)
            events += (tail[-4:] + data).count(b"data:")
            tail = (tail + data)[-8:]
        return events, status
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    size = len(rest)
    while size < length:
        size += len(await some(stream))
    return 0, status


async def some(stream: trio.SocketStream) -> bytes:
    data = await stream.receive_some(262144)
    if not data:
        raise RuntimeError("the connection was closed")
    return bytes(data)


async def measure(port: int, data: bytes, clients: int, seconds: float) -> tuple[float, float, float, int]:
    """Ask for `seconds` with `clients` connections. Returns answers a second, events a second, the median milliseconds of one answer, and all events."""
    took: list[float] = []
    events = 0

    async def client() -> None:
        nonlocal events
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            while trio.current_time() < end:
                begun = trio.current_time()
                await stream.send_all(data)
                found, status = await answer(stream)
                if status != 200:
                    raise RuntimeError(f"status {status}")
                events += found
                took.append(trio.current_time() - begun)

    begun = trio.current_time()
    end = begun + seconds
    with trio.fail_after(seconds + 30):
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(client)
    spent = trio.current_time() - begun
    return len(took) / spent, events / spent, statistics.median(took) * 1000, events


async def leaving(port: int, mock: int, data: bytes, rounds: int, patience: float = 10) -> list[float]:
    """Milliseconds from a client's close to the upstream's count of open requests being zero, a poll's time included.

    Args:
        data: asks for a stream that is longer than `patience`.
        patience: seconds to wait for that at most.

    Raises:
        trio.TooSlowError: it took longer.
    """
    took = []
    poll = await trio.open_tcp_stream("127.0.0.1", mock)

    async def open_requests() -> int:
        await poll.send_all(b"GET /mock HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"}" not in answer:
            answer += await some(poll)
        return int(json.loads(answer[answer.index(b"{") :])["open_requests"]) - 1  # less this question itself

    async with poll:
        for _ in range(rounds):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(data)
            with trio.fail_after(10):
                while b"data:" not in await some(stream):
                    pass
            await stream.aclose()
            left = time.perf_counter()
            with trio.fail_after(patience):
                while await open_requests():
                    await trio.sleep(0.001)
            took.append((time.perf_counter() - left) * 1000)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="how long each line is measured (default 4)")
    arguments = parser.parse_args()
    message = {"messages": [{"role": "user", "content": "hi"}], "model": "tokens?count=5"}
    streamed = {**message, "model": f"tokens?count={CHUNKS}", "stream": True}
    with upstream() as (mock, _), tempfile.TemporaryDirectory() as directory:
        environment = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{mock}/v1"}
        with running(directory, **environment) as (_, ports, _):
            gateway = ports["gateway"]

            def line(what: str, path: str, body: dict[str, object], clients: int, *, events: bool = False) -> None:
                through = dict(body, model=f"openai/{body['model']}")
                direct = trio.run(
                    partial(measure, mock, request("/v1/chat/completions", body), clients, arguments.seconds)
                )
                ours = trio.run(partial(measure, gateway, request(path, through), clients, arguments.seconds))
                index, unit = (1, "chunks/s") if events else (0, "answers/s")
                print(
                    f"{what:46} {clients:3} clients: {ours[index]:8.0f} {unit}, upstream alone {direct[index]:8.0f}, "
                    f"ratio {ours[index] / direct[index]:.2f}, median {ours[2]:.2f} ms against {direct[2]:.2f} ms"
                )

            own = {"message": "hi", "model": message["model"]}
            for clients in (1, 16):
                line("/v1/chat/completions", "/v1/chat/completions", message, clients)
                line("/api/v1/chat, both messages stored durably", "/api/v1/chat", {**own, **message}, clients)
            for clients in (1, 16, 64):
                line("/v1/chat/completions, streamed", "/v1/chat/completions", streamed, clients, events=True)
            left = request(
                "/v1/chat/completions",
                {**message, "model": "openai/tokens?count=10000&delay=0.01", "stream": True},
            )
            took = sorted(trio.run(leaving, gateway, mock, left, 100))
            print(f"upstream closed after the client left: median {took[50]:.1f} ms, p99 {took[98]:.1f} ms (goal < 20)")
    with upstream(PACED) as (paced, _), tempfile.TemporaryDirectory() as directory:
        environment = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": f"http://127.0.0.1:{paced}/v1"}
        with running(directory, **environment) as (process, ports, _):
            for path in ("/v1/chat/completions", "/api/v1/chat"):
                for clients in (16, 64):
                    model = f"paced?count={10 * CHUNKS}&interval={clients / OFFERED:.6f}"
                    body = {"message": "hi", "messages": message["messages"], "model": model, "stream": True}
                    alone = trio.run(partial(measure, paced, request("/v1", body), clients, arguments.seconds))
                    body["model"] = f"openai/{model}"
                    before = used(process.pid)
                    ours = trio.run(partial(measure, ports["gateway"], request(path, body), clients, arguments.seconds))
                    spent = used(process.pid) - before
                    print(
                        f"{path + ', each chunk by itself':46} {clients:3} clients: {ours[1]:8.0f} chunks/s, "
                        f"upstream alone {alone[1]:8.0f}, {spent / (ours[3] or 1) * 1e6:.0f} us of processor time a chunk"
                    )


if __name__ == "__main__":
    main()
