"""What a server costs, side by side in one run: requests a second, their latency, memory of an idle connection.

    python tests/benchmarks/server.py [--seconds 3] [--rounds 3] [--only native-bare uvicorn-bare]

Each server runs in a process on one core, the load generator on another. All of them run in turns, several rounds, and the median is printed: what else the machine does then hits all of them. Rates are also
given per second of the server's own processor time, which other programs disturb less. uvicorn, uvloop and starlette are installed by `nox -s bench`; what is not there is left out. Linux only: processor time and memory are read from /proc.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
from _load import Result, ask, connect, generator, load
from _process import resident, used

SERVE = Path(__file__).with_name("_serve.py")
COMBINATIONS = ("uvicorn-bare", "hypercorn-bare", "ours_hypercorn-bare", "native-bare", "uvicorn-starlette", "hypercorn-quart", "native-quart", "native-uait")  # fmt: skip
CLIENTS = (1, 32)


@attrs.define
class Measured:
    """All rounds of one server."""

    results: dict[int, list[Result]] = attrs.field(factory=lambda: {clients: [] for clients in CLIENTS})
    per_second: list[float] = attrs.field(factory=list)
    memory: float = 0.0

    def rate(self, clients: int) -> float:
        return statistics.median(result.rate for result in self.results[clients])

    def p50(self) -> float:
        return statistics.median(result.p50 for result in self.results[32])

    def p99(self) -> float:
        return statistics.median(result.p99 for result in self.results[32])


def can_run(combination: str) -> bool:
    needed = {"uvicorn": ("uvicorn", "uvloop"), "starlette": ("starlette",)}
    return all(importlib.util.find_spec(name) for part in combination.split("-") for name in needed.get(part, ()))


@contextmanager
def serving(combination: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; gives its process id and port."""
    command = [sys.executable, str(SERVE), *combination.split("-")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with connect(port) as sock:
            ask(sock)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def weigh(pid: int, port: int, count: int) -> float:
    """KiB that one connection takes that is kept alive after a request."""
    for _ in range(50):
        with connect(port) as sock:
            ask(sock)
    time.sleep(0.5)
    before = resident(pid)
    sockets = [connect(port) for _ in range(count)]
    for sock in sockets:
        ask(sock)
    taken = resident(pid) - before
    for sock in sockets:
        sock.close()
    return taken * 1024 / count


def measure(combinations: list[str], seconds: float, rounds: int, connections: int) -> dict[str, Measured]:
    found = {name: Measured() for name in combinations}
    with ExitStack() as stack:
        # Weighed first: what a load leaves behind would be taken for room.
        servers = {name: stack.enter_context(serving(name)) for name in combinations}
        for name, (pid, port) in servers.items():
            found[name].memory = weigh(pid, port, connections)
        for _ in range(rounds):
            for name, (pid, port) in servers.items():
                for clients in CLIENTS:
                    before = used(pid)
                    result = load(port, clients, seconds)
                    found[name].results[clients].append(result)
                    if clients == CLIENTS[-1]:
                        found[name].per_second.append(result.rate * seconds / (used(pid) - before))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="length of each measurement (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default 3)")
    parser.add_argument("--connections", type=int, default=1000, help="connections to weigh (default 1000)")
    parser.add_argument("--only", nargs="+", default=COMBINATIONS, choices=COMBINATIONS, help="leave out the others")
    arguments = parser.parse_args()
    combinations = [name for name in arguments.only if can_run(name)]
    for name in set(arguments.only) - set(combinations):
        print(f"left out: {name}, which is not installed")
    print(f"Python {sys.version.split()[0]}, load by {generator()}; rates per second, latency in ms")
    found = measure(combinations, arguments.seconds, arguments.rounds, arguments.connections)
    print(f"{'':20} {'1 client':>9} {'32':>8} {'p50':>7} {'p99':>7} {'32, of its own time':>20} {'KiB idle':>9}")
    for name, one in found.items():
        own = statistics.median(one.per_second)
        print(f"{name:20} {one.rate(1):9.0f} {one.rate(32):8.0f} {one.p50():7.2f} {one.p99():7.2f} {own:20.0f} {one.memory:9.1f}")  # fmt: skip
    for ours, other in (("native-bare", "uvicorn-bare"), ("native-bare", "hypercorn-bare"), ("native-quart", "hypercorn-quart"), ("native-uait", "native-quart")):  # fmt: skip
        if ours in found and other in found:
            rate, p99 = found[ours].rate(32) / found[other].rate(32), found[ours].p99() / found[other].p99()
            print(f"{ours} / {other}: {rate:.2f} of its rate, {p99:.2f} of its p99 at 32 clients")


if __name__ == "__main__":
    main()
