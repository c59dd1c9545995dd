"""The real process: what it says, how it stops, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from uait.cli.runfile import NAME

pytestmark = [pytest.mark.system, pytest.mark.shared]

Start = Callable[..., Any]
Uait = Callable[..., tuple[int, str, str]]
ONLY = ("--service", "cli_sample:weather", "--only", "weather")


def test_it_says_what_runs_where_and_stops_cleanly(
    start: Start, get: Callable[[str], httpx.Response], tmp_path: Path
) -> None:
    process = start(*ONLY)
    urls = process.wait_ready()

    assert re.fullmatch(r"http://localhost:\d+", urls["weather"])
    assert get(urls["weather"]).status_code == 200
    assert str(tmp_path / "data") in process.head
    assert "Tells the weather" in process.head
    process.popen.send_signal(signal.SIGTERM)
    code, _, err = process.end()
    assert code == 0
    assert "Traceback" not in err
    assert not (tmp_path / "data" / NAME).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_open_requests_finish(
    start: Start, get: Callable[[str], httpx.Response], number: int
) -> None:
    process = start(*ONLY)
    url = process.wait_ready()["weather"]
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(get(f"{url}/slow").status_code))
    asking.start()
    time.sleep(0.5)
    process.popen.send_signal(number)

    assert process.end()[0] == 0
    asking.join()
    assert answers == [200]


def test_the_second_signal_stops_at_once(start: Start, until: Callable[[Callable[[], bool]], None]) -> None:
    process = start(*ONLY, "--grace", "300")
    url = httpx.URL(process.wait_ready()["weather"])
    with socket.create_connection(("127.0.0.1", url.port)) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        process.popen.send_signal(signal.SIGINT)
        with pytest.raises(Exception, match="timed out"):
            process.popen.wait(timeout=1)
        process.popen.send_signal(signal.SIGINT)
        code, _, err = process.end()
    assert code == 0
    assert "stopping at once" in err


def test_the_third_signal_kills_even_when_the_loop_is_blocked(start: Start) -> None:
    process = start(*ONLY)
    url = httpx.URL(process.wait_ready()["weather"])
    with socket.create_connection(("127.0.0.1", url.port)) as client:
        client.sendall(b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        for _ in range(3):
            process.popen.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.end()[0] == -signal.SIGINT


def test_a_signal_while_it_starts_stops_it(
    start: Start, until: Callable[[Callable[[], bool]], None], tmp_path: Path
) -> None:
    process = start("--service", "cli_sample:slow_start", "--only", "slow-start")
    until((tmp_path / "data" / "uait.lock").exists)
    process.popen.terminate()

    code, out, err = process.end()
    assert (code, out) == (0, "")
    assert "Traceback" not in err


def test_a_blocked_loop_does_not_hold_the_process_for_ever(start: Start) -> None:
    process = start(*ONLY, "--grace", "0")
    url = httpx.URL(process.wait_ready()["weather"])
    with socket.create_connection(("127.0.0.1", url.port)) as client:
        client.sendall(b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        process.popen.send_signal(signal.SIGTERM)
        code, _, err = process.end(timeout=30)  # it blocks for 60 s
    assert code == 1
    assert "something blocks it" in err


BLOCKED = """
import signal, time, trio
from uait.cli import stopping

async def block():
    with stop.on_signals():
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

stopping.LAST_RESORT = 0.1
with stopping.Stop(0) as stop:
    trio.run(block)
"""


@pytest.mark.parametrize("reader", ["gone", "stuck"])
def test_a_blocked_loop_ends_even_where_nobody_reads_the_log(reader: str) -> None:
    read, write = os.pipe()
    try:
        if reader == "gone":
            os.close(read)
        else:
            os.set_blocking(write, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(write, bytes(4096))
            os.set_blocking(write, True)
        with subprocess.Popen([sys.executable, "-c", BLOCKED], stderr=write) as process:
            try:
                assert process.wait(30) == 1
            finally:
                process.kill()
    finally:
        os.close(write)
        if reader == "stuck":
            os.close(read)


def test_all_that_is_wrong_with_the_settings_is_listed_at_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "uait.toml").write_text("grace = 'x'\n[weather]\ncolour = 1\n[wether]\n[keys]\nme = 'sesame street'\n")
    process = start(*ONLY, "--config", "uait.toml", "--log-level", "loud", "--port", "weather=70000")

    code, out, err = process.end()

    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "uait cannot use these settings:",
        "  uait.toml line 1: grace must be a number, not 'x'",
        "  flag --log-level: log.level must be one of 'critical', 'error', 'warning', 'info', 'debug', not 'loud'",
        "  uait.toml line 6: keys.me must be printable ASCII without spaces, and not empty",
        "  uait.toml line 4: no service is called 'wether'; did you mean 'weather'?",
        "  uait.toml line 3: weather.colour is not known; did you mean 'port'?".replace(
            "did you mean 'port'?", "known are: port"
        ),
        "  flag --port: weather.port must be from 0 (any free port) to 65535, not 70000",
    ]


def test_every_taken_port_is_named_with_its_service_and_the_remedy(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]
        process = start(
            *("--service", "cli_sample:weather", "--service", "cli_sample:vital", "--only", "weather,vital"),
            *("--port", f"weather={first}", "--port", f"vital={second}"),
        )
        code, _, err = process.end()

    assert code == 3
    assert f"port {first} of weather" in err
    assert f"port {second} of vital" in err
    assert "--port weather=N" in err
    assert "WEATHER_PORT" in err


def test_a_data_directory_in_use_is_told(start: Start) -> None:
    first = start(*ONLY)
    first.wait_ready()
    code, _, err = start(*ONLY).end()

    assert code == 3
    assert f"is in use by process {first.popen.pid}" in err


def test_beyond_this_machine_only_with_keys(start: Start) -> None:
    code, _, err = start(*ONLY, "--host", "0.0.0.0").end()

    assert code == 3
    assert "[keys]" in err


def test_when_every_service_has_failed_the_process_ends_and_says_why(start: Start) -> None:
    code, _, err = start("--service", "cli_sample:fragile", "--only", "fragile").end()

    assert code == 1
    assert "uait has stopped:\n  fragile has failed: RuntimeError: glass is glass" in err


def test_an_essential_service_takes_all_down_with_it(start: Start, get: Callable[[str], httpx.Response]) -> None:
    process = start("--service", "cli_sample:weather", "--service", "cli_sample:vital", "--only", "weather,vital")
    with contextlib.suppress(httpx.TransportError):  # its answer may be cut off
        get(process.wait_ready()["vital"] + "/crash")

    code, _, err = process.end()

    assert code == 1
    assert "vital signs lost" in err.rpartition("uait has stopped:")[2]


def test_a_failed_service_shows_in_the_table(start: Start) -> None:
    process = start("--service", "cli_sample:weather", "--service", "cli_sample:fragile", "--only", "weather,fragile")
    process.wait_ready()

    rows = [line for line in process.head.splitlines() if line.startswith("  ")]
    (fragile,) = [row for row in rows if row.startswith("  fragile")]
    (weather,) = [row for row in rows if row.startswith("  weather")]
    assert fragile.split(maxsplit=2) == ["fragile", "failed", "RuntimeError: glass is glass"]
    # What went wrong can be long, and pushes nothing aside.
    assert fragile.index("RuntimeError") == weather.index("Tells the weather")


def test_nothing_to_start_is_said(start: Start) -> None:
    process = start(*ONLY, "--without", "weather")
    code, _, err = process.end()

    assert code == 3
    assert "leave no service to start" in err


def test_in_json_every_line_is_an_object(
    start: Start, until: Callable[[Callable[[], bool]], None], tmp_path: Path
) -> None:
    process = start(*ONLY, "--log-format", "json")
    until((tmp_path / "data" / NAME).exists)
    time.sleep(0.2)
    process.popen.terminate()
    code, out, err = process.end()

    entries = [json.loads(line) for line in err.splitlines()]
    assert (code, out) == (0, "")
    (ready,) = (entry for entry in entries if entry["message"] == "ready")
    assert ready["services"]["weather"][0].startswith("http://127.0.0.1:")


def test_closing_standard_output_harms_nobody(
    start: Start, get: Callable[[str], httpx.Response], tmp_path: Path
) -> None:
    process = start(*ONLY)
    process.popen.stdout.close()
    process.popen.stdout = None
    file = tmp_path / "data" / NAME
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)

    url = json.loads(file.read_text())["services"][0]["addresses"][0]
    assert get(url).status_code == 200
    process.popen.terminate()
    assert process.popen.wait(60) == 0


@pytest.mark.parametrize("command", ["plugins", "doctor", "status"])
def test_whoever_has_read_enough_is_not_shown_a_traceback(start: Start, command: str) -> None:
    process = start(command, "--service", "cli_sample:weather", "--only", "weather", "--port", "weather=0")
    process.popen.stdout.close()
    process.popen.stdout = None

    process.popen.wait(60)
    assert process.popen.stderr.read() == ""
    assert process.popen.returncode in (0, 1, 3)


def test_the_data_directory_is_named_in_full(start: Start, tmp_path: Path) -> None:
    process = start(*ONLY, "--data-dir", "beside")
    process.wait_ready()

    assert f"with its data in {tmp_path / 'beside'}" in process.head


def test_status_asks_the_running_one(start: Start, uait: Uait) -> None:
    code, out, _ = uait("status")
    assert code == 3
    assert "nothing runs on" in out

    process = start("--service", "cli_sample:weather", "--service", "cli_sample:fragile", "--only", "weather,fragile")
    process.wait_ready()
    code, out, _ = uait("status", "--json")
    found = json.loads(out)
    assert code == 1
    assert (found["running"], found["pid"]) == (True, process.popen.pid)
    health = {each["name"]: each["health"] for each in found["services"]}
    assert health["weather"]["status"] == "healthy"
    assert health["fragile"] is None

    code, out, _ = uait("status")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("  ")}
    assert rows["weather"][:4] == ["healthy", "2", "s", "0"]
    assert rows["fragile"][0] == "failed"

    process.popen.kill()
    process.end()
    assert uait("status")[0] == 3  # the run file is still there, but nobody answers


def test_status_tells_of_one_that_is_not_ready_yet(
    start: Start, uait: Uait, until: Callable[[Callable[[], bool]], None]
) -> None:
    process = start("--service", "cli_sample:slow_start", "--only", "slow-start")
    until(lambda: "process" in uait("status")[1])

    code, out, _ = uait("status")
    assert code == 3
    assert out.startswith(f"process {process.popen.pid} has the data directory ")
    assert "not all services are ready yet" in out
    found = json.loads(uait("status", "--json")[1])
    assert (found["running"], found["pid"], found["services"]) == (False, process.popen.pid, [])
