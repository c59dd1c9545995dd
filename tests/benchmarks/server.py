"""What the bare server costs, without Quart and without services: requests and WebSocket messages a second, memory of an open connection.

    python tests/benchmarks/server.py

Rates are also given per second of the server's own processor time, which other programs on the machine disturb less. Linux only: both are read from /proc.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _process import free_ports, resident

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
HANDSHAKE = (
    b"GET /flood HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
MESSAGE = 200
FRAME = MESSAGE + 4

SERVER = f"""
import sys, trio
from uait.server import bind, open_server

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}})
        await send({{"type": "http.response.body", "body": b"hello"}})
    elif scope["type"] == "websocket":
        await send({{"type": "websocket.accept"}})
        if scope["path"] == "/flood":
            while True:
                await send({{"type": "websocket.send", "text": "x" * {MESSAGE}}})
        while (await receive())["type"] != "websocket.disconnect":
            pass

async def main():
    async with open_server(app, bind("127.0.0.1", int(sys.argv[1]))):
        print("ready", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """A server in a process of its own; gives its process id and port."""
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield process.pid, port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def connect(port: int, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(data)
    return sock


def used(pid: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, port: int, first: bytes, clients: int, seconds: float, size: int) -> str:
    """Let `clients` connections run for a while. `size` is what one answer takes; where it is 0, each answer asks for the next."""
    poll = selectors.DefaultSelector()
    for _ in range(clients):
        poll.register(connect(port, first), selectors.EVENT_READ)
    count, received = 0, 0
    began, before = time.perf_counter(), used(pid)
    while time.perf_counter() < began + seconds:
        for key, _ in poll.select(0.1):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            data = sock.recv(1 << 20)
            received += len(data)
            if not size and data.endswith(b"hello"):
                count += 1
                sock.sendall(REQUEST)
    took, busy = time.perf_counter() - began, used(pid) - before
    count = count or received // size
    for key in list(poll.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    return f"{count / took:8.0f}/s, {count / busy:8.0f} per second of processor time"


def memory(first: bytes, count: int) -> float:
    """KiB that one open connection takes, after its first answer."""
    with serving() as (pid, port):
        for _ in range(50):
            with connect(port, first) as sock:
                sock.recv(4096)
        time.sleep(1)
        before = resident(pid)
        sockets = []
        for _ in range(count):
            sockets.append(connect(port, first))
            sockets[-1].recv(4096)
        time.sleep(0.5)
        taken = resident(pid) - before
        for sock in sockets:
            sock.close()
    return taken * 1024 / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement (default 5)")
    parser.add_argument("--connections", type=int, default=1000, help="connections to weigh (default 1000)")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}")
    with serving() as (pid, port):
        for clients in (1, 16):
            print(f"requests, {clients:2} clients:  {measure(pid, port, REQUEST, clients, arguments.seconds, 0)}")
        flood = measure(pid, port, HANDSHAKE + b"\r\n", 50, arguments.seconds, FRAME)
        print(f"messages, 50 clients:  {flood}")
    quiet = HANDSHAKE.replace(b"/flood", b"/quiet")
    for name, first in (
        ("kept-alive connection", REQUEST),
        ("WebSocket", quiet + b"\r\n"),
        ("compressing WebSocket", quiet + DEFLATE + b"\r\n"),
    ):
        print(f"an idle {name}: {memory(first, arguments.connections):.1f} KiB")


if __name__ == "__main__":
    main()
