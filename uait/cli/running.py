"""Runs the host in the foreground: log, signals, the table at the start, the run file, and a last resort against a stop that hangs."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import trio

from uait.calls.client import Calls
from uait.cli.arguments import Exit, settings_of
from uait.cli.lean import settled
from uait.cli.runfile import keep_run_file
from uait.cli.stopping import Stop
from uait.cli.tables import table
from uait.errors import APIError, Problem, ServiceFailed, SettingsError, StartError
from uait.heap import give_back
from uait.kernel.host import Host, open_host
from uait.kernel.logs import log_to
from uait.kernel.plan import check
from uait.kernel.service import ServiceSpec
from uait.kernel.status import ServiceStatus, State
from uait.settings import Settings

PROVIDERS = 5.0
"""Seconds that the chat service may take to name its providers."""

GIVE_BACK = 300.0
"""Seconds between two times that free memory is given back to the system."""

log = logging.getLogger("uait.cli")


def command(arguments: argparse.Namespace) -> int:
    """`uait`, `uait run`."""
    settings, problems = settings_of(arguments)
    if problems:
        raise SettingsError([*problems, *_problems_of_sections(settings)])
    run_host(settings, ())
    return Exit.OK


def _problems_of_sections(settings: Settings) -> Sequence[Problem]:
    """What the services' sections have wrong, to be listed beside the rest."""
    try:
        check(settings)
    except SettingsError as error:
        return error.problems
    return ()


def run_host(settings: Settings, services: Iterable[ServiceSpec | str]) -> None:
    """See `uait.cli.run`."""
    logs = log_to(sys.stderr, format=settings.log_format, level=settings.log_level)
    with logs, Stop(settings.grace) as stop:
        trio.run(_run, settings, tuple(services), stop)


async def _run(settings: Settings, services: tuple[ServiceSpec | str, ...], stop: Stop) -> None:
    host = None
    with stop.on_signals() as starting:
        async with open_host(settings, services) as host:
            if not host.status():
                raise StartError([Problem("--only, --without", "leave no service to start")])
            stop.started(host)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_when_all_have_failed, host)
                await nursery.start(keep_run_file, host)
                nursery.start_soon(_announce, host)
                nursery.start_soon(_give_back_now_and_then)
                with settled():
                    await host.wait()
                nursery.cancel_scope.cancel(reason="the host has stopped")
    if host is not None and not starting.cancelled_caught:
        _raise_for(host.status())


async def _give_back_now_and_then() -> None:
    """Buffers of all sizes come and go, and what stays settles between them."""
    while True:
        give_back()
        await trio.sleep(GIVE_BACK)


async def _stop_when_all_have_failed(host: Host) -> None:
    """A process that serves nothing should end, so that whoever watches it knows."""
    seen = host.status()
    while any(status.state is not State.FAILED for status in seen):
        seen = await host.changed(seen)
    host.request_stop()


def _raise_for(statuses: Sequence[ServiceStatus]) -> None:
    if all(status.state is State.FAILED for status in statuses):
        raise ServiceFailed("; ".join(f"{status.name} has failed: {status.last_error}" for status in statuses))
    if stuck := [status.name for status in statuses if status.stuck]:
        raise ServiceFailed(f"{', '.join(stuck)} did not stop in time; the log says where it hung")


async def _announce(host: Host) -> None:
    """Say what runs where: a table for people, or one log record for programs."""
    statuses, settings = host.status(), host.settings
    if settings.log_format == "json":
        addresses = {status.name: list(status.addresses) for status in statuses}
        log.info("ready", extra={"services": addresses, "data_dir": str(settings.data_dir)})
        return
    rows = [(status.name, *_where_and_what(status, settings.host)) for status in statuses]
    _say(f"uait is running, with its data in {settings.data_dir}\n\n{table(rows)}\n")
    if providers := await _providers(host):
        _say(f"providers: {providers}")
    _say("Ctrl-C stops it.")


def _where_and_what(status: ServiceStatus, host: str) -> tuple[str, str]:
    """Where it is, and what it does; or that it is not there, and why."""
    if status.state is not State.READY:
        return str(status.state), status.last_error or status.summary
    return f"http://localhost:{status.port}" if host == "localhost" else " ".join(status.addresses), status.summary


async def _providers(host: Host) -> str:
    """The model providers, by the chat service's own account; empty where it does not run or does not say."""
    if not any(status.name == "chat" and status.state is State.READY for status in host.status()):
        return ""
    with trio.move_on_after(PROVIDERS):
        async with Calls(host, caller="cli") as calls:
            try:
                found = (await calls.client("chat").get_json("/health")).get("providers")
            except APIError:
                return ""
            return ", ".join(f"{name} ({state})" for name, state in _named(found))
    return ""


def _named(providers: Any) -> Iterable[tuple[str, str]]:
    if isinstance(providers, Mapping):
        for name, state in providers.items():
            yield name, str(state.get("status", "?") if isinstance(state, Mapping) else state)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # whoever read standard output may have gone
        print(text, flush=True)
