"""Real processes: `python -m uait` on free ports with a data directory of its own, driven by real clients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from ports import free_ports
from trio_websocket import WebSocketConnection, open_websocket_url

SERVICES = ("gateway", "orchestrator", "chat", "memory", "hub", "discovery")


@attrs.define
class Process:
    """A running `python -m uait`."""

    popen: subprocess.Popen[bytes]
    ports: dict[str, int]
    data_dir: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def url(self, name: str, path: str = "", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.ports[name]}{path}"

    def output(self) -> str:
        """Everything it has written so far, both streams together."""
        return self.log.read_text(errors="replace")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    async def wait(self, timeout: float) -> int:
        """Its exit code, within `timeout` seconds."""
        with trio.fail_after(timeout):
            while self.popen.poll() is None:
                await trio.sleep(0.01)
        return self.popen.returncode

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


async def healthy(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url, timeout=5)).status_code == 200
    except httpx.HTTPError:
        return False


Start = Callable[..., AbstractAsyncContextManager[Process]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`async with start("--only", "chat", env={...}, wait=("chat",)) as process`: runs until the block is left, and is then gone for certain.

    The process is asked to stop by SIGTERM where the test has not ended it, and must exit with 0.
    """

    @asynccontextmanager
    async def started(
        *arguments: str,
        env: Mapping[str, str] | None = None,
        wait: tuple[str, ...] = SERVICES,
        ports: Mapping[str, int] | None = None,
        cwd: Path | None = None,
        further: tuple[str, ...] = (),
        grace: float = 2.0,
    ) -> AsyncIterator[Process]:
        names = (*SERVICES, *further)
        chosen = dict(ports) if ports is not None else dict(zip(names, free_ports(len(names)), strict=True))
        command = [sys.executable, "-m", "uait", "--data-dir", str(tmp_path / "data"), "--grace", str(grace)]
        if ports is None:
            only = arguments[arguments.index("--only") + 1].split(",") if "--only" in arguments else names
            for name, port in chosen.items():
                if name in only or name in further:
                    command += ["--port", f"{name}={port}"]
        command += arguments
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("UAIT_", "OPENAI_", "LOCAL_LLM", "ANTHROPIC_", "GEMINI_", "OLLAMA_"))
        }
        log = tmp_path / f"uait-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean, **(env or {})},
                cwd=cwd,
            )
        process = Process(popen, chosen, tmp_path / "data", log)
        try:
            async with httpx.AsyncClient() as client:
                with trio.move_on_after(30) as patience:
                    for name in wait:
                        while not await healthy(client, process.url(name, "/health/ready")):
                            assert popen.poll() is None, process.output()
                            await trio.sleep(0.02)
                assert not patience.cancelled_caught, f"not ready in time:\n{process.output()}"
            yield process
            if popen.poll() is None:
                process.signal()
                assert await process.wait(grace + 4) == 0, process.output()
        finally:
            if popen.poll() is None:
                popen.kill()
            popen.wait(10)

    return started


@pytest.fixture
def write_plugin(tmp_path: Path) -> Callable[[str, str], Path]:
    """`write_plugin("name", source)` puts a module into a directory, for `cwd=` and `--service name:attr`."""
    root = tmp_path / "plugins"

    def written(name: str, source: str) -> Path:
        root.mkdir(exist_ok=True)
        (root / f"{name}.py").write_text(source)
        return root

    return written


@pytest.fixture
def http() -> Any:
    """An httpx client factory: `async with http() as client`."""
    return lambda **options: httpx.AsyncClient(timeout=30, **options)


@asynccontextmanager
async def connect_websocket(url: str) -> AsyncIterator[WebSocketConnection]:
    """A client whose socket is closed for certain: trio-websocket leaves it open where the other side has closed first."""
    async with open_websocket_url(url) as websocket:
        try:
            yield websocket
        finally:
            websocket._stream.socket.close()


@pytest.fixture
def websocket() -> Any:
    """`async with websocket(url) as client`."""
    return connect_websocket
