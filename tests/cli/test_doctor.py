"""`uait doctor`: a clear verdict for each thing that can be wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

Uait = Callable[..., tuple[int, str, str]]


def verdicts(out: str) -> dict[str, list[str]]:
    """Label to verdicts."""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.startswith("  "):
            for verdict in (" ok", " wrong"):
                label, middle, rest = line.strip().partition(f" {verdict}")
                if middle:
                    found.setdefault(label.strip(), []).append(f"{verdict.strip()} {rest.strip()}".strip())
                    break
    return found


def test_all_is_well(uait: Uait) -> None:
    code, out, _ = uait("doctor", "--service", "cli_sample:weather", "--only", "weather")

    assert code == 0
    found = verdicts(out)
    assert found["settings"] == ["ok"]
    assert found["service weather"] == ["ok cli_sample:weather, port any"]
    assert found["start"][0].startswith("ok 1 services, their ports are free")


def test_each_thing_that_is_wrong_has_its_verdict(uait: Uait, tmp_path: Path) -> None:
    (tmp_path / "cli_bad_import.py").write_text("import no_such_thing_at_all")
    (tmp_path / "cli_exits.py").write_text("import os; print('hello'); os._exit(7)")
    (tmp_path / "uait.toml").write_text("[weather]\ncolour = 'red'\n[log]\nlevel = 'x'")
    code, out, _ = uait(
        "doctor",
        *("--config", "uait.toml", "--only", "weather,a,b,not-a-service"),
        *("--service", "cli_sample:weather", "--service", "cli_bad_import:a", "--service", "cli_exits:b"),
        *("--service", "cli_sample:not_a_service"),
    )

    found = verdicts(out)
    assert code == 1
    assert found["settings"] == [
        "wrong uait.toml line 4: log.level must be one of 'critical', 'error', 'warning', 'info', 'debug', not 'x'"
    ]
    assert found["service weather"] == ["wrong uait.toml line 2: weather.colour is not known; known are: port"]
    assert "No module named 'no_such_thing_at_all'" in found["service a"][0]
    assert found["service b"] == ["wrong its import ended the interpreter with exit code 7"]
    assert "is a int, not a service" in found["service not-a-service"][0]


def test_an_import_that_hangs_is_a_verdict(uait: Uait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uait.cli.doctor.TIMEOUT", 2.0)
    (tmp_path / "cli_hangs.py").write_text("import time; time.sleep(1000)")

    code, out, _ = uait("doctor", "a", "--service", "cli_hangs:a")

    assert code == 1
    assert verdicts(out)["service a"] == ["wrong its import did not end within 2 s"]


def test_one_by_name_comes_with_its_traceback(uait: Uait, tmp_path: Path) -> None:
    (tmp_path / "cli_deep.py").write_text("def deep():\n    raise ValueError('deep reason')\ndeep()")

    code, out, _ = uait("doctor", "a", "--service", "cli_deep:a")

    assert code == 1
    assert list(verdicts(out)) == ["settings", "service a"]
    assert "in deep" in out
    assert "ValueError: deep reason" in out


def test_a_taken_port_is_found(uait: Uait) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, _ = uait(
            "doctor", "--service", "cli_sample:weather", "--only", "weather", "--port", f"weather={port}"
        )

    assert code == 1
    assert f"port {port} of weather" in verdicts(out)["start"][0]


def test_uait_running_is_nothing_wrong(start: Callable[..., Any], uait: Uait) -> None:
    """Its ports and its data directory are taken, and by nobody else than itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    chosen = ("--service", "cli_sample:weather", "--only", "weather", "--port", f"weather={port}")
    process = start(*chosen)
    process.wait_ready()

    code, out, _ = uait("doctor", *chosen)

    assert code == 0
    assert f"runs already, as process {process.popen.pid}" in verdicts(out)["start"][0]


def test_an_unknown_name_is_a_usage_error(uait: Uait) -> None:
    code, _, err = uait("doctor", "caht")

    assert code == 2
    assert "there is no service 'caht'; did you mean 'chat'?" in err
