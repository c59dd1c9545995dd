"""What can be typed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from uait.cli.arguments import EPILOG, Exit, flags_of, parse

Uait = Callable[..., tuple[int, str, str]]


def test_version(uait: Uait) -> None:
    assert uait("--version") == (0, f"uait {version('uait')}\n", "")


def test_help_teaches_by_examples_and_names_the_exit_codes(uait: Uait) -> None:
    code, out, _ = uait("--help")

    assert code == 0
    assert out.count("  python -m uait") >= 8
    for meaning in Exit:
        assert f"{meaning.value} " in EPILOG or meaning is Exit.INTERRUPTED


@pytest.mark.parametrize("command", ["run", "plugins", "doctor", "status"])
def test_each_command_has_help(uait: Uait, command: str) -> None:
    code, out, _ = uait(command, "--help")

    assert code == 0
    assert "--data-dir" in out


def test_options_may_stand_before_or_behind_the_command() -> None:
    before = parse(["--only", "chat", "--port", "chat=1", "plugins", "--json"])
    behind = parse(["plugins", "--only", "chat", "--port", "chat=1", "--json"])

    assert flags_of(before) == flags_of(behind) == {"only": "chat", "chat.port": "1"}
    assert before.json
    assert behind.json


def test_options_may_stand_before_and_behind_the_command() -> None:
    typed = parse(
        [
            "--without",
            "hub",
            "--port",
            "a=1",
            "--service",
            "m:x",
            "run",
            "--without",
            "chat",
            "--port",
            "b=2",
            "--service",
            "m:y",
        ]
    )

    assert flags_of(typed) == {"without": "hub,chat", "a.port": "1", "b.port": "2", "services": "m:x,m:y"}
    assert flags_of(parse(["--without", "hub"])) == {"without": "hub"}


def test_every_flag_reaches_the_settings() -> None:
    typed = (
        "--only a,b --only c --without d --service m:x --service m:y --data-dir /d --host ::1 --grace 3 "
        "--log-format json --log-level debug --port a=1 --port b-c=2"
    )
    assert flags_of(parse(typed.split())) == {
        "only": "a,b,c",
        "without": "d",
        "services": "m:x,m:y",
        "data_dir": "/d",
        "host": "::1",
        "grace": "3",
        "log.format": "json",
        "log.level": "debug",
        "a.port": "1",
        "b-c.port": "2",
    }


def test_no_flag_says_nothing() -> None:
    assert flags_of(parse([])) == {}
    assert parse([]).command == "run"


@pytest.mark.parametrize(
    "typed", [["--port", "8080"], ["--port", "=1"], ["--port", "chat="], ["--onyl", "chat"], ["--on", "x"]]
)
def test_what_cannot_be_understood_is_a_usage_error(uait: Uait, typed: list[str]) -> None:
    code, _, err = uait(*typed)

    assert code == Exit.USAGE
    assert "error: " in err


@pytest.mark.parametrize("typed", ["--help", "--version", "plugins"])
def test_a_quick_question_does_not_import_what_is_slow(typed: str) -> None:
    code = (
        "import sys\nfrom uait.cli import main\n"
        f"try:\n    main([{typed!r}])\nexcept SystemExit:\n    pass\n"
        "assert not {'quart', 'hypercorn', 'httpx', 'apsw'} & sys.modules.keys(), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--prt chat=1", "there is no option --prt; did you mean --port?"),
        ("--prt=chat=1", "there is no option --prt; did you mean --port?"),
        ("plugins --jsn", "there is no option --jsn; did you mean --json?"),
        ("--frobnicate 3", "there is no option --frobnicate; see --help"),
    ],
)
def test_a_mistyped_option_is_named_and_what_was_meant(
    typed: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(typed.split())
    assert ended.value.code == Exit.USAGE
    assert said in capsys.readouterr().err
