"""`/openapi.json` is true: a schemathesis run against the live service finds nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

pytestmark = [pytest.mark.system, pytest.mark.shared]

EXAMPLES = int(os.environ.get("UAIT_SCHEMA_EXAMPLES", "10"))
"""Of each operation, beside the boundary cases, which are always all tried."""

SERVICES = ("gateway", "orchestrator", "chat", "memory", "hub", "discovery")


@pytest.mark.parametrize("name", SERVICES)
async def test_schemathesis_finds_nothing(name: str, start: Any, http: Any, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    async with start() as process, http() as client:
        document = (await client.get(process.url(name, "/openapi.json"))).json()
        assert document["openapi"].startswith("3.1")
        assert document["paths"]
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            process.url(name, "/openapi.json"),
            f"--max-examples={EXAMPLES}",
            "--request-timeout=20",
            "--seed=1",
            "--no-color",
        ]
        with trio.fail_after(300):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, cwd=tmp_path)
        report = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, report[-6000:] + process.output()[-3000:]
        assert (await client.get(process.url(name, "/health"))).status_code == 200
