"""Which providers there are: the settings', the environment's, those on the usual local ports, and always the offline one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs

from uait.errors import Problem
from uait.llm.catalog import Entry
from uait.llm.kinds import BrokenProvider, Kinds, ProviderSettings, is_address
from uait.llm.provider import KnowsMore
from uait.llm.providers.offline import OfflineProvider
from uait.llm.servers import LOCAL_PORTS, SERVERS
from uait.llm.upstream import Timeouts

_log = logging.getLogger("uait.llm")


@attrs.frozen(kw_only=True)
class Wanted:
    """A provider that there should be.

    Attributes:
        keys: its API keys, each once; one that is empty where there is none.
        optional, absent: as an `Entry` has them.
        problem: why it cannot be made: a variable gives an address that is none.
    """

    settings: ProviderSettings
    keys: tuple[str, ...] = attrs.field(repr=False)
    optional: bool = False
    absent: Callable[[], Awaitable[bool]] | None = None
    problem: Problem | None = None


def find_providers(
    environ: Mapping[str, str],
    configured: Mapping[str, ProviderSettings],
    *,
    local: bool = True,
    taken: Callable[[int], Awaitable[bool]] | None = None,
    timeouts: Timeouts = Timeouts(),
    kinds: Kinds | None = None,
) -> list[Entry]:
    """All providers, the preferred first: as configured, then the environment's, plugins' among them, then local servers, the offline one last.

    Args:
        local: whether to look for model servers on their usual ports of this machine.
        taken: tells that something else is on one of these ports, which is then not asked for models.
    """
    known = kinds or Kinds()
    found: dict[str, Entry] = {}
    for name, each in find_wanted(environ, configured, known, local=local, taken=taken).items():
        if each.problem is not None:
            _log.error("the provider %r cannot be made: %s", name, each.problem)
            found[name] = Entry(BrokenProvider(name))
            continue
        first, *others = (known.make(name, each.settings, key, timeouts) for key in each.keys)
        for other in others:
            if isinstance(other, KnowsMore):
                other.share(first)
        found[name] = Entry(first, others=tuple(others), optional=each.optional, absent=each.absent)
    found.setdefault("offline", Entry(OfflineProvider()))
    return list(found.values())


def find_wanted(
    environ: Mapping[str, str],
    configured: Mapping[str, ProviderSettings],
    known: Kinds,
    *,
    local: bool,
    taken: Callable[[int], Awaitable[bool]] | None = None,
) -> dict[str, Wanted]:
    """What `find_providers` makes, by name, before it is made."""
    found: dict[str, Wanted] = {}

    def add(name: str, settings: ProviderSettings, **more: Any) -> None:
        if name not in found:
            keys = [settings.key, environ.get(settings.key_variable, ""), *settings.keys]
            if not any(keys) and not settings.base_url:
                # Nobody else's server gets to see this key.
                keys = [environ.get(usual_variable(name, settings.kind), "")]
            unique = dict.fromkeys(key for key in keys if key) or [""]
            found[name] = Wanted(settings=settings, keys=tuple(unique), **more)

    def add_at(variable: str, name: str, settings: Mapping[str, Any], **more: Any) -> None:
        """Add one whose address `variable` gives. Where that is none the provider is wanted all the same, and no reason for others to suffer."""
        try:
            add(name, ProviderSettings(**settings), **more)
        except ValueError as error:
            add(name, ProviderSettings(kind=settings["kind"]), problem=Problem(f"variable {variable}", str(error)))

    def usual_variable(name: str, kind: str) -> str:
        if kind == "openai" and name in SERVERS:
            return SERVERS[name].key_variable
        loaded = known.find(kind)
        return loaded.variables.get("key", "") if loaded is not None else ""

    def add_named(*, builtin: bool) -> None:
        for name in known.names(builtin=builtin):
            kind = known.find(name)
            variables = kind.variables if kind is not None else {}
            said = {what: environ[variable] for what, variable in variables.items() if environ.get(variable)}
            if said:
                key, base_url = said.pop("key", ""), said.pop("base_url", "")
                settings = {"kind": name, "key": key, "base_url": base_url, "options": said}
                add_at(variables.get("base_url", ""), name, settings)

    for name, each in configured.items():
        add(name, each)
    add_named(builtin=True)
    for name, server in SERVERS.items():
        if environ.get(server.key_variable):
            add(name, ProviderSettings(key_variable=server.key_variable))
    add_named(builtin=False)
    if endpoint := environ.get("LOCAL_LLM_ENDPOINT"):
        add_at("LOCAL_LLM_ENDPOINT", "local", {"kind": "openai", "base_url": normal_endpoint(endpoint)})
    if local:
        for name, port in LOCAL_PORTS.items():
            address = environ.get("OLLAMA_HOST", "") if name == "ollama" else ""
            absent = partial(taken, port) if taken is not None and not address else None
            kind = "ollama" if name == "ollama" else "openai"
            base_url = normal_endpoint(address or f"127.0.0.1:{port}", port)
            add_at("OLLAMA_HOST", name, {"kind": kind, "base_url": base_url}, optional=True, absent=absent)
    return found


def normal_endpoint(address: str, port: int | None = None) -> str:
    """Make a base URL of what people write: `localhost:1234`, `http://host:1234`, or the whole `.../v1/chat/completions`. What is no address stays as it is.

    Args:
        port: where there is neither a port nor a scheme, which has its own.
    """
    url = address if "://" in address else f"http://{address}"
    if not is_address(url):
        return address
    url = url.rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(url)
    if port is not None and parts.port is None and "://" not in address:
        url = url.replace(parts.netloc, f"{parts.netloc}:{port}", 1)
    # 0.0.0.0 is where a server listens, not where it can be reached everywhere.
    url = url.replace("//0.0.0.0", "//127.0.0.1", 1)
    return url if parts.path.strip("/") else f"{url}/v1"
