"""The commands of SPEC section 1, as typed, against a fresh start without configuration, key or network; on the documented ports."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest
import trio

pytestmark = pytest.mark.system

PORTS = {"gateway": 9999, "orchestrator": 8080, "chat": 8016, "memory": 8017, "hub": 8082, "discovery": 8083}
TITLES = {
    9999: "api-gateway",
    8080: "orchestration-service",
    8016: "chat-service",
    8017: "memory-service",
    8082: "websocket-hub",
    8083: "service-discovery",
}


@pytest.fixture
async def uait(start: Any) -> AsyncIterator[Any]:
    with trio.move_on_after(60):  # somebody else's test may hold the documented ports for a while
        while any(taken(port) for port in PORTS.values()):
            await trio.sleep(0.5)
    async with start(ports=PORTS) as process:
        yield process


def taken(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def shell(command: str, **options: Any) -> str:
    """What `command` prints, as typed into a shell."""
    with trio.fail_after(60):
        done = await trio.run_process(
            ["bash", "-c", command], capture_stdout=True, capture_stderr=True, check=False, **options
        )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


async def test_every_command_works_as_typed(uait: Any) -> None:
    for host in ("localhost", "127.0.0.1", "[::1]"):
        for port, title in TITLES.items():
            health = json.loads(await shell(f"curl -sS -g --fail http://{host}:{port}/health"))
            assert health["service"] == title
            assert health["status"] == "healthy", health
            assert {"version", "timestamp", "uptime_seconds"} <= health.keys()

    braces = await shell("curl -sS --fail http://localhost:{9999,8080,8016,8017,8082,8083}/health")
    assert braces.count('"healthy"') >= 6

    information = json.loads(await shell("curl -sS --fail http://localhost:9999/"))
    assert information["service"] == "api-gateway"
    assert {"version", "status", "description", "endpoints"} <= information.keys()

    models = json.loads(await shell("curl -sS --fail http://localhost:9999/api/v1/models"))
    assert models["total"] == len(models["models"]) >= 1
    assert models["models"][0]["provider"] == "offline"

    chat = json.loads(
        await shell(
            "curl -sS --fail -X POST http://localhost:9999/api/v1/chat -H 'Content-Type: application/json' -H 'X-User-ID: test' "
            """-d '{"message": "Hello"}'"""
        )
    )
    assert {"conversation_id", "message_id", "response", "model", "usage"} <= chat.keys()
    assert chat["response"]

    orchestrated = json.loads(
        await shell(
            "curl -sS --fail -X POST http://localhost:8080/api/v1/orchestrate -H 'Content-Type: application/json' "
            """-d '{"userRequest": "Help me with a chat conversation and memory storage"}'"""
        )
    )
    assert orchestrated["success"] is True
    assert {"chat", "memory"} <= orchestrated["data"]["services"].keys()
    assert orchestrated["data"]["summary"]["servicesUsed"] >= 2
    assert orchestrated["data"]["synthesis"]


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_wscat_connects_joins_and_chats(
    uait: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    tools = tmp_path_factory.getbasetemp().parent / "uait-npm"
    wscat = tools / "node_modules" / ".bin" / "wscat"
    if not wscat.exists():
        await shell(f"npm install --silent --no-audit --no-fund --prefix {tools} wscat@6")
    for address in ("localhost:9999/ws", "127.0.0.1:9999/api/v1/ws", "[::1]:8082/ws"):
        typed = "\n".join(
            [
                json.dumps({"type": "join", "data": {"room": "kitchen"}}),
                json.dumps({"type": "chat", "room": "kitchen", "content": "good morning"}),
                "",
            ]
        )
        command = [str(wscat), "--no-color", "-c", f"ws://{address}"]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                start = partial(trio.run_process, command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, check=False)
                process = await nursery.start(start)
                await until(process.stdout, b"Welcome to the WebSocket hub")
                await process.stdin.send_all(typed.encode())  # what is typed before it has connected is lost
                await until(process.stdout, b"good morning")
                await process.stdin.aclose()


async def until(stream: trio.abc.ReceiveStream, mark: bytes) -> None:
    seen = b""
    while mark not in seen:
        data = await stream.receive_some()
        assert data, seen
        seen += data


def test_the_documented_ports_are_the_default_ones() -> None:
    listed = json.loads(
        subprocess.run(
            [sys.executable, "-m", "uait", "plugins", "--json"], capture_output=True, check=True, timeout=60
        ).stdout
    )
    plugins = listed["plugins"] if isinstance(listed, dict) else listed
    assert {plugin["name"]: plugin["port"] for plugin in plugins if plugin["name"] in PORTS} == PORTS
