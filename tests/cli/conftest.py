from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from uait.cli import main

MODULE = """
import json, os, time
import trio
from uait import service

async def answer(send, value, status=200):
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

@service(port=0, summary="Tells the weather", port_variable="WEATHER_PORT")
async def weather(ctx):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        if scope["path"] == "/slow":
            await trio.sleep(1)
        elif scope["path"] == "/hang":
            await trio.sleep_forever()
        elif scope["path"] == "/block":
            time.sleep(60)
        await answer(send, {"status": "healthy", "service": "weather", "uptime_seconds": 1.5, "path": scope["path"]})
    return app

@service(port=0, needs=["weather"])
async def report(ctx):
    raise RuntimeError("no report today")

@service(port=0)
async def slow_start(ctx):
    await trio.sleep_forever()

from uait import RestartPolicy

@service(port=0, restart=RestartPolicy(intensity=0))
async def fragile(ctx):
    raise RuntimeError("glass is glass")

@service(port=0, restart=RestartPolicy(intensity=0), essential=True)
async def vital(ctx):
    async def app(scope, receive, send):
        if scope["path"] == "/crash":
            ctx.nursery.start_soon(crash)
        await answer(send, {})
    async def crash():
        raise RuntimeError("vital signs lost")
    return app

not_a_service = 5
"""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor the directory of whoever runs the tests matters."""
    for name in list(os.environ):
        if name.startswith("UAIT_") or name.endswith("_PORT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UAIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_sample.py").write_text(MODULE)


@pytest.fixture
def uait(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`code, out, err = uait("plugins", "--json")`, in this process."""

    def call(*arguments: str) -> tuple[int, str, str]:
        path = sys.path[:]
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            sys.path[:] = path
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


class Process:
    """A real `python -m uait`."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "uait", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.head = ""

    def wait_ready(self) -> dict[str, str]:
        """Read the table at the start; gives address by name."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.head += line
            if line.startswith("Ctrl-C"):
                break
        rows = [line.split() for line in self.head.splitlines() if line.startswith("  ")]
        return {row[0]: row[1] for row in rows if row[1].startswith("http")}

    def end(self, timeout: float = 60) -> tuple[int, str, str]:
        """Wait for its end; gives exit code, the rest of its output, and its log."""
        out, err = self.popen.communicate(timeout=timeout)
        return self.popen.returncode, self.head + out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """`process = start("--only", "weather")`; what is still running at the end of the test is killed."""
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait


@pytest.fixture
def get() -> Callable[[str], httpx.Response]:
    def get(url: str) -> httpx.Response:
        return httpx.get(url, timeout=60, trust_env=False)

    return get
