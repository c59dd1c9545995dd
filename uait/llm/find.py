"""Which providers there are: the settings', the environment's, those on the usual local ports, and always the offline one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs

from uait.llm.catalog import Entry
from uait.llm.provider import Provider
from uait.llm.providers.anthropic import AnthropicProvider
from uait.llm.providers.gemini import GeminiProvider
from uait.llm.providers.offline import OfflineProvider
from uait.llm.providers.ollama import OllamaProvider
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.providers.openai_responses import ResponsesProvider
from uait.llm.servers import LOCAL_PORTS, SERVERS
from uait.llm.upstream import Timeouts

Kind: TypeAlias = Literal["openai", "anthropic", "gemini", "ollama"]

OPENAI = "https://api.openai.com/v1"

USUAL: Mapping[Kind, str] = {
    "openai": OPENAI,
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "ollama": "http://127.0.0.1:11434",
}
"""Where each kind is, unless somebody says otherwise."""


@attrs.frozen(kw_only=True)
class ProviderSettings:
    """A provider from the settings, `[chat.providers.NAME]`.

    Attributes:
        kind: the dialect in which it is asked.
        base_url: where it is; for `openai` what `/chat/completions` is put after, which usually ends in `/v1`. Without one it is the vendor's own, or, where NAME is that of a well-known server, that one.
        key: its API key, or
        key_variable: the environment variable that holds it, or
        keys: several: where one is refused for a while, the others go on. Without any, and without a `base_url`, it is in the variable that it has by custom.
        api: for `openai`: `responses` asks it through `/responses`.
    """

    kind: Kind = "openai"
    base_url: str = attrs.field(default="", validator=attrs.validators.matches_re(r"(https?://.+)?"))
    key: str = attrs.field(default="", repr=False)
    key_variable: str = ""
    keys: tuple[str, ...] = attrs.field(default=(), repr=False)
    api: Literal["chat", "responses"] = "chat"


def find_providers(
    environ: Mapping[str, str],
    configured: Mapping[str, ProviderSettings],
    *,
    local: bool = True,
    taken: Callable[[int], Awaitable[bool]] | None = None,
    timeouts: Timeouts = Timeouts(),
) -> list[Entry]:
    """All providers, the preferred first: as configured, then the environment's, then local servers, the offline one last.

    Args:
        local: whether to look for model servers on their usual ports of this machine.
        taken: tells that something else is on one of these ports, which is then not asked for models.
    """
    found: dict[str, Entry] = {}

    def add(name: str, settings: ProviderSettings, **more: Any) -> None:
        if name not in found:
            keys = [settings.key, environ.get(settings.key_variable, ""), *settings.keys]
            if not any(keys) and not settings.base_url:
                # Nobody else's server gets to see this key.
                keys = [environ.get(_usual_variable(name, settings.kind), "")]
            unique = dict.fromkeys(key for key in keys if key) or [""]
            first, *others = (make_provider(name, settings, key, timeouts) for key in unique)
            found[name] = Entry(first, others=tuple(others), **more)

    def add_vendor(kind: Kind, prefix: str) -> None:
        key, base_url = environ.get(f"{prefix}_API_KEY", ""), environ.get(f"{prefix}_BASE_URL", "")
        if key or base_url:
            add(kind, ProviderSettings(kind=kind, key=key, base_url=base_url))

    for name, settings in configured.items():
        add(name, settings)
    add_vendor("openai", "OPENAI")
    add_vendor("anthropic", "ANTHROPIC")
    add_vendor("gemini", "GEMINI")
    for name, server in SERVERS.items():
        if environ.get(server.key_variable):
            add(name, ProviderSettings(key_variable=server.key_variable))
    if endpoint := environ.get("LOCAL_LLM_ENDPOINT"):
        add("local", ProviderSettings(base_url=normal_endpoint(endpoint)))
    if local:
        for name, port in LOCAL_PORTS.items():
            address = environ.get("OLLAMA_HOST", "") if name == "ollama" else ""
            absent = partial(taken, port) if taken is not None and not address else None
            kind: Kind = "ollama" if name == "ollama" else "openai"
            base_url = normal_endpoint(address or f"127.0.0.1:{port}", port)
            add(name, ProviderSettings(kind=kind, base_url=base_url), optional=True, absent=absent)
    found.setdefault("offline", Entry(OfflineProvider()))
    return list(found.values())


def _usual_variable(name: str, kind: Kind) -> str:
    return SERVERS[name].key_variable if kind == "openai" and name in SERVERS else f"{kind.upper()}_API_KEY"


def make_provider(name: str, settings: ProviderSettings, key: str, timeouts: Timeouts = Timeouts()) -> Provider:
    """One provider under one key."""
    base_url = settings.base_url
    if settings.kind == "openai":
        if not base_url:
            base_url = SERVERS[name].base_url if name in SERVERS else OPENAI
        always = settings.api == "responses"
        if always or urlsplit(base_url).hostname == "api.openai.com":
            return ResponsesProvider(name, base_url, key, always=always, timeouts=timeouts)
        return OpenAIProvider(name, base_url, key, timeouts=timeouts)
    base_url = base_url or USUAL[settings.kind]
    match settings.kind:
        case "anthropic":
            return AnthropicProvider(name, base_url, key, timeouts=timeouts)
        case "gemini":
            return GeminiProvider(name, base_url, key, timeouts=timeouts)
        case "ollama":
            return OllamaProvider(name, base_url, key, timeouts=timeouts)


def normal_endpoint(address: str, port: int | None = None) -> str:
    """Make a base URL of what people write: `localhost:1234`, `http://host:1234`, or the whole `.../v1/chat/completions`.

    Args:
        port: where there is neither a port nor a scheme, which has its own.
    """
    url = address if "://" in address else f"http://{address}"
    url = url.rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(url)
    if port is not None and parts.port is None and "://" not in address:
        url = url.replace(parts.netloc, f"{parts.netloc}:{port}", 1)
    # 0.0.0.0 is where a server listens, not where it can be reached everywhere.
    url = url.replace("//0.0.0.0", "//127.0.0.1", 1)
    return url if parts.path.strip("/") else f"{url}/v1"
