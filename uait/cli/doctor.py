"""`uait doctor`: why something does not start.

Each plugin is loaded in a process of its own, so that one that hangs, prints or kills its interpreter is a verdict like any other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from uait.cli.arguments import Exit, settings_of
from uait.cli.tables import table
from uait.entry_points import Declaration, declared_providers
from uait.errors import PluginError, Problem, SettingsError, StartError
from uait.kernel.plugins import discover, load, select
from uait.settings import Settings, did_you_mean, read_section

if TYPE_CHECKING:
    from uait.llm.find import Wanted
    from uait.llm.kinds import ProviderKind

TIMEOUT = 20.0
"""Seconds that one child process may take."""

KIND = "provider:"
"""What begins the name of a kind of model provider, which a child is asked to inspect."""

ASKING = "chat"
"""The service that asks model providers; without it their kinds do not matter."""

WHOLE = "*"
"""What a child is asked to inspect when it shall try the start as a whole."""

MARK = "uait doctor says "
"""Begins the line with a child's finding: a plugin may print what it likes."""


@attrs.frozen
class Finding:
    """What one child process found.

    Attributes:
        note: what it is, for when nothing new is wrong.
        problems: what is wrong, in sentences.
        detail: a traceback, or the end of what the child said.
    """

    note: str = ""
    problems: list[str] = attrs.field(factory=list)
    detail: str = ""


def command(arguments: argparse.Namespace) -> int:
    """Check settings, plugins, ports and data directory, each by itself, and print a verdict for each."""
    settings, problems = settings_of(arguments)
    if arguments.inspect is not None:
        finding = _inspect_any(arguments.inspect, settings)
        print(f"\n{MARK}{json.dumps(attrs.asdict(finding))}")
        return Exit.OK
    subjects = _subjects(settings, arguments.name)
    with ThreadPoolExecutor(max_workers=4) as pool:
        findings = dict(
            zip(subjects, pool.map(lambda subject: _ask_child(arguments.typed, subject), subjects), strict=True)
        )
    rows = [("settings", "wrong", str(problem)) for problem in problems] or [("settings", "ok", "")]
    told: set[str] = set()
    for subject, finding in findings.items():
        label = "start" if subject == WHOLE else f"service {subject}"
        if subject.startswith(KIND):
            label = f"provider {subject.removeprefix(KIND)}"
        new = [problem for problem in finding.problems if problem not in told]
        told.update(new)
        rows += [(label, "wrong", problem) for problem in new]
        if not new and finding.note:
            rows.append((label, "ok", finding.note))
    print(table(rows))
    if arguments.name and findings[arguments.name].detail:
        print(f"\n{findings[arguments.name].detail}")
    return Exit.FAILED if problems or told else Exit.OK


def _subjects(settings: Settings, name: str | None) -> list[str]:
    plugins = {plugin.name: plugin for plugin in discover(settings.services)}
    kinds = [KIND + each.name for each in declared_providers()]
    if name is None:
        selected = [plugin.name for plugin in select([*plugins.values()], settings.only, settings.without)]
        return [*selected, *(kinds if ASKING in selected else ()), WHOLE]
    if name not in plugins and name not in kinds:
        known = [*plugins, *kinds]
        raise SettingsError([Problem("doctor", f"there is no service {name!r}; {did_you_mean(name, known)}")])
    return [name]


def _ask_child(typed: Sequence[str], subject: str) -> Finding:
    command = [sys.executable, "-m", "uait", *typed, "--inspect", subject]
    what = "its import, or making its providers," if subject.startswith(KIND) else "its import"
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return Finding(problems=[f"{what} did not end within {TIMEOUT:g} s"])
    for line in reversed(child.stdout.decode(errors="replace").splitlines()):
        if line.startswith(MARK):
            return Finding(**json.loads(line.removeprefix(MARK)))
    how = f"by signal {-child.returncode}" if child.returncode < 0 else f"with exit code {child.returncode}"
    said = child.stderr.decode(errors="replace")[-4000:]
    return Finding(problems=[f"{what} ended the interpreter {how}"], detail=said)


def _inspect_any(subject: str, settings: Settings) -> Finding:
    if subject == WHOLE:
        return _try_start(settings)
    return _inspect_kind(subject, settings) if subject.startswith(KIND) else _inspect(subject, settings)


def _inspect_kind(subject: str, settings: Settings) -> Finding:
    """Load one kind of model provider, and make those that there are of it; runs in a child."""
    from uait.llm.kinds import load_kind

    (declaration,) = (each for each in declared_providers() if KIND + each.name == subject)
    try:
        kind = load_kind(declaration)
    except PluginError as error:
        return Finding(problems=[str(error)], detail=traceback.format_exc())
    wanted = _wanted(declaration.name, settings)
    finding = _try_making(kind, wanted)
    if finding.problems:
        return finding
    variables = " or ".join(kind.variables.values())
    found_by = f", found by {variables}" if variables else ""
    makes = f", makes {' '.join(wanted)}" if wanted else ""
    return Finding(note=f"{_origin(declaration)}{found_by}{makes}")


def _wanted(kind: str, settings: Settings) -> Mapping[str, Wanted]:
    """The providers of one kind that settings and environment name. No other plugin's kind is imported for it."""
    from uait.llm.find import find_wanted
    from uait.llm.kinds import Kinds
    from uait.services.chat.model import ChatSettings

    others = [plugin.name for plugin in discover(settings.services)]
    try:
        _, chat = read_section(settings, ASKING, ChatSettings, port=0, others=others)
    except SettingsError:
        return {}  # which is the verdict on the chat service
    ours = {name: each for name, each in chat.providers.items() if each.kind == kind}
    kinds = Kinds([each for each in declared_providers() if each.builtin or each.name == kind])
    return {
        name: each
        for name, each in find_wanted(settings.environ, ours, kinds, local=chat.local).items()
        # The optional ones are only looked for.
        if each.settings.kind == kind and not each.optional and (name in ours or name not in chat.providers)
    }


def _try_making(kind: ProviderKind, wanted: Mapping[str, Wanted]) -> Finding:
    """Make providers, which opens nothing, and close them."""
    import trio

    from uait.llm.catalog import CLOSE_TIMEOUT
    from uait.llm.kinds import make_provider
    from uait.llm.upstream import Timeouts

    problems: dict[str, str] = {}

    async def try_making(name: str, each: Wanted, key: str) -> None:
        try:
            provider = make_provider(kind, name, each.settings, key, Timeouts())
        except PluginError as error:
            problems[str(error)] = traceback.format_exc()
            return
        try:
            with trio.fail_after(CLOSE_TIMEOUT):
                await provider.aclose()
        except trio.TooSlowError:
            problems[f"the provider {name!r} does not close within {CLOSE_TIMEOUT:g} s"] = ""
        except Exception as error:
            problems[f"the provider {name!r} cannot be closed: {type(error).__name__}: {error}"] = (
                traceback.format_exc()
            )

    async def try_all() -> None:
        for name, each in wanted.items():
            if each.problem is not None:
                problems[str(each.problem)] = ""
                continue
            for key in each.keys:
                await try_making(name, each, key)

    trio.run(try_all)
    return Finding(problems=[*problems], detail="\n".join(filter(None, problems.values())))


def _inspect(name: str, settings: Settings) -> Finding:
    """Load one plugin and read its section; runs in a child."""
    (plugin,) = (plugin for plugin in discover(settings.services) if plugin.name == name)
    try:
        spec = load(plugin)
        section, _ = read_section(
            settings,
            spec.name,
            spec.settings,
            port=spec.port,
            port_variable=spec.port_variable,
            others=[other.name for other in discover(settings.services)],
        )
    except PluginError as error:
        return Finding(problems=[str(error)], detail=traceback.format_exc())
    except SettingsError as error:
        return Finding(problems=[str(problem) for problem in error.problems])
    if spec.doctor is not None:
        from uait.kernel.plan import find_holder

        # While it runs, its data is in other hands.
        problems = [] if find_holder(settings.data_dir) else list(spec.doctor(settings.data_dir))
        if problems:
            return Finding(problems=problems)
    needs = f", needs {' '.join(spec.needs)}" if spec.needs else ""
    return Finding(note=f"{_origin(plugin)}, port {section.port or 'any'}{needs}")


def _try_start(settings: Settings) -> Finding:
    """Go as far as a start goes before anything runs; runs in a child."""
    from uait.kernel.plan import check, find_holder, rehearse

    holder = find_holder(settings.data_dir)
    try:
        plan = check(settings) if holder else rehearse(settings)
    except SettingsError as error:
        told_already = {plugin.name for plugin in discover(settings.services)}
        return Finding(problems=[each.message if each.where in told_already else str(each) for each in error.problems])
    except StartError as error:
        return Finding(problems=[str(problem) for problem in error.problems])
    # Those that break themselves only. Most have had their verdict; what one needs and does not find shows only here.
    broken = [str(error) for _, error in plan.broken]
    if holder:
        note = f"it runs already, as process {holder}, with its data in {settings.data_dir}: see `uait status`"
    else:
        note = f"{len(plan.specs)} services, their ports are free, data directory {settings.data_dir}"
    return Finding(note=note, problems=broken)


def _origin(plugin: Declaration) -> str:
    return plugin.origin if plugin.origin == plugin.value else f"{plugin.origin} ({plugin.value})"
