"""One section of the settings, read into its class: flags over environment over file over default."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from uait.errors import Problem, SettingsError
from uait.settings.model import RESERVED, TOP_KEYS, ServiceSection, Settings
from uait.settings.values import (
    Fault,
    Misfit,
    build,
    did_you_mean,
    dotted,
    fields_of,
    from_text,
    structure,
    unknown_key,
)

T = TypeVar("T")

FLAG = "flag --"
"""How the origin of a value begins that came by flag."""

VARIABLE = "variable "
"""How the origin of a value begins that came from the environment."""

PROGRAM = "settings"
"""The origin of a value that a program gave."""

TOP = ""
"""The section of the keys above the first section."""


def variable_name(section: str, key: str = "") -> str:
    """The environment variable of a key: `UAIT_CHAT_PORT`. Without a key, what the variables of the section begin with."""
    return "_".join(filter(None, ("UAIT", section, key))).upper().replace("-", "_")


@attrs.frozen
class Source:
    """Where values come from.

    Attributes:
        tables: what was written, by flag, in the file or by the program, by section.
        origins: where each written value stands, by dotted name. One without an origin was given by the program.
        environ: the environment; it is weaker than flags and programs, and stronger than the file.
    """

    tables: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, str]
    environ: Mapping[str, str]

    def find(self, section: str, key: str, kind: Any, variables: Iterable[str]) -> tuple[Any, str] | None:
        """The strongest value of a key and where it came from, or None."""
        written = key in self.tables.get(section, {})
        origin = self.origin(section, key)
        # A file's place begins with its name, which may well be settings.toml.
        if written and (origin == PROGRAM or origin.startswith(FLAG)):
            value = self.tables[section][key]
            return (from_text(value, kind) if origin.startswith(FLAG) and isinstance(value, str) else value), origin
        for variable in variables:
            if text := self.environ.get(variable):  # an empty one counts as unset: compose files pass those on
                return from_text(text, kind), VARIABLE + variable
        return (self.tables[section][key], origin) if written else None

    def origin(self, *path: str | int) -> str:
        """Where the value at `path` was written, or else the nearest table around it."""
        names = [name for name in path if name != TOP]
        while names and dotted(names) not in self.origins:
            names.pop()
        return self.origins[dotted(names)] if names else PROGRAM


@attrs.define
class Reader:
    """Reads classes out of a source and keeps all problems met on the way."""

    source: Source
    problems: list[Problem] = attrs.field(factory=list)

    def read(
        self,
        cls: type[T],
        section: str,
        *,
        keys: Collection[str] | None = None,
        variables: Mapping[str, str | None] = {},
        defaults: Mapping[str, Any] = {},
    ) -> T | None:
        """Fill `cls` from its section.

        Args:
            cls: attrs class.
            section: the section's name, or TOP.
            keys: those of the class's keys to look for; by default all.
            variables: further environment variables, weaker than the keys' own, by key.
            defaults: values of mandatory fields where nobody says anything.

        Returns:
            An instance of what is right, with defaults in the place of what is not; None where a mandatory value is wrong.
        """
        values: dict[str, Any] = dict(defaults)
        origins: dict[str, str] = {}
        for key, kind in keys_of(cls).items():
            if keys is not None and key not in keys:
                continue
            names = (variable_name(section, key), variables.get(key))
            found = self.source.find(section, key, kind, [name for name in names if name])
            if found is not None:
                value, origins[key] = found
                try:
                    values[key] = structure(value, kind)
                except Misfit as misfit:
                    self._add(section, (fault.under(key) for fault in misfit.faults), origins)
        if not values.keys() >= defaults.keys():
            return None
        try:  # with what is right so far, so that the validators of that have their say too
            return build(cls, values)
        except Misfit as misfit:
            self._add(section, misfit.faults, origins)
            wrong = {str(fault.path[0]) for fault in misfit.faults if fault.path}
        try:
            return build(cls, {key: value for key, value in values.items() if key not in wrong})
        except Misfit:
            return None

    def read_whole(self, cls: type[T], section: str) -> T | None:
        """`read`, where the class has all keys that the section may have."""
        self.refuse_keys(section, keys_of(cls))
        self.refuse_variables(section, keys_of(cls))
        return self.read(cls, section)

    def refuse_keys(self, section: str, known: Collection[str]) -> None:
        """Note every written key of the section that is not `known`."""
        written = self.source.tables.get(section, {})
        self._add(section, (unknown_key(key, known) for key in written if key not in known), {})

    def refuse_variables(self, section: str, known: Collection[str], *, others: Iterable[str] = ()) -> None:
        """Note every variable that begins as the section's do and is not of a `known` key, nor one of those of the sections `others`."""
        prefix = variable_name(section) + "_"
        allowed = [variable_name(section, key) for key in known]
        inside = [name for name in map(variable_name, others) if name.startswith(prefix)]
        foreign = tuple(name + "_" for name in inside)
        for variable in sorted(self.source.environ):
            if variable.startswith(prefix) and variable not in allowed and not variable.startswith(foreign):
                meant = [nearly for name in inside if (nearly := _moved(variable, prefix, name))]
                hint = did_you_mean(variable, meant or allowed, prefix=prefix)
                self.problems.append(Problem(VARIABLE + variable, f"is not known; {hint}"))

    def _add(self, section: str, faults: Iterable[Fault], origins: Mapping[str, str]) -> None:
        for fault in faults:
            whole = fault.under(section) if section else fault
            where = origins.get(str(fault.path[0]), "") if fault.path else ""
            if not where.startswith((FLAG, VARIABLE)):
                where = self.source.origin(*whole.path)  # the innermost line that is known
            self.problems.append(Problem(where, str(whole)))


def keys_of(cls: type[Any] | None) -> dict[str, Any]:
    """The keys of a settings class, as they are written, with their types."""
    return {} if cls is None else {field.alias or field.name: kind for field, kind in fields_of(cls)}


def read_section(
    settings: Settings,
    name: str,
    cls: type[Any] | None,
    *,
    port: int,
    port_variable: str | None = None,
    others: Iterable[str] = (),
) -> tuple[ServiceSection, Any]:
    """Read one service's section, now that its class is known.

    Args:
        settings: what was loaded, or made by hand.
        name: the service's short name, which is its section's.
        cls: the service's own settings class; None where it has none.
        port: the port it has by default.
        port_variable: a further environment variable for the port, weaker than `UAIT_<NAME>_PORT`.
        others: names of other services, so that `UAIT_CHAT_EXTRA_PORT` is not taken for a wrong key of `chat` where `chat-extra` exists.

    Returns:
        The keys that every section has, and an instance of `cls` (or None).

    Raises:
        SettingsError: with all problems of this section.
        PluginError: `cls` cannot be used as a settings class.
    """
    reader = Reader(Source(settings.sections, settings.origins, settings.environ))
    known = [*keys_of(ServiceSection), *keys_of(cls)]
    reader.refuse_keys(name, known)
    reader.refuse_variables(name, known, others=others)
    section = reader.read(ServiceSection, name, variables={"port": port_variable}, defaults={"port": port})
    own = reader.read(cls, name) if cls is not None else None
    if section is None or reader.problems:
        raise SettingsError(reader.problems)
    return section, own


def _moved(variable: str, prefix: str, section: str) -> str:
    """`UAIT_CHATT_PORT` as `UAIT_CHAT_PORT`, where its beginning is nearly that of `section`, `UAIT_CHAT`; else empty."""
    parts = variable.removeprefix(prefix).split("_")
    count = section.removeprefix(prefix).count("_") + 1
    begun, rest = prefix + "_".join(parts[:count]), parts[count:]
    near = rest and difflib.get_close_matches(begun.removeprefix(prefix), [section.removeprefix(prefix)])
    return "_".join([section, *rest]) if near else ""


def unknown_sections(settings: Settings, known: Iterable[str]) -> list[Problem]:
    """Sections, and `UAIT_` variables, that belong to no service.

    Args:
        settings: what was loaded, or made by hand.
        known: names of all services that are installed, whether they are started or not.
    """
    known = sorted(known)
    source = Source(settings.sections, settings.origins, settings.environ)
    problems = [
        Problem(source.origin(name), f"no service is called {name!r}; {did_you_mean(name, known)}")
        for name in settings.sections
        if name not in known
    ]
    reader = Reader(source)
    reader.refuse_variables(TOP, TOP_KEYS, others=[*RESERVED, *known])
    return problems + reader.problems
