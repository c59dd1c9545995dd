"""Which providers there are: the settings', the environment's, those on the usual local ports, and always the offline one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import attrs

from uait.llm.catalog import Entry
from uait.llm.providers.offline import OfflineProvider
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.upstream import Timeouts

OPENAI = "https://api.openai.com/v1"

LOCAL_PORTS: Mapping[str, int] = {"ollama": 11434, "lmstudio": 1234, "llamacpp": 8080, "vllm": 8000}


@attrs.frozen(kw_only=True)
class ProviderSettings:
    """A server that speaks OpenAI's dialect, from the settings.

    Attributes:
        base_url: what `/chat/completions` is put after; usually ends in `/v1`.
        key: its API key, or
        key_variable: the environment variable that holds it.
    """

    base_url: str = attrs.field(validator=attrs.validators.matches_re(r"https?://.+"))
    key: str = attrs.field(default="", repr=False)
    key_variable: str = ""


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

    def add(name: str, base_url: str, key: str = "", **more: Any) -> None:
        if name not in found:
            found[name] = Entry(OpenAIProvider(name, base_url, key, timeouts=timeouts), **more)

    for name, settings in configured.items():
        add(name, settings.base_url, settings.key or environ.get(settings.key_variable, ""))
    key, base_url = environ.get("OPENAI_API_KEY", ""), environ.get("OPENAI_BASE_URL", "")
    if key or base_url:
        add("openai", base_url or OPENAI, key)
    if endpoint := environ.get("LOCAL_LLM_ENDPOINT"):
        add("local", normal_endpoint(endpoint))
    if local:
        for name, port in LOCAL_PORTS.items():
            address = environ.get("OLLAMA_HOST", "") if name == "ollama" else ""
            absent = partial(taken, port) if taken is not None and not address else None
            add(name, normal_endpoint(address or f"127.0.0.1:{port}", port), optional=True, absent=absent)
    found.setdefault("offline", Entry(OfflineProvider()))
    return list(found.values())


def normal_endpoint(address: str, port: int | None = None) -> str:
    """Make a base URL of what people write: `localhost:1234`, `http://host:1234`, or the whole `.../v1/chat/completions`."""
    url = address if "://" in address else f"http://{address}"
    url = url.rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(url)
    if port is not None and parts.port is None:
        url = url.replace(parts.netloc, f"{parts.netloc}:{port}", 1)
    # 0.0.0.0 is where a server listens, not where it can be reached everywhere.
    url = url.replace("//0.0.0.0", "//127.0.0.1", 1)
    return url if parts.path.strip("/") else f"{url}/v1"
