"""`uait doctor`: a clear verdict for each thing that can be wrong."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.system, pytest.mark.shared]

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


KIND = """
import trio
from uait.llm import ProviderKind
class Mine:
    capabilities = ()
    models = stream = embed = None
    def __init__(self, name): self.name = name
    async def aclose(self): await trio.lowlevel.checkpoint()
class Clinging(Mine):
    async def aclose(self): await trio.sleep_forever()
class Nameless(Mine):
    name = property(lambda self: 1 / 0, lambda self, value: None)
def make(name, settings, key, timeouts):
    what = settings.options.get("what")
    if what == "raises":
        raise ValueError(f"no {settings.base_url}")
    return {"nonsense": object, "clings": lambda: Clinging(name), "nameless": lambda: Nameless(name)}.get(what, lambda: Mine(name))()
kind = ProviderKind(make=make, base_url="http://near", variables={"what": "ACME_WHAT"})
"""


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ("well", "ok acme 1.0 (acme_kind:kind), found by ACME_WHAT, makes work"),
        ("raises", "wrong the provider 'work' of the kind 'acme' cannot be made: ValueError: no http://near"),
        ("nonsense", "wrong the provider 'work' of the kind 'acme' is a object, and has no name, capabilities,"),
        ("nameless", "wrong the provider 'work' of the kind 'acme' cannot be made: ZeroDivisionError"),
        ("clings", "wrong the provider 'work' does not close within 2 s"),
    ],
)
def test_a_kinds_providers_are_made_as_the_settings_have_them(
    uait: Uait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, verdict: str
) -> None:
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[uait.providers]\nacme = acme_kind:kind\n")
    (tmp_path / "acme_kind.py").write_text(KIND)
    (tmp_path / "uait.toml").write_text(
        f"[chat.providers.work]\nkind = 'acme'\nkeys = ['a', 'b']\noptions = {{ what = '{what}' }}"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    code, out, _ = uait("doctor", "provider:acme", "--config", "uait.toml")

    assert code == (0 if what == "well" else 1)
    (found,) = verdicts(out)["provider acme"]
    assert found.startswith(verdict)


def test_a_provider_that_a_variable_asks_for_is_made_too(uait: Uait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "secret-key")

    code, out, _ = uait("doctor", "provider:openai")

    assert code == 0
    assert "groq" in verdicts(out)["provider openai"][0].partition("makes ")[2]
    assert "secret-key" not in out


@pytest.mark.parametrize(
    ("variable", "kind"), [("OPENAI_BASE_URL", "openai"), ("LOCAL_LLM_ENDPOINT", "openai"), ("OLLAMA_HOST", "ollama")]
)
def test_a_variable_that_is_no_address_is_named(
    uait: Uait, monkeypatch: pytest.MonkeyPatch, variable: str, kind: str
) -> None:
    monkeypatch.setenv(variable, "localhost:abc")

    code, out, _ = uait("doctor", f"provider:{kind}")

    assert code == 1
    (found,) = verdicts(out)[f"provider {kind}"]
    assert found.startswith(f"wrong variable {variable}: must be an address such as")


ALONE = """
from uait import service
def make(**more):
    async def factory(ctx): ...
    return service(**more)(factory)
needy, left, right, well = make(needs=["ghost"]), make(needs=["right"]), make(needs=["left"]), make()
"""


def install_acme(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A distribution with these services, found here and in the processes that doctor starts."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    points = "\n".join(f"{name} = acme_alone:{name}" for name in names)
    (info / "entry_points.txt").write_text(f"[uait.services]\n{points}")
    (folder / "acme_alone.py").write_text(ALONE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


def test_what_one_needs_and_does_not_find_is_a_verdict_on_the_start(
    uait: Uait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_acme(tmp_path, monkeypatch, "needy", "left", "right", "well", "nothing")

    code, out, _ = uait("doctor", "--without", "chat,discovery,gateway,hub,memory,orchestrator")

    found = verdicts(out)
    assert code == 1
    assert "wrong service 'needy' needs 'ghost', which is not among the services to run" in found["start"]
    assert "wrong services need each other in a circle: left -> right -> left" in found["start"]
    assert not any("nothing" in verdict for verdict in found["start"])  # that was its own verdict


def test_a_plugin_that_breaks_itself_only_leaves_the_start_well(
    uait: Uait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_acme(tmp_path, monkeypatch, "well", "nothing")

    code, out, _ = uait("doctor", "--without", "chat,discovery,gateway,hub,memory,orchestrator")

    found = verdicts(out)
    assert code == 1
    assert "has no 'nothing'" in found["service nothing"][0]
    assert found["start"][0].startswith("ok 1 services")


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
