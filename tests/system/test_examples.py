"""Every example runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Nothing of whoever runs the tests, and no model server by accident."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1", "UAIT_CHAT_LOCAL": "no"}


def test_there_is_a_test_for_each() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == {"embed.py", "plugin_inline.py", "serve_asgi.py"}


def test_embed(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "embed.py"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "stopped"
    assert "tick" in lines
    assert any(line.startswith("chat says: ") for line in lines)
    assert re.search(r"memory is ready at http://127\.0\.0\.1:\d+ and http://", done.stdout)
    assert "Traceback" not in done.stderr


def test_plugin_inline(environ: dict[str, str]) -> None:
    ports = {
        f"UAIT_{name}_PORT": "0" for name in ("GATEWAY", "ORCHESTRATOR", "CHAT", "MEMORY", "HUB", "DISCOVERY", "SHOUT")
    }
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "plugin_inline.py"],
        env=environ | ports | {"UAIT_SHOUT_MARKS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        urls = {}
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
            if match := re.match(r"  (\S+) +(http\S+)", line):
                urls[match[1]] = match[2]
        for url in (f"{urls['shout']}/loud", f"{urls['gateway']}/api/v1/shout/loud"):
            answer = httpx.post(url, json={"text": "hello"}, trust_env=False, timeout=30)
            assert answer.json() == {"text": "HELLO!!"}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


async def test_serve_asgi(environ: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "serve_asgi.py", "0"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell has what it runs in the background ignore Ctrl+C, these tests and their children included.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://(127\.0\.0\.1:\d+)", process.stdout.readline())
        assert found is not None
        with trio.fail_after(30):
            async with open_websocket_url(f"ws://{found[1]}/") as one, open_websocket_url(f"ws://{found[1]}/") as two:
                await one.send_message("hello")
                assert [await one.get_message(), await two.get_message()] == ["hello", "hello"]
                async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                    answer = await client.get(f"http://{found[1]}/")
                assert answer.text == "2 WebSockets are open.\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
