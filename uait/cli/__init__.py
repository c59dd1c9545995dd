"""The command line. Nothing else in uait installs signal handlers, configures logging or calls `trio.run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from uait.cli.arguments import Exit, parse
from uait.errors import PluginError, Problem, ServiceFailed, SettingsError, StartError

if TYPE_CHECKING:
    from uait.kernel.service import ServiceSpec
    from uait.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the arguments say.

    Args:
        argv: the arguments; by default the process's.

    Returns:
        The exit code: 0 clean stop or all well, 1 something has failed, 2 wrong arguments or settings, 3 cannot start (or is not running).
    """
    arguments = parse(argv)
    try:
        match arguments.command:
            case "plugins":
                from uait.cli.plugins import command
            case "doctor":
                from uait.cli.doctor import command
            case "status":
                from uait.cli.status import command
            case _:
                from uait.cli.lean import leave_out_what_is_not_needed

                leave_out_what_is_not_needed()
                from uait.cli.running import command
        code = command(arguments)
        _finish_output()
        return code
    except BrokenPipeError:
        _finish_output()
        return Exit.FAILED
    except SettingsError as error:
        _explain("uait cannot use these settings:", error.problems)
        return Exit.USAGE
    except StartError as error:
        _explain("uait cannot start:", error.problems)
        return Exit.CANNOT_START
    except PluginError as error:
        _explain("uait cannot use a plugin:", [error])
        return Exit.USAGE
    except ServiceFailed as error:
        _explain("uait has stopped:", [error])
        return Exit.FAILED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def run(settings: Settings | None = None, services: Iterable[ServiceSpec | str] = ()) -> None:
    """Run everything until the process is told to stop, as `python -m uait` does: with its log, its signal handlers, its table on standard output.

    A program that has a trio loop of its own takes `uait.serve` instead.

    Args:
        settings: left out: from environment and settings file.
        services: further services, as specs or "module:attr".

    Raises:
        SettingsError, StartError: before anything runs, with every problem.
        ServiceFailed: an essential service, or every service, has failed for good.
    """
    from uait.cli.running import run_host
    from uait.settings import load_settings

    run_host(settings if settings is not None else load_settings(), services)


def _finish_output() -> None:
    """Whoever read standard output may have gone; the interpreter's own end would complain of that."""
    try:
        if sys.stdout is not None:  # closed from the start
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(head: str, problems: Iterable[Problem | Exception]) -> None:
    print(head, *(f"  {problem}" for problem in problems), sep="\n", file=sys.stderr)
