"""What the hub costs: fan-out to many WebSockets beside node's `ws` and PyPI's `websockets` in the same run, latency, memory of an idle connection.

    python tests/benchmarks/hub.py [--clients 500] [--seconds 3] [--rounds 3] [--connections 10000] [--tools DIR]

One client sends, every client gets: with five messages on their way at once, and with one, where each has to reach everybody before the next is said. The servers take turns, each has one core to itself,
and the load generator, which only counts marks in what it reads, another one; that it is not the bottleneck is to be seen in how busy it is. The peers are installed into a directory of their own
(npm and pip); one that cannot be is left out. Linux only: processor time and memory are read from /proc.
"""

from __future__ import annotations

import argparse
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

import attrs
from _process import free_ports, used

WS = """
const {WebSocketServer} = require('ws');
const server = new WebSocketServer({host: '127.0.0.1', port: +process.argv[2], perMessageDeflate: false});
server.on('connection', client => client.on('message', data => {
  for (const each of server.clients) if (each.readyState === 1) each.send(data, {binary: false});
}));
"""
WEBSOCKETS = """
import asyncio, sys
from websockets.asyncio.server import broadcast, serve

async def handler(connection):
    async for message in connection:
        broadcast(server.connections, message)

async def main():
    global server
    async with serve(handler, '127.0.0.1', int(sys.argv[1]), compression=None, max_queue=None) as server:
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""
MARK = b"#"  # and not "~", which is the first byte of a length
SIZE = 200
UNDER_WAY = (5, 1)
"""Messages that are on their way at once: enough to keep a server busy, and few enough for their latency to be the server's."""
TIMED = 8
"""The delay is taken at one of so many clients, for taking it costs the generator more than reading."""
FROM_ONE_ADDRESS = 20_000
"""Connections to one port from one address of the loopback network, of those that its ports allow."""


@attrs.frozen
class Server:
    name: str
    command: list[str]
    path: str = "/"
    environment: dict[str, str] = attrs.field(factory=dict)
    envelope: int = 0
    """Bytes that it adds to a message."""


def uait(folder: Path) -> Server:
    settings = {"UAIT_HUB_RATE": "0", "UAIT_HUB_CONNECTIONS_PER_USER": "20000", "UAIT_LIMITS_CONNECTIONS": "20000"}
    command = [
        sys.executable,
        "-m",
        "uait",
        "--only",
        "hub",
        "--data-dir",
        str(folder / "data"),
        "--log-level",
        "error",
    ]
    return Server("uait hub", [*command, "--port", "hub={port}"], "/ws", settings, envelope=161)


def peers(tools: Path) -> list[Server]:
    """Those that can be installed."""
    found = []
    if shutil.which("node") and shutil.which("npm"):
        if not (tools / "node_modules" / "ws").exists():
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(tools), "ws"])
        if (tools / "node_modules" / "ws").exists():
            (tools / "server.cjs").write_text(WS)
            found.append(Server("ws (node)", ["node", str(tools / "server.cjs"), "{port}"]))
    packages = tools / "packages"
    if not packages.exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), "websockets"]
        subprocess.run(install, stderr=subprocess.DEVNULL)
    if packages.exists():
        environment = {"PYTHONPATH": str(packages)}
        found.append(Server("websockets", [sys.executable, "-c", WEBSOCKETS, "{port}"], environment=environment))
    return found


@contextmanager
def running(server: Server, core: int | None) -> Iterator[tuple[int, int]]:
    """The server in a process of its own, on one core; gives its process id and port."""
    (port,) = free_ports(1)
    command = [part.replace("{port}", str(port)) for part in server.command]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **server.environment}
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        give_up = time.perf_counter() + 30
        while True:
            try:
                Client(port, server.path).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() > give_up:
                    raise
                time.sleep(0.02)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


class Client:
    """A WebSocket client that knows no more than it must."""

    def __init__(self, port: int, path: str, address: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(address, 0))
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.socket.recv(4096)
            if not data:
                raise ConnectionError("the server closed during the handshake")
            head += data
        if b" 101 " not in head[:20]:
            raise ConnectionError(head[:200].decode(errors="replace"))

    def send(self, payload: bytes) -> None:
        """One text frame, masked with zeros."""
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + payload)

    def close(self) -> None:
        self.socket.close()


@attrs.frozen
class Result:
    """`busy`: the share of the time that the load generator's core was busy with it."""

    rate: float
    microseconds: float
    median: float
    p99: float
    busy: float


def fan_out(server: Server, pid: int, port: int, clients: int, seconds: float, under_way: int) -> Result:
    """Have one client's messages go to all."""
    everybody = [Client(port, server.path) for _ in range(clients)]
    speaker = everybody[0]
    poll = select.epoll()
    time.sleep(0.3)
    for client in everybody:
        client.socket.setblocking(False)
        try:
            while client.socket.recv(65536):  # the welcome, and whatever else there is
                pass
        except BlockingIOError:
            pass
        poll.register(client.socket, select.EPOLLIN)
    speaker.socket.setblocking(True)
    receive = {client.socket.fileno(): client.socket.recv_into for client in everybody}
    timed = {client.socket.fileno() for client in everybody[::TIMED]}
    buffer = bytearray(1 << 18)
    text = "x" * (SIZE - server.envelope - 10)
    sent: list[float] = []
    delays: list[float] = []
    received = 0
    began, before, mine = time.perf_counter(), used(pid), time.process_time()
    end = began + seconds
    while (now := time.perf_counter()) < end or received < len(sent) * clients:
        if now > end + 10:
            raise RuntimeError(f"{server.name}: {len(sent) * clients - received} messages did not arrive")
        while now < end and received >= (len(sent) - under_way + 1) * clients - (clients // 2 if under_way > 1 else 0):
            payload = (
                f'{{"type":"chat","content":"{text}{len(sent):07}#"}}' if server.envelope else f"{text}{len(sent):09}#"
            )
            sent.append(time.perf_counter())
            speaker.send(payload.encode())
        for number, _ in poll.poll(0.05):
            size = receive[number](buffer)
            received += buffer.count(MARK, 0, size)
            if number in timed:
                last = buffer.rfind(MARK, 0, size)
                if last >= 7:
                    delays.append(time.perf_counter() - sent[int(buffer[last - 7 : last])])
    took = time.perf_counter() - began
    spent = used(pid) - before
    busy = (time.process_time() - mine) / took
    for client in everybody:
        client.close()
    poll.close()
    delays.sort()
    deliveries = len(sent) * clients
    return Result(
        deliveries / took,
        spent * 1e6 / deliveries,
        delays[len(delays) // 2] * 1000,
        delays[len(delays) * 99 // 100] * 1000,
        busy,
    )


def median(results: list[Result]) -> Result:
    return Result(*map(statistics.median, zip(*map(attrs.astuple, results), strict=True)))


def compare(servers: list[Server], core: int | None, clients: int, seconds: float, rounds: int) -> None:
    """Have the servers take turns."""
    with ExitStack() as stack:
        processes = [(server, *stack.enter_context(running(server, core))) for server in servers]
        for process in processes:
            fan_out(*process, clients, 1.0, UNDER_WAY[0])
        for under_way in UNDER_WAY:
            found: dict[str, list[Result]] = {server.name: [] for server in servers}
            for _ in range(rounds):
                for process in processes:
                    found[process[0].name].append(fan_out(*process, clients, seconds, under_way))
            print(f"{under_way} under way:")
            ours = median(found[servers[0].name])
            for name, results in found.items():
                result = median(results)
                ratio = (
                    f", uait: {ours.rate / result.rate:.2f} times the rate, "
                    f"{result.microseconds / ours.microseconds:.2f} by processor time"
                )
                print(
                    f"  {name:12} {result.rate:9,.0f} deliveries/s, {result.microseconds:5.2f} µs of its processor time each, "
                    f"median {result.median:5.1f} ms, p99 {result.p99:5.1f} ms (generator {result.busy:.0%} busy)"
                    f"{'' if name == servers[0].name else ratio}"
                )


def memory(pid: int) -> tuple[float, float]:
    """MiB of a process that are in RAM, and those of them that are its own and no file's."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith("kB"):
            values[name] = int(rest.split()[0]) / 1024
    return values["Rss"], values["Anonymous"]


def answer_pings(clients: list[Client], poll: select.epoll) -> int:
    """Live on, where connecting takes longer than a server is patient. Returns how many the server has closed."""
    by_number = {client.socket.fileno(): client for client in clients}
    closed = 0
    for number, _ in poll.poll(0, len(clients)):
        data = by_number[number].socket.recv(65536)
        if not data:
            closed += 1
        elif data.endswith(b"\x89\0"):
            by_number[number].socket.sendall(b"\x8a\x80\0\0\0\0")
    return closed


def weigh(server: Server, pid: int, port: int, connections: int, patience: float) -> None:
    """Hold idle connections, and let them go."""
    for _ in range(100):
        Client(port, server.path).close()
    time.sleep(1)
    before = memory(pid)
    began = time.perf_counter()
    held: list[Client] = []
    poll = select.epoll()
    for number in range(connections):
        held.append(Client(port, server.path, f"127.0.0.{1 + number // FROM_ONE_ADDRESS}"))
        poll.register(held[-1].socket, select.EPOLLIN)
        if number % 500 == 499:
            answer_pings(held, poll)
    took = time.perf_counter() - began
    time.sleep(2)
    with_them = memory(pid)
    left = answer_pings(held, poll)
    if left:
        print(f"{left} of them did not stay: what is said of each is too little")
    for client in held:
        client.close()
    time.sleep(patience)
    after = memory(pid)
    each, own = ((more - less) * 1024 / connections for more, less in zip(with_them, before, strict=True))
    print(
        f"{connections} idle connections: {each:.1f} KiB each ({own:.1f} anonymous), accepted at {connections / took:.0f}/s"
    )
    for when, (rss, anonymous) in (("before", before), ("with them", with_them), (f"{patience:.0f} s after", after)):
        print(f"  {when:12} {rss:6.1f} MiB resident, {anonymous:6.1f} of them anonymous")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500, help="clients that get each message (default 500)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; 0: not (default 3)")
    parser.add_argument("--connections", type=int, default=10_000, help="idle connections to weigh (default 10000)")
    parser.add_argument("--patience", type=float, default=35.0, help="seconds until memory is read again (default 35)")
    parser.add_argument(
        "--tools", type=Path, help="where the peers are, or are to be installed (default: for this run)"
    )
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers', too
    cores = sorted(os.sched_getaffinity(0))
    print(f"Python {sys.version.split()[0]}, {arguments.clients} clients, messages of {SIZE} bytes")
    with tempfile.TemporaryDirectory() as name:
        tools = arguments.tools or Path(name) / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))
        if arguments.rounds:
            core = cores[0] if len(cores) > 1 else None
            servers = [uait(Path(name)), *peers(tools)]
            compare(servers, core, arguments.clients, arguments.seconds, arguments.rounds)
        for allocator in ("pymalloc", "malloc") if arguments.connections else ():
            server = uait(Path(name))
            server.environment["PYTHONMALLOC"] = allocator
            with running(server, None) as (pid, port):
                print(f"with {allocator}")
                weigh(server, pid, port, arguments.connections, arguments.patience)


if __name__ == "__main__":
    main()
