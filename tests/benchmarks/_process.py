"""Processes to measure, and a `python -m uait` in one. Linux only: memory and processor time are read from /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from ports import free_ports as free_ports

SERVICES = ("gateway", "orchestrator", "chat", "memory", "hub", "discovery")


def resident(pid: int) -> float:
    """MiB of memory of a process that are in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def used(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(directory: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int], float]]:
    """A fresh `python -m uait`; gives it, its ports, and the seconds it took until every /health said healthy."""
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    command = [sys.executable, "-m", "uait", "--data-dir", directory, "--log-level", "warning"]
    for name, port in ports.items():
        command += ["--port", f"{name}={port}"]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    try:
        for port in ports.values():
            while not healthy(port):
                if process.poll() is not None or time.perf_counter() - started > 60:
                    raise RuntimeError(f"uait did not start (exit code {process.poll()})")
                time.sleep(0.002)
        yield process, ports, time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            data = b"".join(iter(lambda: sock.recv(65536), b""))
    except OSError:
        return False
    return b'"healthy"' in data.partition(b"\r\n\r\n")[2]
