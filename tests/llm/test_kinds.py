"""Kinds of providers come in through entry points: found without being imported, loaded in isolation, and diagnosed by name."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from uait.entry_points import declared_providers
from uait.errors import PluginError, Unavailable
from uait.llm.find import find_providers
from uait.llm.kinds import BrokenProvider, Kinds, ProviderSettings, load_kind
from uait.llm.messages import GenerateRequest
from uait.settings.values import Misfit, structure

GOOD = """
from uait.llm import ProviderKind
class Mine:
    capabilities = ()
    def __init__(self, *args): self.args = args; self.name = args[0]
    models = stream = embed = aclose = None
kind = ProviderKind(make=Mine, base_url="https://acme.example", variables={"key": "ACME_KEY", "region": "ACME_REGION"})
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`install("dist", "name", "source")` puts a distribution with one kind on sys.path, as pip would; its module is `dist_kind`."""

    def installed(dist: str, name: str, source: str) -> None:
        root = tmp_path / dist
        info = root / f"{dist}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[uait.providers]\n{name} = {dist}_kind:kind\n")
        (root / f"{dist}_kind.py").write_text(source)
        monkeypatch.syspath_prepend(str(root))
        importlib.invalidate_caches()

    yield installed
    for name in [name for name in sys.modules if name.endswith("_kind")]:
        del sys.modules[name]


def test_the_built_in_ones_come_in_through_the_same_door() -> None:
    builtin = [each.name for each in declared_providers() if each.builtin]
    assert builtin == ["openai", "anthropic", "gemini", "ollama"]
    assert all(load_kind(each).make for each in declared_providers() if each.builtin)


def test_finding_imports_nothing(install: Any) -> None:
    install("acme", "acme", "raise SystemExit('imported')")
    (found,) = (each for each in declared_providers() if each.name == "acme")
    assert found.origin == "acme 1.0"
    assert "acme_kind" not in sys.modules


def test_it_is_found_by_its_own_variables_after_the_well_known(install: Any) -> None:
    install("acme", "acme", GOOD)
    environ = {"ACME_KEY": "k", "ACME_REGION": "north", "OPENAI_API_KEY": "o", "GROQ_API_KEY": "g"}
    entries = {entry.provider.name: entry.provider for entry in find_providers(environ, {}, local=False)}
    assert list(entries) == ["openai", "groq", "acme", "offline"]
    name, settings, key, _ = entries["acme"].args  # type: ignore[attr-defined]
    assert (name, key, settings.base_url, settings.options) == (
        "acme",
        "k",
        "https://acme.example",
        {"region": "north"},
    )
    assert [entry.provider.name for entry in find_providers({}, {}, local=False)] == ["offline"]


def test_settings_name_it_by_its_kind_with_keys_and_options(install: Any) -> None:
    install("acme", "acme", GOOD)
    written = {
        "work": {"kind": "acme", "keys": ["a", "b"], "options": {"region": {"deep": 1}}},
        "home": {"kind": "acme"},
    }
    configured = structure(written, dict[str, ProviderSettings])
    entries = {entry.provider.name: entry for entry in find_providers({"ACME_KEY": "usual"}, configured, local=False)}
    assert [provider.args[2] for provider in entries["work"].keys] == ["a", "b"]  # type: ignore[attr-defined]
    assert entries["work"].provider.args[1].options == {"region": {"deep": 1}}  # type: ignore[attr-defined]
    assert entries["home"].provider.args[2] == "usual"  # type: ignore[attr-defined]


def test_a_kind_that_nobody_has_is_a_wrong_setting() -> None:
    with pytest.raises(Misfit) as caught:
        structure({"mine": {"kind": "nonsense"}}, dict[str, ProviderSettings])
    (fault,) = caught.value.faults
    assert fault.path == ("mine", "kind")
    assert "'openai', 'anthropic', 'gemini', 'ollama'" in str(fault)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise RuntimeError('boom')", "cannot be imported: RuntimeError: boom"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("x = 1", "has no 'kind'"),
        ("kind = 1", "is a int, not a uait.llm.ProviderKind"),
        ("from uait.llm import ProviderKind\nkind = ProviderKind(make=print, api=99)", "written for version 99"),
        ("from uait.llm import ProviderKind\nkind = ProviderKind(make=3)", "must be a function"),
    ],
)
def test_a_broken_one_says_who_what_and_what_to_do(install: Any, source: str, expected: str) -> None:
    install("acme", "acme", source)
    (found,) = (each for each in declared_providers() if each.name == "acme")
    with pytest.raises(PluginError, match=r"acme 1\.0") as caught:
        load_kind(found)
    assert expected in str(caught.value)


def test_two_of_one_name_are_both_unusable_and_a_built_in_one_wins(install: Any) -> None:
    install("acme", "acme", GOOD)
    install("other", "acme", GOOD)
    install("thief", "openai", GOOD)
    found = {each.name: each for each in declared_providers()}
    assert found["acme"].problem == "acme 1.0 and other 1.0 both declare a provider 'acme': uninstall one"
    assert found["openai"].builtin


@pytest.mark.parametrize(
    "source",
    [
        "raise RuntimeError('secret /srv/path')",
        "from uait.llm import ProviderKind\ndef make(*args): raise ValueError('secret')\nkind = ProviderKind(make=make)",
        "from uait.llm import ProviderKind\nkind = ProviderKind(make=lambda *args: object())",
        f"{GOOD}\nMine.name = property(lambda self: 1 / 0, lambda self, value: None)",
    ],
    ids=["import", "make", "made", "name"],
)
async def test_a_broken_one_breaks_only_its_own_providers(
    install: Any, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is listed and says so; the others are there; the reason is in the log, and not with clients."""
    install("acme", "acme", source)
    configured = {"bad": ProviderSettings(kind="acme"), "good": ProviderSettings(base_url="http://x/v1")}
    with caplog.at_level(logging.ERROR, "uait.llm"):
        entries = {entry.provider.name: entry.provider for entry in find_providers({}, configured, local=False)}
    assert list(entries) == ["bad", "good", "offline"]
    assert "acme" in caplog.text
    bad = entries["bad"]
    assert isinstance(bad, BrokenProvider)
    for ask in (bad.models(), bad.embed("m", ["x"])):
        with pytest.raises(Unavailable) as caught:
            await ask
        assert "'bad'" in caught.value.text
        assert "secret" not in caught.value.text
    with pytest.raises(Unavailable):
        bad.stream(GenerateRequest(model="m", messages=()))
    await bad.aclose()


def test_a_broken_one_is_told_once(install: Any, caplog: pytest.LogCaptureFixture) -> None:
    install("acme", "acme", "raise RuntimeError('boom')")
    kinds = Kinds()
    assert kinds.find("acme") is kinds.find("acme") is None
    assert caplog.text.count("boom") == 1
