"""A service's section: read when its class is known, with the origins that loading noted."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest
from attrs import validators
from hypothesis import given
from hypothesis import strategies as st

from uait.errors import PluginError, SettingsError
from uait.settings import Settings, load_settings, read_section, unknown_sections

if TYPE_CHECKING:
    from decimal import Decimal

Write = Callable[[str], Path]


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Provider:
    name: str
    url: str = ""
    api_key: str | None = attrs.field(default=None, validator=validators.optional(validators.min_len(4)))


@attrs.frozen
class Own:
    model: str | None = None
    tries: int = attrs.field(default=3, validator=validators.ge(1))
    pause: float = attrs.field(default=1.0, validator=validators.gt(0))
    mode: Literal["fast", "safe"] = "fast"
    colour: Colour = Colour.RED
    cache: bool = True
    folder: Path = Path()
    names: tuple[str, ...] = ()
    sizes: list[int] = attrs.field(factory=list)
    labels: Mapping[str, int] = attrs.field(factory=dict)
    providers: tuple[Provider, ...] = ()
    either: int | str = 0


@attrs.frozen
class Pair:
    low: int = attrs.field(default=1)
    high: int = attrs.field(default=3)

    @high.validator
    def _order(self, field: attrs.Attribute[int], value: int) -> None:
        if value < self.low:
            raise ValueError("'high' must not be below low")

    def __attrs_post_init__(self) -> None:
        if self.low == 13:
            raise ValueError("13 brings bad luck")


def by_hand(**section: object) -> Settings:
    return Settings(data_dir=Path("x"), sections={"own": section}, environ={})


def problems(settings: Settings, cls: type | None = Own, **given: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_section(settings, "own", cls, **{"port": 1, **given})  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]


def test_without_a_section_everything_has_its_default() -> None:
    section, own = read_section(by_hand(), "own", Own, port=8000)

    assert section.port == 8000
    assert own == Own()
    assert read_section(by_hand(), "own", None, port=1)[1] is None


def test_every_kind_of_value_from_a_file(write: Write) -> None:
    file = write(
        """
[own]
port = 0
model = "m"
tries = 5
pause = 2
mode = "safe"
colour = "red"
cache = false
folder = "/x"
names = ["a", "b"]
sizes = [1, 2]
labels = { a = 1 }
either = "text"
[[own.providers]]
name = "p"
api_key = "abcd"
"""
    )
    section, own = read_section(load_settings(file, environ={}), "own", Own, port=1)

    assert section.port == 0
    assert own == Own(
        "m",
        5,
        2.0,
        "safe",
        Colour.RED,
        False,
        Path("/x"),
        ("a", "b"),
        [1, 2],
        {"a": 1},
        (Provider("p", "", "abcd"),),
        "text",
    )
    assert isinstance(own.pause, float)


def test_every_kind_of_value_from_the_environment() -> None:
    environ = {
        "UAIT_OWN_MODEL": "m",
        "UAIT_OWN_TRIES": "5",
        "UAIT_OWN_PAUSE": "2",
        "UAIT_OWN_MODE": "SAFE",
        "UAIT_OWN_COLOUR": "red",
        "UAIT_OWN_CACHE": "no",
        "UAIT_OWN_FOLDER": "/x",
        "UAIT_OWN_NAMES": "a, b",
        "UAIT_OWN_SIZES": "[1, 2]",
        "UAIT_OWN_LABELS": "{ a = 1 }",
        "UAIT_OWN_PROVIDERS": '[{name = "p", api_key = "abcd"}]',
    }
    _, own = read_section(load_settings(environ=environ), "own", Own, port=1)

    assert own == Own(
        "m", 5, 2.0, "safe", Colour.RED, False, Path("/x"), ("a", "b"), [1, 2], {"a": 1}, (Provider("p", "", "abcd"),)
    )


def test_flag_beats_variable_beats_the_further_variable_beats_file(write: Write) -> None:
    file = write("[own]\nport = 1")

    def port(environ: dict[str, str], **flags: str) -> int:
        settings = load_settings(
            file, environ=environ, flags={name.replace("_", "."): text for name, text in flags.items()}
        )
        return read_section(settings, "own", None, port=9, port_variable="OLD_PORT")[0].port

    assert port({}) == 1
    assert port({"OLD_PORT": "2"}) == 2
    assert port({"OLD_PORT": "2", "UAIT_OWN_PORT": "3"}) == 3
    assert port({"OLD_PORT": "2", "UAIT_OWN_PORT": "3"}, own_port="4") == 4


@pytest.mark.parametrize("name", ["settings.toml", "flag 1.toml", "variable.toml"])
def test_a_file_is_weaker_than_the_environment_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("[own]\nport = 1")

    settings = load_settings(Path(name), environ={"UAIT_OWN_PORT": "2"})

    assert read_section(settings, "own", None, port=9)[0].port == 2


def test_a_file_is_weaker_than_the_environment_however_it_is_indented(write: Write) -> None:
    file = write("[other]\n  [own]\n  port = 1")

    settings = load_settings(file, environ={"UAIT_OWN_PORT": "2"})

    assert read_section(settings, "own", None, port=9)[0].port == 2


def test_what_a_program_gives_by_hand_is_stronger_than_the_environment() -> None:
    settings = Settings(
        data_dir=Path("x"), sections={"own": {"port": 0}}, environ={"OLD_PORT": "2", "UAIT_OWN_TRIES": "7"}
    )
    section, own = read_section(settings, "own", Own, port=9, port_variable="OLD_PORT")

    assert section.port == 0
    assert own.tries == 7


def test_all_problems_at_once_with_their_lines(write: Write) -> None:
    file = write(
        """
[own]
port = 99999
tries = 0
pause = "x"
modle = "m"
names = "abc"
sizes = [1, "2", 3.0]
labels = { a = "x" }
either = []
[[own.providers]]
url = 5
[[own.providers]]
name = "p"
api_key = "abc"
"""
    )
    settings = load_settings(file, environ={"UAIT_OWN_CACHE": "maybe", "UAIT_OWN_MODLE": "m"})

    assert set(problems(settings)) == {
        f"{file} line 2: own.port must be from 0 (any free port) to 65535, not 99999",
        f"{file} line 3: own.tries must be >= 1: 0",
        f"{file} line 4: own.pause must be a number, not 'x'",
        f"{file} line 5: own.modle is not known; did you mean 'mode'?",
        f"{file} line 6: own.names must be a list, not 'abc'",
        f"{file} line 7: own.sizes[1] must be a whole number, not '2'",
        f"{file} line 7: own.sizes[2] must be a whole number, not 3.0",
        f"{file} line 8: own.labels.a must be a whole number, not 'x'",
        f"{file} line 9: own.either must be a whole number or text, not a list",
        f"{file} line 11: own.providers[0].url must be text, not 5",
        f"{file} line 10: own.providers[0].name is missing",
        f"{file} line 14: own.providers[1].api_key has a value that cannot be used",
        "variable UAIT_OWN_CACHE: own.cache must be true or false, not 'maybe'",
        "variable UAIT_OWN_MODLE: is not known; did you mean 'UAIT_OWN_MODE'?",
    }


def test_lists_in_lists_and_in_tables_are_checked_as_strictly() -> None:
    nested = attrs.make_class(
        "Nested",
        {
            "rows": attrs.field(factory=list, type=list[tuple[str, ...]]),
            "by_name": attrs.field(factory=dict, type=dict[str, frozenset[int]]),
        },
    )
    _, own = read_section(by_hand(rows=[["a"], ["b", "c"]], by_name={"x": [1, 1]}), "own", nested, port=1)
    assert (own.rows, own.by_name) == ([("a",), ("b", "c")], {"x": frozenset({1})})

    assert problems(by_hand(rows=[["a"], "bc"], by_name={"x": [1, "2"], "y": "3"}), nested) == [
        "settings: own.rows[1] must be a list, not 'bc'",
        "settings: own.by_name.x[1] must be a whole number, not '2'",
        "settings: own.by_name.y must be a list, not '3'",
    ]


def test_every_port_problem_names_where_the_port_came_from() -> None:
    settings = load_settings(environ={"OLD_PORT": "many"}, flags={})
    assert problems(settings, port_variable="OLD_PORT") == [
        "variable OLD_PORT: own.port must be a whole number, not 'many'"
    ]

    settings = load_settings(environ={"OLD_PORT": "many"}, flags={"own.port": "65536"})
    assert problems(settings, port_variable="OLD_PORT") == [
        "flag --port: own.port must be from 0 (any free port) to 65535, not 65536"
    ]


def test_a_service_without_settings_has_only_the_common_keys() -> None:
    assert problems(by_hand(porf=1), None) == ["settings: own.porf is not known; did you mean 'port'?"]


@pytest.mark.parametrize("name", ["api_key", "password", "access_token", "client_secret", "keys"])
def test_no_message_repeats_what_may_be_a_secret(name: str) -> None:
    plain = attrs.make_class("Plain", {name: attrs.field(default=1, type=int)})
    short = attrs.make_class(
        "Short", {name: attrs.field(default="xxxxxx", type=str, validator=validators.matches_re("x+"))}
    )

    assert problems(by_hand(**{name: "hunter2"}), plain) == [f"settings: own.{name} must be a whole number"]
    assert problems(by_hand(**{name: "hunter2"}), short) == [f"settings: own.{name} has a value that cannot be used"]


def test_no_message_repeats_an_address_with_a_password_in_it() -> None:
    assert "hunter2" not in problems(by_hand(tries="https://me:hunter2@host/"))[0]
    url = attrs.make_class(
        "Url", {"url": attrs.field(default="https://x", validator=validators.matches_re("https://.+"))}
    )
    assert problems(by_hand(url="http://me:hunter2@host/"), url) == [
        "settings: own.url must match regex 'https://.+' (a longer text doesn't)"
    ]


def test_a_class_may_object_to_its_values_together() -> None:
    assert problems(by_hand(low=5, high=4), Pair) == ["settings: own.high must not be below low"]
    assert problems(by_hand(low=13, high=20), Pair) == ["settings: own 13 brings bad luck"]
    assert read_section(by_hand(low=5, high=9), "own", Pair, port=1)[1] == Pair(5, 9)


def test_a_settings_class_that_cannot_be_read_is_its_authors_error() -> None:
    @attrs.frozen
    class Unresolvable:
        amount: Decimal | None = None

    with pytest.raises(PluginError, match=r"Unresolvable: name 'Decimal' is not defined; import at run time"):
        read_section(by_hand(), "own", Unresolvable, port=1)


def test_sections_and_variables_of_nobody_are_found(write: Write) -> None:
    file = write("[caht]\nport = 1\n[memory]\n")
    environ = {
        "UAIT_CHAT_PORT": "1",
        "UAIT_HOTS": "x",
        "UAIT_GRACE": "1",
        "UAIT_LOG_LEVEL": "info",
        "UAITX": "",
        "PATH": "x",
    }
    settings = load_settings(file, environ=environ, flags={"hbu.port": "1"})

    assert [str(problem) for problem in unknown_sections(settings, ["chat", "memory", "hub"])] == [
        f"{file} line 1: no service is called 'caht'; did you mean 'chat'?",
        "flag --port: no service is called 'hbu'; did you mean 'hub'?",
        "variable UAIT_HOTS: is not known; did you mean 'UAIT_HOST'?",
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("UAIT_CHATT_PORT", "did you mean 'UAIT_CHAT_PORT'?"),
        ("UAIT_MEMRY_EMBEDDING_MODEL", "did you mean 'UAIT_MEMORY_EMBEDDING_MODEL'?"),
        ("UAIT_WEATHR_MAP_PORT", "did you mean 'UAIT_WEATHER_MAP_PORT'?"),
        ("UAIT_GRASE", "did you mean 'UAIT_GRACE'?"),
        ("UAIT_FOO", "known are: UAIT_"),
        ("UAIT_FOO_PORT", "known are: UAIT_"),
    ],
)
def test_a_variable_that_nobody_knows_may_be_meant_for_a_section(written: str, meant: str) -> None:
    settings = load_settings(environ={written: "1"})
    (problem,) = unknown_sections(settings, ["chat", "memory", "weather-map"])
    assert f"variable {written}: is not known; {meant}" in str(problem)


def test_a_longer_name_keeps_its_variables_to_itself() -> None:
    settings = load_settings(environ={"UAIT_OWN_EXTRA_PORT": "5"})

    assert read_section(settings, "own", None, port=1, others=["own-extra"])[0].port == 1
    assert read_section(settings, "own-extra", None, port=1, others=["own"])[0].port == 5
    assert len(problems(settings, None)) == 1


def places_of_problems(settings: Settings) -> list[str]:
    try:
        _, own = read_section(settings, "own", Own, port=1)
    except SettingsError as error:
        return [problem.where for problem in error.problems]
    assert isinstance(own, Own)
    return []


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
own_keys = st.sampled_from([field.name for field in attrs.fields(Own)] + ["port", "other"])


@given(section=st.dictionaries(own_keys, plain, max_size=4))
def test_whatever_is_written_is_either_right_or_a_problem(section: dict[str, Any]) -> None:
    assert all(where == "settings" for where in places_of_problems(by_hand(**section)))


@given(text=st.text(min_size=1, max_size=12), key=own_keys)
def test_whatever_a_variable_says_is_either_right_or_a_problem(text: str, key: str) -> None:
    settings = Settings(data_dir=Path("x"), environ={f"UAIT_OWN_{key.upper()}": text})
    assert set(places_of_problems(settings)) <= {f"variable UAIT_OWN_{key.upper()}"}
