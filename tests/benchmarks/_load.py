"""Requests from as many clients as asked for, from a process of its own on the other core: `wrk` where it is installed, or `python _load.py PORT CLIENTS SECONDS`."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import time

import attrs

CLIENT_CORE = 1
PATH = "/json"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@attrs.frozen
class Result:
    """Of one measurement; `p50` and `p99` are in milliseconds."""

    rate: float
    p50: float
    p99: float


def pinned() -> None:
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {CLIENT_CORE})


def generator() -> str:
    """What makes the load, for the report."""
    return "wrk" if shutil.which("wrk") else "our own generator (wrk is not installed)"


def load(port: int, clients: int, seconds: float) -> Result:
    """Let `clients` ask again and again for so long."""
    if shutil.which("wrk"):
        url = f"http://127.0.0.1:{port}{PATH}"
        command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--latency", url]
        return read_wrk(subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=pinned).stdout)
    command = [sys.executable, __file__, str(port), str(clients), str(seconds)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=pinned).stdout
    return Result(*map(float, out.split()))


def read_wrk(text: str) -> Result:
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"not all requests were answered: {text}")

    def percentile(which: str) -> float:
        found = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)", text)
        assert found is not None, text
        return float(found[1]) * _UNITS[found[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate is not None, text
    return Result(float(rate[1]), percentile("50"), percentile("99"))


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ask(sock: socket.socket) -> None:
    """One request and its answer, which is known to come in one piece or to end with a brace."""
    sock.sendall(REQUEST)
    data = b""
    while not whole(data):
        data += sock.recv(65536)


def whole(data: bytes) -> bool:
    return data.endswith((b"}", b"}\n", b"0\r\n\r\n"))


def own(port: int, clients: int, seconds: float) -> Result:
    poll = selectors.DefaultSelector()
    sent: dict[socket.socket, float] = {}
    for _ in range(clients):
        sock = connect(port)
        poll.register(sock, selectors.EVENT_READ)
        sent[sock] = time.perf_counter()
        sock.sendall(REQUEST)
    took: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        for key, _ in poll.select(0.1):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if whole(sock.recv(65536)):
                now = time.perf_counter()
                took.append(now - sent[sock])
                sent[sock] = now
                sock.sendall(REQUEST)
    rate = len(took) / (time.perf_counter() - began)
    percentiles = statistics.quantiles(took, n=100)
    return Result(rate, percentiles[49] * 1e3, percentiles[98] * 1e3)


if __name__ == "__main__":
    result = own(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    print(result.rate, result.p50, result.p99)
