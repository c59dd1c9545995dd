"""Flags over environment over file over default, and every problem at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from uait.errors import SettingsError
from uait.settings import Limits, Settings, check_settings, load_settings

Write = Callable[[str], Path]


def problems(config: Path | None = None, **given: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, **{"environ": {}, **given})
    return [str(problem).replace(f"{config}", "FILE") for problem in caught.value.problems]


def test_nothing_given_gives_the_documented_defaults() -> None:
    settings = load_settings(environ={})

    assert attrs.evolve(settings, data_dir=Path("x")) == Settings(
        host="localhost",
        data_dir=Path("x"),
        grace=10.0,
        log_format="text",
        log_level="info",
        limits=Limits(),
        environ={},
    )
    assert settings.data_dir.name == "uait"


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(write: Write) -> None:
    file = write('grace = 1\nhost = "::1"\nonly = ["chat"]\n[log]\nlevel = "debug"')
    environ = {"UAIT_GRACE": "2", "UAIT_HOST": "127.0.0.1", "UAIT_LOG_FORMAT": "json"}

    settings = load_settings(file, environ=environ, flags={"grace": "3"})

    assert settings.grace == 3.0
    assert settings.host == "127.0.0.1"
    assert settings.only == ("chat",)
    assert (settings.log_level, settings.log_format) == ("debug", "json")
    assert settings.limits == Limits()


def test_each_documented_variable_is_read(tmp_path: Path) -> None:
    settings = load_settings(
        environ={
            "UAIT_HOST": "::1",
            "UAIT_DATA_DIR": str(tmp_path),
            "UAIT_GRACE": "0.5",
            "UAIT_LOG_FORMAT": "json",
            "UAIT_LOG_LEVEL": "WARNING",
            "UAIT_ONLY": "chat, memory",
            "UAIT_WITHOUT": "hub",
            "UAIT_SERVICES": "a:b,c.d:e",
            "UAIT_LIMITS_BODY_BYTES": "1_000",
            "UAIT_LIMITS_IDLE_TIMEOUT": "5",
            "UAIT_KEYS_ALICE": "k1",
        }
    )

    assert (settings.host, settings.data_dir, settings.grace) == ("::1", tmp_path, 0.5)
    assert (settings.log_format, settings.log_level) == ("json", "warning")
    assert (settings.only, settings.without, settings.services) == (("chat", "memory"), ("hub",), ("a:b", "c.d:e"))
    assert settings.limits == Limits(body_bytes=1000, idle_timeout=5.0)
    assert settings.keys == {"alice": "k1"}


def test_an_empty_variable_counts_as_unset() -> None:
    settings = load_settings(environ={"UAIT_GRACE": "", "UAIT_CONFIG": ""})

    assert settings.grace == 10.0


def test_but_an_empty_key_is_none_so_that_nobody_is_served_without_one() -> None:
    found = problems(environ={"UAIT_KEYS_ALICE": ""})

    assert found == ["variable UAIT_KEYS_ALICE: keys.alice must be printable ASCII without spaces, and not empty"]


def test_the_file_can_be_named_by_variable(write: Write) -> None:
    assert load_settings(environ={"UAIT_CONFIG": str(write("grace = 7"))}).grace == 7.0


def test_a_data_directory_without_a_name_is_refused_and_not_wherever_one_is() -> None:
    with pytest.raises(SettingsError, match="--data-dir: data_dir must be a path, not ''"):
        load_settings(environ={}, flags={"data_dir": ""})


def test_a_data_directory_in_the_file_is_relative_to_the_file(write: Write, tmp_path: Path) -> None:
    file = write('data_dir = "here"')

    assert load_settings(file, environ={}).data_dir == tmp_path / "here"
    assert load_settings(file, environ={"UAIT_DATA_DIR": "there"}).data_dir == Path("there").absolute()


def test_a_home_that_nobody_has_is_a_problem_like_any_other(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "there is no home directory ~nobody-here: choose a data directory with --data-dir or UAIT_DATA_DIR"
    file = write('data_dir = "~nobody-here/data"')

    assert problems(file) == [f"FILE line 1: {remedy}"]
    assert problems(environ={"UAIT_DATA_DIR": "~nobody-here"}) == [f"variable UAIT_DATA_DIR: {remedy}"]
    assert problems(flags={"data_dir": "~nobody-here"}) == [f"flag --data-dir: {remedy}"]
    assert problems(environ={"UAIT_CONFIG": "~nobody-here/x"}) == ["~nobody-here/x: there is no such file"]
    monkeypatch.setenv("HOME", "/home/sweet")
    assert load_settings(environ={"UAIT_DATA_DIR": "~/data"}).data_dir == Path("/home/sweet/data")
    assert load_settings(write('data_dir = "~/data"'), environ={}).data_dir == Path("/home/sweet/data")


def test_all_problems_are_listed_at_once_each_with_its_place_and_the_remedy(write: Write) -> None:
    file = write(
        """
hots = "x"
grace = "long"
services = "chat"
only = [
  "chat",
  5,
]
[log]
format = "yaml"
[limits]
body_bytes = 0
queue = true
queueue = 3
"""
    )
    environ = {"UAIT_LIMITS_IDLE_TIMEOUT": "soon", "UAIT_LIMITS_QEUE": "1"}

    assert set(problems(file, environ=environ, flags={"host": "http://x", "log.level": "loud"})) == {
        "FILE line 1: hots is not known; did you mean 'host'?",
        "FILE line 2: grace must be a number, not 'long'",
        "FILE line 3: services must be a list, not 'chat'",
        "FILE line 4: only[1] must be text, not 5",
        "flag --host: host must be a host name or an IP address alone ('localhost', '0.0.0.0', '::1'), without scheme, brackets or port",
        "FILE line 9: log.format must be one of 'text', 'json', not 'yaml'",
        "flag --log-level: log.level must be one of 'critical', 'error', 'warning', 'info', 'debug', not 'loud'",
        "FILE line 11: limits.body_bytes must be >= 1: 0",
        "FILE line 12: limits.queue must be a whole number, not true",
        "FILE line 13: limits.queueue is not known; did you mean 'queue'?",
        "variable UAIT_LIMITS_IDLE_TIMEOUT: limits.idle_timeout must be a number, not 'soon'",
        "variable UAIT_LIMITS_QEUE: is not known; did you mean 'UAIT_LIMITS_QUEUE'?",
    }


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e999"])
def test_impossible_seconds_are_refused(value: str) -> None:
    assert problems(environ={"UAIT_GRACE": value}) == [
        "variable UAIT_GRACE: grace must be 0 seconds or more, and finite"
    ]
    (problem,) = problems(environ={"UAIT_LIMITS_HEADER_TIMEOUT": value})
    assert "must be more than 0 seconds" in problem


@pytest.mark.parametrize(
    "host", ["localhost", "0.0.0.0", "::", "::1", "fe80::1%eth0", "my-host.example", "a_b.example.", "127.0.0.1"]
)
def test_hosts(host: str) -> None:
    assert load_settings(environ={"UAIT_HOST": host}).host == host


@pytest.mark.parametrize(
    "host", ["http://localhost", "localhost:80", "[::1]", "a b", "-x", "x-", "*", "127..0.1", ".", "a" * 64]
)
def test_what_is_no_host(host: str) -> None:
    (problem,) = problems(environ={"UAIT_HOST": host})
    assert problem.startswith("variable UAIT_HOST: host must be a host name or an IP address alone")


def test_wrong_keys_are_named_by_user_and_never_repeated(write: Write) -> None:
    file = write('[keys]\nalice = "sesame street"\nbob = 5\ncarol = "open-sesame"\ndan = "open-sesame"\n')

    found = problems(file, environ={"UAIT_KEYS_EVE": "sésame"})

    assert set(found) == {
        "FILE line 2: keys.alice must be printable ASCII without spaces, and not empty",
        "FILE line 3: keys.bob must be text",
        "FILE line 1: keys of carol, dan are the same; each user needs an own one",
        "variable UAIT_KEYS_EVE: keys.eve must be printable ASCII without spaces, and not empty",
    }
    assert "same" not in "".join(found).replace("are the same", "")


def test_keys_do_not_show_in_a_repr() -> None:
    assert "sesame" not in repr(Settings(data_dir=Path("x"), keys={"a": "sesame"}, sections={"chat": {"k": "sesame"}}))


def test_a_section_of_the_host_must_be_a_section(write: Write) -> None:
    assert problems(write('log = "json"')) == ["FILE line 1: log must be a section: [log]"]


def test_a_file_that_is_not_there_or_not_readable_is_one_problem(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == ["FILE: there is no such file"]
    assert problems(tmp_path) == ["FILE: cannot be read: Is a directory"]
    (tmp_path / "latin").write_bytes(b'host = "\xff"')
    assert problems(tmp_path / "latin") == ["FILE: must be UTF-8 text; byte 8 is not"]


def test_a_file_that_is_not_toml_names_the_line(write: Write) -> None:
    (problem,) = problems(write("grace = 1\nhost = \n"))
    assert problem.startswith("FILE line 2: is not TOML: ")


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000 + "]" * 5000])
def test_what_is_too_much_for_python_is_a_problem_like_any_other(write: Write, value: str) -> None:
    assert problems(write(f"only = {value}")) == ["FILE: has a number that is too long, or is nested too deeply"]
    (problem,) = problems(environ={"UAIT_LIMITS_QUEUE": value})
    assert problem.startswith("variable UAIT_LIMITS_QUEUE: limits.queue must be a whole number")
    assert problems(environ={"UAIT_ONLY": f"[{value}]"}) == [
        "variable UAIT_ONLY: only must be a list, not a longer text"
    ]


def test_a_path_with_nul_in_it_is_refused(write: Write) -> None:
    (problem,) = problems(write('data_dir = "a\\u0000b"'))
    assert "data_dir must be a path" in problem


def test_problems_do_not_keep_the_rest_from_being_read(write: Write) -> None:
    settings, found = check_settings(write("nonsense = 1\n[chat]\nport = 5\n[log]\nlevel = 'debug'"), environ={})

    assert len(found) == 1
    assert settings.sections == {"chat": {"port": 5}}
    assert settings.log_level == "debug"


def test_made_by_hand_they_are_checked_too() -> None:
    for wrong in (
        {"host": "a:1"},
        {"grace": -1.0},
        {"services": ["chat"]},
        {"keys": {"a": "k", "b": "k"}},
        {"keys": {"a": ""}},
    ):
        with pytest.raises(ValueError):
            Settings(data_dir=Path("x"), **wrong)  # type: ignore[arg-type]


def test_the_environment_is_the_one_given_and_a_copy() -> None:
    environ = {"A": "1"}
    settings = load_settings(environ=environ)
    environ["A"] = "2"

    assert settings.environ == {"A": "1"}


def test_what_is_right_is_kept_beside_what_is_wrong_in_the_same_section(write: Write) -> None:
    settings, found = check_settings(
        write("grace = -1\nhost = 5\nonly = ['chat']\n[limits]\nqueue = 0\nconnections = 7"), environ={}
    )

    assert len(found) == 3
    assert settings.only == ("chat",)
    assert (settings.grace, settings.host) == (10.0, "localhost")
    assert settings.limits == Limits(connections=7)
