"""How long `python -m uait` takes to six healthy services, and how much memory it holds: idle, and after 10,000 requests.

    python tests/benchmarks/start.py

Prints both beside what a bare import of trio, quart, hypercorn and httpx costs in the same run. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import trio
from _process import resident, running

IMPORTS = "import trio, quart, quart_trio, hypercorn.trio, httpx"


async def load(ports: dict[str, int], requests: int, clients: int = 16) -> float:
    """Send `requests` requests over kept-alive connections: health, information, memory, chat in turn. Returns requests a second."""

    def request(method: str, path: str, body: object = None) -> bytes:
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-User-ID: bench\r\n"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        return head.encode() + b"\r\n" + data

    kinds = [
        (ports["gateway"], request("GET", "/health/live")),
        (ports["hub"], request("GET", "/health")),
        (ports["memory"], request("POST", "/memory/search", {"query": "anything"})),
        (ports["discovery"], request("GET", "/services")),
        (ports["gateway"], request("POST", "/api/v1/chat", {"message": "Hello"})),
    ]

    async def client(number: int, count: int) -> None:
        port, data = kinds[number % len(kinds)]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            for _ in range(count):
                await stream.send_all(data)
                buffer = b""
                while b"\r\n\r\n" not in buffer:
                    buffer += await some(stream)
                head, _, rest = buffer.partition(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 2"):
                    raise RuntimeError(head.decode())
                if b"chunked" in head.lower():
                    while not rest.endswith(b"0\r\n\r\n"):
                        rest += await some(stream)
                else:
                    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                    while len(rest) < length:
                        rest += await some(stream)

    async def some(stream: trio.SocketStream) -> bytes:
        data = await stream.receive_some()
        if not data:
            raise RuntimeError("the connection was closed")
        return bytes(data)

    started = time.perf_counter()
    with trio.fail_after(300):
        done = 0
        while done < requests:  # connections are replaced now and then, as real ones are
            async with trio.open_nursery() as nursery:
                for number in range(clients):
                    nursery.start_soon(client, number, 100)
            done += clients * 100
    return done / (time.perf_counter() - started)


def imports() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="starts to measure (default 7)")
    parser.add_argument(
        "--requests", type=int, default=10_000, help="requests before memory is read again (default 10000)"
    )
    arguments = parser.parse_args()
    bare, starts = [], []
    for _ in range(arguments.rounds):
        bare.append(imports())
        with tempfile.TemporaryDirectory() as directory, running(directory) as (_, _, seconds):
            starts.append(seconds)
    with tempfile.TemporaryDirectory() as directory, running(directory) as (process, ports, _):
        time.sleep(2)
        idle = resident(process.pid)
        rate = trio.run(load, ports, arguments.requests)
        time.sleep(2)
        busy = resident(process.pid)
        files = len(os.listdir(f"/proc/{process.pid}/fd"))
    print(f"Python {sys.version.split()[0]}, median of {arguments.rounds}")
    print(f"bare import of trio, quart, hypercorn, httpx: {statistics.median(bare):.3f} s")
    print(f"start to all six healthy:                     {statistics.median(starts):.3f} s (goal < 0.5)")
    print(f"memory idle:                                  {idle:.1f} MiB (goal < 60)")
    print(f"memory after {arguments.requests} requests:            {busy:.1f} MiB (goal < 80), {files} files open")
    print(f"mixed load, 16 clients:                       {rate:.0f} requests/s")


if __name__ == "__main__":
    main()
