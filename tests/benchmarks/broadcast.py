"""One message to many WebSockets, side by side in one run: our prepared frames, our plain ASGI, node's `ws` and PyPI's `websockets`.

    python tests/benchmarks/broadcast.py [--clients 500] [--size 200] [--seconds 4] [--rounds 3]

Each server runs in a process on one core and sends as fast as its clients read, keeping at most a fixed number of bytes waiting for each. The clients are one and the same loop over epoll on another core, which only counts
bytes; that it is not the bottleneck is to be seen in how busy it is. `ws` is fetched from npm into a temporary folder; `websockets` and uvloop are installed by `nox -s bench`. What is not there is left out. Linux only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from _load import pinned
from _process import resident, used
from _serve import pinned as pinned_like_a_server

HERE = Path(__file__).parent
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BEHIND = 256 * 1024
SERVERS = ("native", "native_asgi", "ws", "websockets")


def framed(size: int) -> int:
    """Bytes that a message takes as a server's frame."""
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


def can_run(server: str) -> bool:
    if server == "ws":
        return shutil.which("npm") is not None and shutil.which("node") is not None
    return server != "websockets" or all(importlib.util.find_spec(name) for name in ("websockets", "uvloop"))


@contextmanager
def serving(server: str, clients: int, size: int) -> Iterator[tuple[int, int]]:
    """A server in a process of its own, that begins to send when all clients are there; gives its process id and port."""
    arguments = [str(clients), str(size), str(BEHIND)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "_broadcast.py"), server, *arguments]
        if server == "ws":
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "ws@8"], cwd=folder, check=True)
            shutil.copy(HERE / "_broadcast.mjs", folder)
            command = ["node", str(Path(folder) / "_broadcast.mjs"), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=pinned_like_a_server)
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte, for a frame may follow
        head += sock.recv(1)
    assert b" 101 " in head, head
    sock.setblocking(False)
    return sock


def count(sockets: list[socket.socket], seconds: float) -> tuple[int, float, float]:
    """Take in what comes. Returns bytes, seconds, and the part of them that this process was busy."""
    poll = select.epoll()
    receive = {sock.fileno(): sock.recv_into for sock in sockets}
    for number in receive:
        poll.register(number, select.EPOLLIN)
    buffer = bytearray(1 << 20)
    deadline = time.perf_counter() + 0.5  # it may find its pace first
    total = 0
    for length in (0.5, seconds):
        total, began, busy = 0, time.perf_counter(), time.process_time()
        deadline = began + length
        while time.perf_counter() < deadline:
            for number, _ in poll.poll(0.1):
                total += receive[number](buffer)
    took = time.perf_counter() - began
    poll.close()
    return total, took, (time.process_time() - busy) / took


def measure(server: str, clients: int, size: int, seconds: float) -> tuple[float, float, float, float]:
    """Deliveries a second, the same per second of the server's processor time, how busy the clients were, and the server's MiB."""
    with serving(server, clients, size) as (pid, port), ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(clients)]
        before = used(pid)
        received, took, busy = count(sockets, seconds)
        deliveries = received / framed(size)
        return deliveries / took, deliveries / max(0.01, used(pid) - before) * (took + 0.5) / took, busy, resident(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500, help="WebSockets (default 500)")
    parser.add_argument("--size", type=int, default=200, help="bytes of a message (default 200)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--only", nargs="+", default=SERVERS, choices=SERVERS, help="leave out the others")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    pinned()
    servers = [server for server in arguments.only if can_run(server)]
    for server in set(arguments.only) - set(servers):
        print(f"left out: {server}, which is not installed")
    rounds: dict[str, list[tuple[float, float, float, float]]] = {server: [] for server in servers}
    for _ in range(arguments.rounds):
        for server in servers:
            rounds[server].append(measure(server, arguments.clients, arguments.size, arguments.seconds))
    print(f"Python {sys.version.split()[0]}; {arguments.clients} WebSockets, {arguments.size} bytes, {os.cpu_count()} cores")  # fmt: skip
    print(f"{'':12} {'deliveries/s':>13} {'of its own time':>16} {'clients busy':>13} {'MiB':>6}")
    rates = {}
    for server, found in rounds.items():
        rate, own, busy, size = (statistics.median(values) for values in zip(*found, strict=True))
        rates[server] = rate
        print(f"{server:12} {rate:13.0f} {own:16.0f} {busy:13.0%} {size:6.0f}")
    for other in ("ws", "websockets"):
        if "native" in rates and other in rates:
            print(f"native / {other}: {rates['native'] / rates[other]:.2f}")


if __name__ == "__main__":
    main()
