"""`uait plugins`: everything that is installed, and nothing of it run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from uait.cli.declared import Declared, read_declaration
from uait.kernel.plugins import Plugin

Uait = Callable[..., tuple[int, str, str]]
BUILT_IN = {"gateway": 9999, "orchestrator": 8080, "chat": 8016, "memory": 8017, "hub": 8082, "discovery": 8083}


def listed(uait: Uait, *arguments: str) -> dict[str, dict[str, object]]:
    code, out, _ = uait("plugins", "--json", *arguments)
    assert code == 0
    return {each["name"]: each for each in json.loads(out)}


def test_the_built_in_services_are_listed_with_their_documented_ports(uait: Uait) -> None:
    found = listed(uait)

    assert {name: found[name]["port"] for name in BUILT_IN} == BUILT_IN
    assert {found[name]["state"] for name in BUILT_IN} == {"enabled"}
    assert all(str(found[name]["origin"]).startswith("uait ") for name in BUILT_IN)


def test_settings_show(uait: Uait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_SERVICE_PORT", "7")
    found = listed(uait, "--only", "hub,memory", "--port", "hub=5")

    assert found["hub"]["port"] == 5
    assert found["memory"]["port"] == 7
    assert {name for name in BUILT_IN if found[name]["state"] == "enabled"} == {"hub", "memory"}


def test_a_service_by_module_is_read_and_not_imported(uait: Uait) -> None:
    found = listed(uait, "--service", "cli_sample:report", "--service", "cli_sample:weather")

    assert "cli_sample" not in sys.modules
    assert found["report"] == {
        "name": "report",
        "group": "uait.services",
        "state": "enabled",
        "version": "",
        "origin": "cli_sample:report",
        "entry": "cli_sample:report",
        "port": 0,
        "needs": ["weather"],
        "problem": "",
        "note": "",
    }


def test_what_cannot_be_found_or_parsed_is_broken_and_says_why(uait: Uait, tmp_path: Path) -> None:
    (tmp_path / "cli_syntax.py").write_text("def (:")
    found = listed(uait, "--service", "cli_nowhere:x", "--service", "cli_syntax:y")

    assert found["x"]["state"] == found["y"]["state"] == "broken"
    assert found["x"]["problem"] == "there is no module cli_nowhere"
    assert "cli_syntax cannot be read" in str(found["y"]["problem"])


@pytest.mark.parametrize("where", ["variable", "file"])
def test_a_module_beside_the_users_feet_can_be_named_in_variable_and_file(
    uait: Uait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("sys.path", [each for each in sys.path if each])
    (tmp_path / "uait.toml").write_text("services = ['cli_sample:weather']")
    if where == "variable":
        monkeypatch.setenv("UAIT_SERVICES", "cli_sample:weather")

    found = listed(uait, *(("--config", "uait.toml") if where == "file" else ()))

    assert (found["weather"]["state"], found["weather"]["problem"]) == ("enabled", "")


def test_the_table_is_for_people(uait: Uait) -> None:
    code, out, _ = uait("plugins", "--service", "cli_sample:report", "--service", "cli_nowhere:x")

    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["NAME", "STATE", "VERSION", "ORIGIN", "PORT", "NEEDS"] in rows
    assert ["report", "enabled", "-", "cli_sample:report", "any", "weather"] in rows
    assert ["x", "broken", "-", "cli_nowhere:x", "?", "?"] in rows
    assert "x: there is no module cli_nowhere" in out


def test_what_is_not_written_plainly_stays_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cli_odd.py").write_text(
        "import uait\nPORT = 5\n"
        "@uait.service(port=PORT, needs=[n for n in 'ab'])\nasync def computed(ctx): ...\n"
        "@uait.service\nasync def bare(ctx): ...\n"
        "made = uait.service(port=3)(bare.factory)\n"
    )

    def read(attribute: str) -> Declared:
        return read_declaration(Plugin(name="x", value=f"cli_odd:{attribute}"))

    assert read("computed") == Declared(port=None, needs=None)
    assert read("bare") == Declared(port=0, needs=())
    assert read("made") == Declared()
    assert read_declaration(Plugin(name="x", value="json.decoder:JSONDecoder")) == Declared()
    assert read_declaration(Plugin(name="x", value="json.none.sub:a")).problem == "there is no module json.none.sub"


def test_wrong_settings_and_unknown_names_are_explained(uait: Uait) -> None:
    code, _, err = uait("plugins", "--only", "chta", "--grace", "1")
    assert code == 2
    assert "there is no service 'chta'; did you mean 'chat'?" in err

    code, _, err = uait("plugins", "--port", "hub=many")
    assert code == 2
    assert "flag --port: hub.port must be a whole number, not 'many'" in err
