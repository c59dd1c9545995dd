"""`uait plugins`: what is installed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from uait.cli.arguments import Exit, settings_of
from uait.cli.declared import Declared, read_declaration
from uait.cli.tables import table
from uait.entry_points import PROVIDERS, Declaration, declared_providers
from uait.errors import SettingsError
from uait.kernel.plugins import GROUP as SERVICES
from uait.kernel.plugins import Plugin, discover, select
from uait.settings import ServiceSection, Settings
from uait.settings.sections import Reader, Source


def command(arguments: argparse.Namespace) -> int:
    """List every service that could be started, and every kind of provider. Nothing of a plugin is imported: that is what `doctor` does."""
    settings, problems = settings_of(arguments)
    if problems:
        raise SettingsError(problems)
    plugins = discover(settings.services)
    enabled = {plugin.name for plugin in select(plugins, settings.only, settings.without)}
    found = [_describe(plugin, settings, plugin.name in enabled) for plugin in plugins]
    kinds = [_describe_kind(each) for each in declared_providers()]
    if getattr(arguments, "json", False):
        print(json.dumps(found + kinds, indent=2))
        return Exit.OK
    print(table([("NAME", "STATE", "VERSION", "ORIGIN", "PORT", "NEEDS"), *map(_row, found)]))
    print("\nKinds of model providers:\n")
    print(table([("NAME", "STATE", "VERSION", "ORIGIN"), *map(_kind_row, kinds)]))
    for each in found + kinds:
        if said := each["problem"] or each["note"]:
            print(f"\n{each['name']}: {said}")
    return Exit.OK


def _describe(plugin: Plugin, settings: Settings, enabled: bool) -> dict[str, Any]:
    declared = read_declaration(plugin)
    problem = plugin.problem or declared.problem
    return {
        "name": plugin.name,
        "group": SERVICES,
        "state": "broken" if problem else "enabled" if enabled else "disabled",
        "version": plugin.version,
        "origin": plugin.origin,
        "entry": plugin.value,
        "port": _port(plugin.name, declared, settings),
        "needs": declared.needs,
        "problem": problem,
        "note": plugin.note,
    }


def _describe_kind(kind: Declaration) -> dict[str, Any]:
    problem = kind.problem or read_declaration(kind).problem
    return {
        "name": kind.name,
        "group": PROVIDERS,
        "state": "broken" if problem else "enabled",
        "version": kind.version,
        "origin": kind.origin,
        "entry": kind.value,
        "problem": problem,
        "note": kind.note,
    }


def _kind_row(described: dict[str, Any]) -> tuple[str, ...]:
    return described["name"], described["state"], described["version"] or "-", described["origin"]


def _port(name: str, declared: Declared, settings: Settings) -> int | None:
    """The port it would have: as set, or else as declared."""
    reader = Reader(Source(settings.sections, settings.origins, settings.environ))
    section = reader.read(
        ServiceSection, name, variables={"port": declared.port_variable}, defaults={"port": declared.port or 0}
    )
    if reader.problems:
        raise SettingsError(reader.problems)
    port = section.port if section is not None else 0
    return None if port == 0 and declared.port is None else port


def _row(described: dict[str, Any]) -> tuple[str, ...]:
    port, needs = described["port"], described["needs"]
    return (
        described["name"],
        described["state"],
        described["version"] or "-",
        described["origin"],
        "?" if port is None else str(port or "any"),
        "?" if needs is None else " ".join(needs) or "-",
    )
