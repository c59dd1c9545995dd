"""The README says what is so."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from uait.cli.arguments import Exit, parse
from uait.kernel.plugins import discover, load
from uait.settings import Limits, Settings, load_settings, read_section

BUILT_IN = [plugin.name for plugin in discover() if plugin.builtin]
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_it_opens_with_two_sentences_and_the_two_commands() -> None:
    opening, _, _ = README.partition("```")
    first_paragraph = opening.split("\n\n")[1]

    assert len(re.findall(r"\.(\s|$)", first_paragraph)) == 2
    assert blocks("")[:2] == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python -m uait\n",
        "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox\n",
    ]


def test_the_plugin_is_the_one_that_is_tested() -> None:
    plugin, entry_point = blocks("python")[0], blocks("toml")[0]

    assert plugin == (ROOT / "plugins/uait-wordcount/uait_wordcount.py").read_text()
    assert entry_point in (ROOT / "plugins/uait-wordcount/pyproject.toml").read_text()


def test_every_flag_and_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    told = capsys.readouterr().out

    for flag in set(re.findall(r"--[a-z-]+", told)):
        assert f"`{flag}" in README or f", `{flag}`" in README, flag
    for command in ("plugins", "doctor", "status"):
        assert f"`python -m uait {command}" in README


def test_every_exit_code_is_there() -> None:
    for code in Exit:
        assert re.search(rf"^\| {code.value} \| ", README, re.MULTILINE), code


def test_every_service_stands_there_as_it_is() -> None:
    for plugin in discover():
        if plugin.builtin:
            spec = load(plugin)
            assert f"| `{spec.name}` | {spec.port} | `{spec.port_variable}` | `{spec.title}` |" in README, spec.name


def test_the_settings_shown_are_the_defaults(tmp_path: Path) -> None:
    shown = max(blocks("toml"), key=len)
    file = tmp_path / "uait.toml"
    file.write_text(shown)
    settings = load_settings(file, environ={})

    assert attrs.evolve(settings, origins={}, sections={}) == Settings(data_dir=tmp_path / "data", environ={})
    for name in BUILT_IN:
        spec = load(next(plugin for plugin in discover() if plugin.name == name))
        section, own = read_section(settings, name, spec.settings, port=1)
        assert section.port == spec.port
        if spec.settings is not None:
            examples: dict[str, Any] = (
                {"providers": {}, "routes": {}, "aliases": {}, "prices": {}} if name == "chat" else {}
            )
            assert attrs.evolve(own, **examples) == spec.settings()


@pytest.mark.parametrize("section", ["limits", *BUILT_IN])
def test_every_key_of_the_sections_shown_is_there(section: str) -> None:
    shown = tomllib.loads(max(blocks("toml"), key=len))[section]
    cls = Limits if section == "limits" else load(next(each for each in discover() if each.name == section)).settings
    fields = {field.name for field in attrs.fields(cls)} if cls is not None else set()

    assert shown.keys() - {"port", "providers"} == fields - {"providers"}


def test_every_variable_is_there() -> None:
    for field in attrs.fields(Settings):
        if field.name not in ("limits", "keys", "sections", "origins", "environ"):
            assert f"`UAIT_{field.name.upper()}`" in README


def test_the_metadata_are_those_of_the_project() -> None:
    metadata = importlib.metadata.metadata("uait")

    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: Trio" in metadata.get_all("Classifier", [])
    assert any(entry.name == "uait" for entry in importlib.metadata.entry_points(group="console_scripts"))


def test_every_link_inside_the_repository_leads_somewhere() -> None:
    for file in [ROOT / "README.md", *ROOT.glob("plugins/**/README.md"), *ROOT.glob("examples/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name}: {target}"
