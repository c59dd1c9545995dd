"""What can be typed, and what the exit codes mean. Imports nothing that is slow: `--help` answers at once."""

from __future__ import annotations

import argparse
import enum
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uait.errors import Problem
    from uait.settings import Settings


class Exit(enum.IntEnum):
    """What an exit code means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANNOT_START = 3
    INTERRUPTED = 130


DESCRIPTION = """\
uait is a self-hosted AI backend: gateway, orchestrator, chat, memory, WebSocket hub and discovery in one process.
Without a command it starts them and runs until Ctrl-C.
"""

EPILOG = """\
examples:
  python -m uait                                  start everything; then: curl http://localhost:9999/health
  python -m uait --only chat,memory               start two services
  python -m uait --port gateway=80 --port chat=0  choose ports; 0 takes any free one
  python -m uait --service my_module:weather      add a service of your own, without packaging it
  python -m uait --config uait.toml               read a settings file
  UAIT_LIMITS_BODY_BYTES=1000000 python -m uait   set any key by its variable
  python -m uait plugins                          list what could be started
  python -m uait doctor                           find out why something does not start
  python -m uait status                           ask the running one how it is

Flags are stronger than the environment, which is stronger than the file. Ctrl-C once lets open requests finish (see --grace),
twice stops at once, three times kills.

exit codes: 0 clean stop, or all is well; 1 a service has failed, or not all is well; 2 wrong arguments or settings;
            3 cannot start (port or data directory in use), or nothing is running to ask.
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; ends the process for `--help`, `--version` and what cannot be understood, as argparse does."""
    found: dict[str, list[Any]] = {}
    parser = argparse.ArgumentParser(
        prog="uait",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(found)],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, summary in (
        ("run", "start the services and run until Ctrl-C (what happens without a command, too)"),
        ("plugins", "list the services that are installed; runs nothing of them"),
        ("doctor", "check plugins, settings, ports and data directory, and say what is wrong"),
        ("status", "ask the running uait how its services are"),
    ):
        command = commands.add_parser(
            name, help=summary, description=summary, parents=[_common(found)], allow_abbrev=False
        )
        if name in ("plugins", "status"):
            command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs")
        if name == "doctor":
            command.add_argument("name", nargs="?", default=None, help="check this plugin only, and show its traceback")
            command.add_argument("--inspect", default=None, help=argparse.SUPPRESS)  # doctor's own child process
    parser.set_defaults(command="run")
    typed = list(sys.argv[1:] if argv is None else argv)
    _check_options(parser, commands, typed)
    arguments = parser.parse_args(typed)
    arguments.typed = typed
    return arguments


def _check_options(parser: argparse.ArgumentParser, commands: Any, typed: Sequence[str]) -> None:
    """Name an option that there is not, and what was meant: argparse would take the value behind an unknown option for a command, and complain about that."""
    parsers = [parser, *commands.choices.values()]
    options = {option for each in parsers for option in each._option_string_actions}
    for word in typed:
        name = word.partition("=")[0]
        if name == "--":
            return
        if name.startswith("--") and name not in options:
            parser.error(f"there is no option {name}{_meant(name, options)}")


def _meant(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches  # not for who types what there is

    close = get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {close[0]}?" if close else "; see --help"


class _Version(argparse.Action):
    """`--version`, whose text is looked up only when somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"uait {version('uait')}")
        parser.exit()


class _Append(argparse.Action):
    """What `append` does, where an option stands before the command and again behind it, too: argparse would put what the command's parser finds in the place of the rest.

    Args:
        found: the values so far by option, common to all parsers.
    """

    def __init__(self, *args: Any, found: dict[str, list[Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._found = found

    def __call__(self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *__: object) -> None:
        self._found.setdefault(self.dest, []).append(values)
        setattr(namespace, self.dest, self._found[self.dest])


def _common(found: dict[str, list[Any]]) -> argparse.ArgumentParser:
    """The options that stand before or behind the command. Made anew for each parser, for argparse shares defaults between parsers otherwise."""
    several: Any = {"action": _Append, "found": found}
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    which = parser.add_argument_group("which services")
    which.add_argument("--only", **several, metavar="A,B", help="start these services and no others")
    which.add_argument("--without", **several, metavar="A,B", help="do not start these")
    which.add_argument("--service", **several, dest="services", metavar="MODULE:ATTR", help="start this one, too")
    where = parser.add_argument_group("settings")
    where.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML); UAIT_CONFIG")
    where.add_argument("--data-dir", metavar="DIR", help="directory of the databases; UAIT_DATA_DIR")
    where.add_argument(
        "--host", help="address to listen on (default: localhost, which is 127.0.0.1 and ::1); UAIT_HOST"
    )
    where.add_argument("--port", **several, dest="ports", type=_port, metavar="NAME=N", help="port of a service")
    where.add_argument(
        "--grace", metavar="SECONDS", help="how long a stop waits for open requests (default: 10); UAIT_GRACE"
    )
    where.add_argument("--log-format", metavar="text|json", help="how the log on standard error looks; UAIT_LOG_FORMAT")
    where.add_argument("--log-level", metavar="LEVEL", help="critical, error, warning, info or debug; UAIT_LOG_LEVEL")
    return parser


def _port(text: str) -> tuple[str, str]:
    name, equals, number = text.partition("=")
    if not name or not equals or not number:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=N, as in gateway=80")
    return name, number


def flags_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments as `load_settings` takes them. Values stay text, so that all that is wrong with them is listed in one go."""
    given = vars(arguments)
    flags: dict[str, Any] = {name: given[name] for name in ("data_dir", "host", "grace") if name in given}
    flags |= {f"log.{name}": given[f"log_{name}"] for name in ("format", "level") if f"log_{name}" in given}
    flags |= {name: ",".join(given[name]) for name in ("only", "without", "services") if given.get(name)}
    flags |= {f"{name}.port": number for name, number in given.get("ports", ())}
    return flags


def settings_of(arguments: argparse.Namespace) -> tuple[Settings, list[Problem]]:
    """The settings that the arguments, the environment and the file give, with all problems that can be seen without loading a plugin."""
    from uait.settings import check_settings

    settings, problems = check_settings(getattr(arguments, "config", None), flags=flags_of(arguments))
    if settings.services:
        # As for `python -m`: a module beside the user's feet can be named, however uait was started.
        sys.path.insert(0, "")
    return settings, problems
