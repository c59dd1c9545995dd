"""`uait status`: asks the running one."""

from __future__ import annotations

import argparse
import json
from typing import Any

import httpx
import trio

from uait.cli.arguments import Exit, settings_of
from uait.cli.runfile import read_run_file
from uait.cli.tables import table
from uait.errors import SettingsError
from uait.kernel.plan import find_holder
from uait.settings import Settings

PATIENCE = 5.0
"""Seconds that all services together have for their answers."""


def command(arguments: argparse.Namespace) -> int:
    """Print what each service of the uait that runs on this data directory says of itself."""
    settings, problems = settings_of(arguments)
    if problems:
        raise SettingsError(problems)
    run = read_run_file(settings.data_dir)
    services = trio.run(_ask_all, run["services"], settings) if run else []
    running = any(service["health"] for service in services)
    as_json = getattr(arguments, "json", False)
    # One that starts, or stops, has no run file; nor has one inside another program.
    holder = None if running else find_holder(settings.data_dir)
    if as_json:
        pid = run["pid"] if run and running else int(holder) if holder and holder.isdecimal() else None
        found = {"running": running, "pid": pid, "data_dir": str(settings.data_dir)}
        print(json.dumps(found | {"services": services if running else []}, indent=2))
    elif running and run:
        print(f"uait runs as process {run['pid']}, with its data in {settings.data_dir}\n")
        print(table([("NAME", "HEALTH", "UP", "RESTARTS", "ADDRESS"), *map(_row, services)]))
    elif holder:
        why = "not all services are ready yet, or it stops, or it is part of another program"
        print(f"process {holder} has the data directory {settings.data_dir}, and tells nothing of its services: {why}")
    else:
        print(f"nothing runs on {settings.data_dir}; another one is named by --data-dir or UAIT_DATA_DIR")
    if not running:
        return Exit.CANNOT_START
    return Exit.OK if all(_word(service) == "healthy" for service in services) else Exit.FAILED


async def _ask_all(services: list[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """The services, each with the answer to `/health` under `health`; None where there was none."""
    key = next(iter(settings.keys.values()), None)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    asked = [{**service, "health": None} for service in services]

    async def ask(service: dict[str, Any]) -> None:
        for address in service["addresses"][:1]:
            try:
                service["health"] = (await client.get(f"{address}/health")).json()
            except (httpx.HTTPError, ValueError):
                service["health"] = None

    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as client:
        with trio.move_on_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for service in asked:
                    nursery.start_soon(ask, service)
    return asked


def _word(service: dict[str, Any]) -> str:
    """Its health in a word: its own, or else its state as the host sees it."""
    health = service["health"]
    if isinstance(health, dict) and isinstance(health.get("status"), str):
        return str(health["status"])
    return "unreachable" if service["state"] == "ready" else str(service["state"])


def _row(service: dict[str, Any]) -> tuple[str, ...]:
    health = service["health"] if isinstance(service["health"], dict) else {}
    seconds = health.get("uptime_seconds")
    return (
        service["name"],
        _word(service),
        f"{seconds:.0f} s" if isinstance(seconds, int | float) else "-",
        str(service["restarts"]),
        " ".join(service["addresses"]) or service["last_error"] or "-",
    )
