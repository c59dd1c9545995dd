"""From installed distributions to service specs: found without importing, loaded one by one, diagnosed by name.

A plugin that is broken breaks itself only. The built-in services come in through this same door.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence

import attrs

from uait.entry_points import Declaration, declared, import_object
from uait.errors import PluginError, Problem, SettingsError
from uait.kernel.service import API_VERSION, NAME, ServiceSpec
from uait.settings.values import fields_of

GROUP = "uait.services"
_log = logging.getLogger(__name__)

_CLASH = "{who} both declare a service {name!r}: uninstall one, or name one with --service module:attr"


@attrs.frozen(kw_only=True)
class Plugin(Declaration):
    """One service that could be run, as its distribution declares it. Nothing of it has been imported.

    Attributes:
        name: the entry point's name, which becomes the service's.
        explicit: somebody asked for it by name, so that a failure to load it is a failure to start.
        spec: the spec itself, where it was handed in.
    """

    explicit: bool = False
    spec: ServiceSpec | None = None


def discover(extra: Iterable[str | ServiceSpec] = ()) -> list[Plugin]:
    """Find every service: the built-in, the installed, and `extra` (`module:attr`, or specs handed in), sorted by name, built-in first.

    Nothing is imported. Where a name is declared twice, a built-in wins over a third party's, and an `extra` over both; of two third parties neither
    is usable, and each one's `problem` names the other.
    """
    asked = [_asked_for(item) for item in extra]
    plugins = declared(GROUP, Plugin, _CLASH)
    taken = {plugin.name for plugin in asked if plugin.name}
    plugins = [plugin for plugin in plugins if plugin.name not in taken] + asked
    return sorted(plugins, key=lambda plugin: (not plugin.builtin, plugin.name))


def _asked_for(item: str | ServiceSpec) -> Plugin:
    if isinstance(item, ServiceSpec):
        value = f"{getattr(item.factory, '__module__', '')}:{getattr(item.factory, '__qualname__', item.name)}"
        return Plugin(name=item.name, value=value, explicit=True, spec=item)
    module, _, attribute = item.partition(":")
    if not module or not attribute:
        raise SettingsError(
            [Problem("--service", f"{item!r} is not of the form module:attr, as in my_package.weather:weather")]
        )
    # The spec's own name is known only after loading; the attribute's is the best guess, and `load` corrects it.
    return Plugin(name=attribute.rpartition(".")[2].replace("_", "-"), value=item, explicit=True)


def select(plugins: Sequence[Plugin], only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Plugin]:
    """The plugins to run: those in `only` (all, where it is empty) less those in `without`.

    Raises:
        SettingsError: for every name that no plugin has.
    """
    names = [plugin.name for plugin in plugins]
    problems = [
        Problem(flag, f"there is no service {name!r}; {_nearest(name, names)}")
        for flag, given in (("--only", only), ("--without", without))
        for name in given
        if name not in names
    ]
    if problems:
        raise SettingsError(problems)
    chosen = [
        plugin
        for plugin in plugins
        if (not only or plugin.name in only or plugin.explicit) and plugin.name not in without
    ]
    return [attrs.evolve(plugin, explicit=True) if plugin.name in only else plugin for plugin in chosen]


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(names))}"


def load(plugin: Plugin) -> ServiceSpec:
    """Import `plugin` and check what it declares.

    Raises:
        PluginError: saying who, what, and what to do; chained to the cause. SystemExit, which some modules raise on import, is turned into it, too.
    """
    who = f"service {plugin.name!r} ({', '.join(dict.fromkeys((plugin.origin, plugin.value)))})"
    if plugin.problem:
        raise PluginError(plugin.problem)
    spec = plugin.spec
    if spec is None:
        target = import_object(plugin, who, "the entry point" if plugin.distribution else "--service")
        if not isinstance(target, ServiceSpec):
            raise PluginError(
                f"{who} is a {type(target).__name__}, not a service: decorate the factory with @uait.service(...)"
            )
        spec = target
    if spec.api != API_VERSION:
        raise PluginError(
            f"{who} is written for version {spec.api} of the service API, and this uait has {API_VERSION}: install a fitting release"
        )
    if plugin.distribution and not NAME.fullmatch(plugin.name):
        raise PluginError(
            f"{who}: {plugin.name!r} is not a service name; use a-z, 0-9 and single hyphens, a letter first"
        )
    _check_signature(who, spec)
    if plugin.distribution and spec.name != plugin.name:
        # The entry point's name is what was found, listed and selected by; so it is the service's.
        title = plugin.name if spec.title == spec.name else spec.title
        spec = attrs.evolve(spec, name=plugin.name, title=title)
    return attrs.evolve(spec, origin=plugin.origin, version=spec.version or plugin.version)


def _check_signature(who: str, spec: ServiceSpec) -> None:
    factory = spec.factory
    if not (inspect.iscoroutinefunction(factory) or inspect.isasyncgenfunction(factory)):
        raise PluginError(
            f"{who}: the factory must be an `async def` that takes a Context and returns (or yields) an ASGI app"
        )
    try:
        inspect.signature(factory).bind(None)
    except TypeError as error:
        raise PluginError(f"{who}: the factory must take exactly one argument, the Context ({error})") from error
    if spec.settings is not None:
        if not attrs.has(spec.settings):
            raise PluginError(f"{who}: settings={spec.settings!r} is not an attrs class")
        required = [
            field.name for field in attrs.fields(spec.settings) if field.default is attrs.NOTHING and field.init
        ]
        if required:
            raise PluginError(
                f"{who}: its settings need a default for {', '.join(required)}, or it could not start without a settings file"
            )
        try:
            fields_of(spec.settings)
        except PluginError as error:
            raise PluginError(f"{who}: {error}") from error


@attrs.frozen
class Loaded:
    """What came of loading plugins.

    Attributes:
        specs: the usable ones, in an order in which each comes after what it needs.
        broken: those that cannot be used.
        problems: what keeps a host from starting: the broken ones that are built in or were asked for. Others break themselves only.
    """

    specs: tuple[ServiceSpec, ...]
    broken: tuple[tuple[Plugin, PluginError], ...]

    @property
    def problems(self) -> list[Problem]:
        return [Problem(plugin.name, str(why)) for plugin, why in self.broken if plugin.builtin or plugin.explicit]


def load_all(plugins: Sequence[Plugin]) -> Loaded:
    """Load `plugins`, each in isolation."""
    specs: dict[str, ServiceSpec] = {}
    broken: list[tuple[Plugin, PluginError]] = []
    loaded: list[tuple[Plugin, ServiceSpec]] = []
    for plugin in plugins:
        if plugin.note:
            _log.warning("%s", plugin.note)
        try:
            spec = load(plugin)
            if spec.name in specs:
                raise PluginError(
                    f"service {spec.name!r} is there twice: from {specs[spec.name].origin} and from {plugin.origin}"
                )
            for other in specs.values():  # either name is asked for, in the gateway and in discovery
                if both := {spec.name, spec.title} & {other.name, other.title}:
                    raise PluginError(
                        f"service {spec.name!r} ({plugin.origin}) cannot be called {min(both)!r}, which {other.name!r} ({other.origin}) is called: give it another name or title"
                    )
        except PluginError as error:
            broken.append((plugin, error))
        else:
            specs[spec.name] = spec
            loaded.append((plugin, spec))
    for plugin, spec in loaded:
        if circle := _circle(spec.name, specs):
            broken.append((plugin, PluginError(f"services need each other in a circle: {' -> '.join(circle)}")))
    names = {plugin.name for plugin, _ in broken}
    loaded = [(plugin, spec) for plugin, spec in loaded if plugin.name not in names]
    broken += _unmet_needs(loaded, names)
    names = {plugin.name for plugin, _ in broken}
    return Loaded(tuple(in_order(spec for plugin, spec in loaded if plugin.name not in names)), tuple(broken))


def _circle(start: str, specs: Mapping[str, ServiceSpec]) -> tuple[str, ...]:
    """The way from `start` over what it needs back to itself; empty where there is none."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for need in specs[way[-1]].needs:
            if need == start:
                return (*way, start)
            if need in specs and need not in seen:
                seen.add(need)
                ways.append((*way, need))
    return ()


def _unmet_needs(loaded: Sequence[tuple[Plugin, ServiceSpec]], broken: set[str]) -> list[tuple[Plugin, PluginError]]:
    names = {spec.name for _, spec in loaded}
    unmet: list[tuple[Plugin, PluginError]] = []
    again = True
    while again:
        again = False
        for plugin, spec in loaded:
            missing = [need for need in spec.needs if need not in names]
            if missing and spec.name in names:
                why = "cannot be loaded" if missing[0] in broken else "is not among the services to run"
                unmet.append((plugin, PluginError(f"service {spec.name!r} needs {missing[0]!r}, which {why}")))
                names.discard(spec.name)
                broken.add(spec.name)
                again = True
    return unmet


def in_order(specs: Iterable[ServiceSpec]) -> list[ServiceSpec]:
    """`specs`, among which there are no circles, with each after everything it needs, otherwise as they came."""
    by_name = {spec.name: spec for spec in specs}
    done: dict[str, ServiceSpec] = {}

    def visit(spec: ServiceSpec) -> None:
        if spec.name not in done:
            for need in spec.needs:
                if need in by_name:
                    visit(by_name[need])
            done[spec.name] = spec

    for spec in by_name.values():
        visit(spec)
    return list(done.values())
