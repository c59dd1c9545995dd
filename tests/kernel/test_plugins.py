"""Plugins are found without being imported, loaded in isolation, and diagnosed by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest

from uait.entry_points import _installed
from uait.errors import PluginError, SettingsError
from uait.kernel.plan import check
from uait.kernel.plugins import Plugin, discover, in_order, load, load_all, select
from uait.kernel.service import API_VERSION, Context, ServiceSpec, service
from uait.settings import Settings

BUILTIN = {"gateway", "orchestrator", "chat", "memory", "hub", "discovery"}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`install("dist", "1.0", {"name": "module:attr"}, module="source")` puts a distribution on sys.path, as pip would."""

    def installed(dist: str, version: str, entry_points: dict[str, str], **modules: str) -> None:
        root = tmp_path / dist
        info = root / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        lines = "\n".join(f"{name} = {value}" for name, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[uait.services]\n{lines}\n")
        for name, source in modules.items():
            (root / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(root))
        importlib.invalidate_caches()

    yield installed
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


GOOD = "from uait import service\n@service(port=8707, summary='Fine')\nasync def weather(ctx): ...\n"


def named(plugins: list[Plugin], name: str) -> Plugin:
    return next(plugin for plugin in plugins if plugin.name == name)


def test_the_six_come_in_through_the_entry_point_door() -> None:
    plugins = discover()

    assert {plugin.name for plugin in plugins if plugin.builtin and plugin.distribution == "uait"} >= BUILTIN


def test_discovery_imports_nothing(install: Any) -> None:
    install("acme-weather", "1.0", {"weather": "acme_weather:weather"}, acme_weather="raise SystemExit('imported')")

    plugin = named(discover(), "weather")

    assert plugin.origin == "acme-weather 1.0"
    assert "acme_weather" not in sys.modules


def test_a_distribution_says_who_it_is_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = importlib.metadata.Distribution.name.fget
    assert original is not None

    def name(self: importlib.metadata.Distribution) -> str:
        asked.append(original(self))
        return asked[-1]

    monkeypatch.setattr(importlib.metadata.Distribution, "name", property(name))
    _installed.cache_clear()
    assert len(discover()) >= 6
    assert asked.count("uait") == 1
    discover()
    assert asked.count("uait") == 1


def test_what_is_installed_while_the_process_runs_is_found(install: Any, tmp_path: Path) -> None:
    install("acme-one", "1.0", {"one": "acme_one:one"})
    assert {"one"} <= {plugin.name for plugin in discover()}
    info = tmp_path / "acme-one" / "acme_two-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-two\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[uait.services]\ntwo = acme_two:two\n")
    assert {"one", "two"} <= {plugin.name for plugin in discover()}


def test_a_good_one_loads_with_the_name_and_version_of_its_entry_point(install: Any) -> None:
    install("acme-weather", "1.2.3", {"storm": "acme_weather:weather"}, acme_weather=GOOD)

    spec = load(named(discover(), "storm"))

    assert (spec.name, spec.title, spec.version, spec.origin) == ("storm", "storm", "1.2.3", "acme-weather 1.2.3")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise RuntimeError('boom')", "cannot be imported: RuntimeError: boom"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("import not_there_at_all", "ModuleNotFoundError"),
        ("def (", "SyntaxError"),
        ("x = 1", "has no 'weather'"),
        ("async def weather(ctx): ...", "not a service: decorate the factory with @uait.service"),
        ("from uait import service\n@service\ndef weather(ctx): ...", "must be an `async def`"),
        ("from uait import service\n@service\nasync def weather(): ...", "exactly one argument"),
        ("from uait import service\n@service(api=99)\nasync def weather(ctx): ...", "written for version 99"),
        ("from uait import service\n@service(settings=dict)\nasync def weather(ctx): ...", "not an attrs class"),
        (
            "import attrs\nfrom uait import service\n@attrs.frozen\nclass S:\n    key: str\n@service(settings=S)\nasync def weather(ctx): ...",
            "need a default for key",
        ),
        ("from uait import service\n@service(name='No Good')\nasync def weather(ctx): ...", "not a service name"),
    ],
)
def test_a_broken_one_says_who_what_and_what_to_do(install: Any, source: str, expected: str) -> None:
    install("acme-weather", "1.0", {"weather": "acme_broken:weather"}, acme_broken=source)

    with pytest.raises(PluginError) as caught:
        load(named(discover(), "weather"))

    assert expected in str(caught.value)
    assert "acme-weather 1.0" in str(caught.value)


def test_keyboard_interrupt_on_import_is_not_swallowed(install: Any) -> None:
    install("acme-weather", "1.0", {"weather": "acme_broken:weather"}, acme_broken="raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        load(named(discover(), "weather"))


def test_a_merely_installed_broken_one_harms_no_other(install: Any) -> None:
    install("acme-good", "1.0", {"weather": "acme_good:weather"}, acme_good=GOOD)
    install("acme-bad", "1.0", {"bad": "acme_bad:bad"}, acme_bad="raise RuntimeError('boom')")

    loaded = load_all([named(discover(), "weather"), named(discover(), "bad")])

    assert [spec.name for spec in loaded.specs] == ["weather"]
    assert [plugin.name for plugin, _ in loaded.broken] == ["bad"]


def test_everything_asked_for_that_is_broken_is_refused_at_once(install: Any) -> None:
    install("acme-bad", "1.0", {"bad": "acme_bad:bad", "worse": "acme_worse:x"}, acme_bad="raise RuntimeError('boom')")

    loaded = load_all(select(discover(), only=["bad", "worse"]))

    assert [problem.where for problem in loaded.problems] == ["bad", "worse"]


def test_a_third_party_does_not_shadow_a_built_in(install: Any, caplog: Any) -> None:
    install("acme-chat", "1.0", {"chat": "acme_chat:weather"}, acme_chat=GOOD)

    chat = named(discover(), "chat")

    assert chat.builtin
    assert chat.note == "'chat' is uait's own; what acme-chat 1.0 declares by that name is left out: call it otherwise"
    load_all([chat])
    assert chat.note in caplog.text
    assert not named(discover(), "memory").note


def test_two_third_parties_with_one_name_are_both_named(install: Any) -> None:
    install("acme-a", "1.0", {"weather": "acme_a:weather"}, acme_a=GOOD)
    install("acme-b", "2.0", {"weather": "acme_b:weather"}, acme_b=GOOD)

    with pytest.raises(PluginError, match=r"acme-a 1\.0 and acme-b 2\.0"):
        load(named(discover(), "weather"))


def test_what_was_asked_for_by_reference_wins_over_what_is_installed(install: Any) -> None:
    install("acme-a", "1.0", {"weather": "acme_a:weather"}, acme_a=GOOD)
    install("acme-b", "2.0", {}, acme_b=GOOD)

    plugins = [plugin for plugin in discover(["acme_b:weather"]) if plugin.name == "weather"]

    assert [plugin.value for plugin in plugins] == ["acme_b:weather"]
    assert load(plugins[0]).name == "weather"


def test_the_attribute_of_a_reference_may_be_called_as_python_likes_it(install: Any) -> None:
    source = GOOD.replace("port=8707", "name='weather'").replace("async def weather", "async def _Weather")
    install("acme-weather", "1.0", {}, acme_weather=source)

    [plugin] = [plugin for plugin in discover(["acme_weather:_Weather"]) if plugin.explicit]

    assert load(plugin).name == "weather"


def test_a_reference_of_another_form_is_refused() -> None:
    with pytest.raises(SettingsError, match="module:attr"):
        discover(["just_a_module"])


def test_select_names_every_unknown_name_and_the_nearest_known() -> None:
    with pytest.raises(SettingsError) as caught:
        select(discover(), only=["chta", "zzz"], without=["memroy"])

    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "did you mean 'chat'" in text
    assert "did you mean 'memory'" in text


def test_select() -> None:
    assert [plugin.name for plugin in select(discover(), only=["chat", "memory"])] == ["chat", "memory"]
    assert "hub" not in {plugin.name for plugin in select(discover(), without=["hub"])}


def spec_of(name: str, *needs: str) -> ServiceSpec:
    @service(name=name, needs=needs)
    async def factory(ctx: Context) -> Any: ...

    return factory


def plugin_of(spec: ServiceSpec, *, explicit: bool = False) -> Plugin:
    return Plugin(name=spec.name, value=f"tests:{spec.name}", explicit=explicit, spec=spec)


def test_services_come_after_what_they_need() -> None:
    order = [spec.name for spec in in_order([spec_of("c", "b"), spec_of("a"), spec_of("b", "a")])]

    assert order == ["a", "b", "c"]


def test_a_circle_is_refused_with_its_path_where_it_was_asked_for() -> None:
    circle = [spec_of("a", "b"), spec_of("b", "c"), spec_of("c", "a")]

    loaded = load_all([plugin_of(spec, explicit=True) for spec in circle])

    assert "a -> b -> c -> a" in str(loaded.problems[0])


def test_a_circle_of_what_is_merely_installed_keeps_nobody_else_from_starting() -> None:
    specs = [spec_of("a", "b"), spec_of("b", "a"), spec_of("c", "c"), spec_of("d", "c"), spec_of("e")]

    loaded = load_all([plugin_of(spec) for spec in specs])

    assert [spec.name for spec in loaded.specs] == ["e"]
    assert {plugin.name: str(error) for plugin, error in loaded.broken} == {
        "a": "services need each other in a circle: a -> b -> a",
        "b": "services need each other in a circle: b -> a -> b",
        "c": "services need each other in a circle: c -> c",
        "d": "service 'd' needs 'c', which cannot be loaded",
    }


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ("port=70000", "70000 is not a port"),
        ("port='80'", "'80' is not a port"),
        ("needs='chat'", r"'chat' is one text where several are expected: write \['chat'\]"),
        ("intents='count'", "'count' is one text"),
        ("name='No Name'", "'No Name' is not a service name"),
    ],
)
def test_a_wrong_declaration_breaks_the_plugin_and_no_other(install: Any, declared: str, why: str) -> None:
    install(
        "acme-weather", "1.0", {"weather": "acme_weather:weather"}, acme_weather=GOOD.replace("port=8707", declared)
    )

    loaded = load_all([named(discover(), "weather"), plugin_of(spec_of("c"))])

    assert [spec.name for spec in loaded.specs] == ["c"]
    assert loaded.problems == []
    with pytest.raises(PluginError, match=f"acme-weather 1.0.*declares it wrongly: .*{why}"):
        raise loaded.broken[0][1]


OWN_SETTINGS = """
from __future__ import annotations
import attrs
from uait import service
@attrs.frozen
class Own:
    price: {kind} = None
@service(settings=Own)
async def weather(ctx): ...
"""


def test_a_settings_class_that_cannot_be_read_breaks_the_plugin_and_no_other(install: Any) -> None:
    install("acme-weather", "1.0", {"weather": "acme_weather:weather"}, acme_weather=OWN_SETTINGS.format(kind="Money"))

    plan = check(Settings(environ={}))

    assert {spec.name for spec in plan.specs} >= BUILTIN
    [(plugin, error)] = plan.broken
    assert plugin.name == "weather"
    assert str(error).startswith("service 'weather' (acme-weather 1.0, acme_weather:weather): Own: name 'Money' is not")


def test_a_value_that_nothing_can_be_made_of_is_a_problem_beside_the_others(install: Any) -> None:
    install("acme-weather", "1.0", {"weather": "acme_weather:weather"}, acme_weather=OWN_SETTINGS.format(kind="range"))

    with pytest.raises(SettingsError) as caught:
        check(Settings(environ={}, sections={"weather": {"price": 1}, "wether": {}}))

    assert [problem.where for problem in caught.value.problems] == ["settings", "weather"]
    assert "cannot have a field of type <class 'range'>" in caught.value.problems[1].message


def test_an_attribute_error_of_the_module_itself_is_no_wrong_entry_point(install: Any) -> None:
    install("acme-weather", "1.0", {"weather": "acme_weather:weather"}, acme_weather="import sys\nsys.nothing_like_it")

    with pytest.raises(PluginError, match=r"cannot be imported: AttributeError: .*nothing_like_it"):
        load(named(discover(), "weather"))


def test_needing_what_is_not_there_breaks_the_needer_and_those_behind_it() -> None:
    loaded = load_all([plugin_of(spec_of("a", "ghost")), plugin_of(spec_of("b", "a")), plugin_of(spec_of("c"))])

    assert [spec.name for spec in loaded.specs] == ["c"]
    assert {plugin.name: str(error) for plugin, error in loaded.broken} == {
        "a": "service 'a' needs 'ghost', which is not among the services to run",
        "b": "service 'b' needs 'a', which cannot be loaded",
    }


@pytest.mark.parametrize(
    ("name", "title", "why"),
    [
        ("weather", "chat-service", "cannot be called 'chat-service', which 'chat' "),
        ("weather", "chat", "cannot be called 'chat', which 'chat' "),
        ("chat-service", "weather", "cannot be called 'chat-service', which 'chat' "),
    ],
)
def test_nobody_takes_the_name_or_the_title_of_another(name: str, title: str, why: str) -> None:
    @service(name=name, title=title)
    async def factory(ctx: Context) -> Any: ...

    @service(title="chat-service")
    async def chat(ctx: Context) -> Any: ...

    loaded = load_all([plugin_of(chat), plugin_of(factory)])

    assert [spec.name for spec in loaded.specs] == ["chat"]
    assert why in str(loaded.broken[0][1])


def test_the_present_api_version_loads() -> None:
    @service(api=API_VERSION)
    async def fine(ctx: Context) -> Any: ...

    assert load(plugin_of(fine)).name == "fine"
