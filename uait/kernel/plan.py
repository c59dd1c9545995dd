"""What happens before anything runs: which services, with which settings, on which sockets. Every problem is found at once."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from uait.errors import PluginError, Problem, SettingsError, StartError
from uait.kernel.plugins import Plugin, discover, load_all, select
from uait.kernel.service import ServiceSpec
from uait.server import bind
from uait.settings import RESERVED, Settings, read_section, unknown_sections

LOCK = "uait.lock"
"""In the data directory; held, and its holder's process id in it, for as long as a host runs there."""


@attrs.frozen
class Plan:
    """What a host will run: specs in the order of their start, the settings and port of each by name, and the plugins that cannot be used."""

    specs: tuple[ServiceSpec, ...]
    settings: dict[str, Any]
    ports: dict[str, int]
    broken: tuple[tuple[Plugin, PluginError], ...]


def check(settings: Settings, services: Iterable[ServiceSpec | str] = ()) -> Plan:
    """Load the plugins and read their settings: all that can be known of a start without touching the machine.

    Raises:
        SettingsError: with every problem.
    """
    plugins = discover((*settings.services, *services))
    problems: list[Problem] = []
    try:
        chosen = select(plugins, settings.only, settings.without)
    except SettingsError as error:
        problems.extend(error.problems)
        chosen = plugins
    loaded = load_all(chosen)
    problems += loaded.problems
    # A plugin's name and its service's can differ (`--service module:attr`); both may have a section.
    known = {plugin.name for plugin in plugins} | {spec.name for spec in loaded.specs}
    problems += unknown_sections(settings, known)
    problems += [
        Problem(name, f"no service can be called {name!r}: [{name}] is a section of uait's own")
        for name in sorted(known & RESERVED)
    ]
    own: dict[str, Any] = {}
    ports: dict[str, int] = {}
    for spec in loaded.specs:
        try:
            section, own[spec.name] = read_section(
                settings, spec.name, spec.settings, port=spec.port, port_variable=spec.port_variable, others=known
            )
            ports[spec.name] = section.port
        except SettingsError as error:
            problems.extend(error.problems)
        except PluginError as error:
            # Its class has a field of a type that nothing can be read into, and there is something for it.
            problems.append(Problem(spec.name, str(error)))
    if problems:
        raise SettingsError(problems)
    return Plan(loaded.specs, own, ports, loaded.broken)


def rehearse(settings: Settings, services: Iterable[ServiceSpec | str] = ()) -> Plan:
    """Do all that comes before the services run (what `open_host` does), and undo it.

    Raises:
        SettingsError, StartError: as `open_host` does.
    """
    with contextlib.ExitStack() as stack:
        plan = check(settings, services)
        take(settings, plan, stack)
        return plan


def take(settings: Settings, plan: Plan, stack: contextlib.ExitStack) -> dict[str, list[socket.socket]]:
    """Lock the data directory and bind every port. What is opened is closed by `stack`."""
    if reason := _refused(settings):
        raise StartError([reason])
    _lock(settings.data_dir, stack)
    return _bind_all(settings.host, plan.specs, plan.ports, stack)


def _refused(settings: Settings) -> Problem | None:
    """Why listening on this address would hand everybody's data to the network, or None."""
    if settings.keys or settings.host == "localhost":
        return None
    try:
        found = {info[4][0] for info in socket.getaddrinfo(settings.host or None, 0, type=socket.SOCK_STREAM)}
    except OSError:
        return None  # binding will say what is wrong with it
    if settings.host and all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found):
        return None
    return Problem(
        f"host {settings.host!r}",
        "listening beyond this machine without API keys is refused. Make a key with `python -c 'import secrets; "
        'print(secrets.token_urlsafe(32))\'` and put it under [keys] in the settings file: yourname = "the key"',
    )


def _lock(data_dir: Path, stack: contextlib.ExitStack) -> None:
    """Make the data directory, for its owner only, and hold its lock: two hosts must not write the same files."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = stack.enter_context((data_dir / LOCK).open("a+"))
    except OSError as error:
        why = (
            "there is a file of that name"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror
        )
        raise _no_place(data_dir, f"cannot be used ({why}); choose") from error
    if not _try_lock(file):
        raise _no_place(data_dir, f"is in use by process {_read_owner(file)}; stop that, or choose")
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()


def _no_place(data_dir: Path, why: str) -> StartError:
    return StartError([Problem(f"data directory {data_dir}", f"{why} another with --data-dir or UAIT_DATA_DIR")])


def find_holder(data_dir: Path) -> str | None:
    """The id of the process whose host runs on `data_dir`; None where there is none, or it cannot be seen."""
    try:
        with (data_dir / LOCK).open() as file:
            return None if _try_lock(file) else _read_owner(file)
    except OSError:
        return None


def _read_owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read(20).strip() or "unknown"


def _try_lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks on this system: nothing to hold
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _bind_all(
    host: str, specs: Sequence[ServiceSpec], ports: dict[str, int], stack: contextlib.ExitStack
) -> dict[str, list[socket.socket]]:
    sockets: dict[str, list[socket.socket]] = {}
    problems: list[Problem] = []
    for spec in specs:
        port = ports[spec.name]
        try:
            sockets[spec.name] = bind(host, port)
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                # No port of it would do.
                why = f"is not an address of this machine ({error.strerror}); choose another with --host or UAIT_HOST"
                raise StartError([Problem(f"host {host!r}", why)]) from error
            ours = [name for name, other in ports.items() if other == port and name in sockets]
            why = (
                f"is also the port of {ours[0]!r}"
                if port and ours
                else f"cannot be listened on at {host!r}: {error.strerror or error}"
            )
            variable = f" or {spec.port_variable}=N in the environment" if spec.port_variable else ""
            change = f"--port {spec.name}=N, port = N under [{spec.name}] in the settings file{variable}"
            problems.append(Problem(f"port {port} of {spec.title}", f"{why}. Change it with {change}"))
        else:
            for sock in sockets[spec.name]:
                stack.callback(sock.close)
    if problems:
        raise StartError(problems)
    return sockets
