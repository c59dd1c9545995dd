"""What installed distributions declare under a group of entry points: found without importing anything, loaded one by one, diagnosed by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import attrs

from uait.errors import PluginError

DISTRIBUTION = "uait"

PROVIDERS = "uait.providers"
"""The group of kinds of model providers; `uait.llm.kinds` loads them."""


@attrs.frozen(kw_only=True)
class Declaration:
    """Something that a distribution declares. Nothing of it has been imported.

    Attributes:
        name: the entry point's name.
        value: `module:attr`.
        distribution: who declares it; empty for what was asked for by `module:attr` or handed in.
        builtin: it is one of uait's own.
        problem: why it cannot be used although it was found (its name is taken), or empty.
        note: who declares the same name in vain, or empty.
    """

    name: str
    value: str
    distribution: str = ""
    version: str = ""
    builtin: bool = False
    problem: str = ""
    note: str = ""

    @property
    def origin(self) -> str:
        """Who brought it, for people: `uait-weather 1.2`, or `module:attr`."""
        return f"{self.distribution} {self.version}".strip() or self.value


D = TypeVar("D", bound=Declaration)


def declared(group: str, cls: type[D], clash: str) -> list[D]:
    """Everything under `group`, one of each name: a built-in wins over a third party's; of two third parties neither is usable.

    Args:
        cls: what is made of each.
        clash: the problem of a name that two declare, with `{who}` and `{name}` in it.
    """
    by_name: dict[str, list[D]] = {}
    declarations = [
        cls(name=name, value=value, distribution=who, version=version, builtin=who == DISTRIBUTION)
        for name, value, who, version in _installed(group, tuple(_stamp(path) for path in sys.path))
    ]
    for each in dict.fromkeys(declarations):  # the same one can be on sys.path twice, installed and as a checkout
        by_name.setdefault(each.name, []).append(each)
    result: list[D] = []
    for name, several in by_name.items():
        builtin = [each for each in several if each.builtin]
        chosen = builtin[0] if builtin else several[0]
        who = " and ".join(sorted(each.origin for each in several if not each.builtin))
        if builtin and who:
            note = f"{name!r} is uait's own; what {who} declares by that name is left out: call it otherwise"
            chosen = attrs.evolve(chosen, note=note)
        elif len(several) > 1:
            chosen = attrs.evolve(chosen, problem=clash.format(who=who, name=name))
        result.append(chosen)
    return result


def _stamp(path: str) -> tuple[str, int]:
    """A part of sys.path and its time, which changes with whatever is installed there."""
    try:
        return path, os.stat(path or ".").st_mtime_ns
    except OSError:
        return path, 0


@lru_cache(maxsize=8)
def _installed(group: str, paths: tuple[tuple[str, int], ...]) -> Sequence[tuple[str, str, str, str]]:
    """Name and value of each entry point, and its distribution's name and version. All of what is installed is read for it, so it is remembered as long as `paths` are what they were."""
    read: dict[int, tuple[str, str]] = {}  # once for each: name and version are in one file with the whole of a README
    found = []
    for point in importlib.metadata.entry_points(group=group):
        if id(point.dist) not in read:
            read[id(point.dist)] = (point.dist.name, point.dist.version) if point.dist else ("", "")
        found.append((point.name, point.value, *read[id(point.dist)]))
    return found


def declared_providers() -> list[Declaration]:
    """Every kind of model provider, built-in first, OpenAI's before all."""
    found = declared(PROVIDERS, Declaration, "{who} both declare a provider {name!r}: uninstall one")
    return sorted(found, key=lambda each: (not each.builtin, each.name != "openai", each.name))


def import_object(declaration: Declaration, who: str, correct: str) -> object:
    """Import what a declaration names.

    Args:
        who: how it is called in errors.
        correct: where a wrong name is to be corrected.

    Raises:
        PluginError: it cannot be imported, or is not there; chained to the cause. SystemExit, which some modules raise on import, is turned into it, too.
    """
    module, _, attribute = declaration.value.partition(":")
    try:
        target: object = importlib.import_module(module)
    except PluginError as error:
        raise PluginError(f"{who} declares it wrongly: {error}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{who} cannot be imported: {type(error).__name__}: {error}") from error
    try:
        for part in attribute.split("."):
            target = getattr(target, part)
    except AttributeError as error:
        raise PluginError(f"{who}: {module} has no {attribute!r}; correct {correct}") from error
    return target
