"""The whole of the settings, from flags, environment and file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from uait.errors import Problem, SettingsError
from uait.settings.model import RESERVED, TOP_KEYS, Limits, LogFormat, LogLevel, Settings, check_key
from uait.settings.sections import FLAG, TOP, VARIABLE, Reader, Source, variable_name
from uait.settings.toml import read_toml
from uait.settings.values import Misfit, structure


@attrs.frozen(kw_only=True)
class _Log:
    format: LogFormat = "text"
    level: LogLevel = "info"


def load_settings(
    config: Path | None = None, *, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Read the settings: flags over environment over file over default.

    Args:
        config: TOML file; by default what `UAIT_CONFIG` names, and without it none.
        environ: the environment; by default this process's.
        flags: values by dotted name (`{"host": "::1", "log.format": "json", "chat.port": "0"}`), as text or as they shall be.

    Raises:
        SettingsError: with all problems, except those of the services' sections: `read_section` finds these.
    """
    settings, problems = check_settings(config, environ=environ, flags=flags)
    if problems:
        raise SettingsError(problems)
    return settings


def check_settings(
    config: Path | None = None, *, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> tuple[Settings, list[Problem]]:
    """Like `load_settings`, but what is wrong is returned beside settings that have defaults in its place, so that the services' sections can be
    checked in the same go."""
    environ = dict(os.environ if environ is None else environ)
    tables: dict[str, dict[str, Any]] = {TOP: {}}
    origins: dict[str, str] = {}
    problems: list[Problem] = []
    if config is None and environ.get("UAIT_CONFIG"):
        config = _expand(Path(environ["UAIT_CONFIG"]))
    if config is not None:
        data, origins, problems = read_toml(config)
        for name, value in data.items():
            if isinstance(value, dict):
                tables[name] = dict(value)
            elif name in RESERVED:
                problems.append(Problem(origins[name], f"{name} must be a section: [{name}]"))
            else:
                tables[TOP][name] = value
        written = tables[TOP].get("data_dir")
        if isinstance(written, str) and not written.startswith("~"):  # the file's own place is the one its author knows
            tables[TOP]["data_dir"] = str(config.parent / written)
    for name, value in (flags or {}).items():
        section, _, key = name.rpartition(".")
        tables.setdefault(section, {})[key] = value
        origins[name] = _flag_name(section, key)
        origins.setdefault(section, origins[name])
    return _read(Source(tables, origins, environ), problems)


def _flag_name(section: str, key: str) -> str:
    if key == "port":
        return FLAG + "port"
    name = {"services": "service"}.get(key, f"{section}-{key}" if section else key)
    return FLAG + name.replace("_", "-")


def _expand(path: Path) -> Path:
    """`path` with what `~` or `~user` at its beginning means; as it is where nobody knows."""
    try:
        return path.expanduser()
    except RuntimeError:  # no such user, or a user without a home, as in many a container
        return path


def _data_dir(reader: Reader, wanted: Path) -> Path:
    path = _expand(wanted)
    if str(path).startswith("~"):
        found = reader.source.find(TOP, "data_dir", Path, [variable_name(TOP, "data_dir")])
        text = f"there is no home directory {path.parts[0]}: choose a data directory with --data-dir or UAIT_DATA_DIR"
        reader.problems.append(Problem(found[1] if found else "data_dir", text))
    return path.absolute()  # a plugin may change the working directory


def _read(source: Source, problems: list[Problem]) -> tuple[Settings, list[Problem]]:
    reader = Reader(source, problems)
    written = [key for key in TOP_KEYS if key != "config"]
    reader.refuse_keys(TOP, written)
    settings = reader.read(Settings, TOP, keys=written) or Settings()
    log, limits = reader.read_whole(_Log, "log") or _Log(), reader.read_whole(Limits, "limits") or Limits()
    return (
        attrs.evolve(
            settings,
            data_dir=_data_dir(reader, settings.data_dir),
            log_format=log.format,
            log_level=log.level,
            limits=limits,
            keys=_read_keys(reader),
            sections={name: table for name, table in source.tables.items() if name not in {TOP, *RESERVED}},
            origins=source.origins,
            environ=source.environ,
        ),
        reader.problems,
    )


def _read_keys(reader: Reader) -> dict[str, str]:
    """`[keys]` has user names for keys, so any is right; `UAIT_KEYS_ALICE` is the key of `alice`. An empty one is no key: whoever means one must not be served without."""
    prefix = variable_name("keys") + "_"
    environ = reader.source.environ
    from_environ = {name.removeprefix(prefix).lower(): environ[name] for name in environ if name.startswith(prefix)}
    before = len(reader.problems)
    keys: dict[str, str] = {}
    for user, given in {**reader.source.tables.get("keys", {}), **from_environ}.items():
        variable = VARIABLE + variable_name("keys", user)
        where = variable if user in from_environ else reader.source.origin("keys", user)
        try:
            keys[user] = structure(given, str)
            check_key(keys[user])
        except ValueError as error:
            reasons = [fault.discreet for fault in error.faults] if isinstance(error, Misfit) else [str(error)]
            reader.problems += [Problem(where, f"keys.{user} {reason}") for reason in reasons]
    if repeated := [user for user, key in keys.items() if list(keys.values()).count(key) > 1]:
        where = reader.source.origin("keys")
        reader.problems.append(
            Problem(where, f"keys of {', '.join(repeated)} are the same; each user needs an own one")
        )
    return keys if len(reader.problems) == before else {}
