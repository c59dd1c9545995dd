"""The kinds of providers that uait has by itself. What speaks a kind's dialect is imported with the first provider that needs it: most machines never ask half of them."""

from __future__ import annotations

from urllib.parse import urlsplit

from uait.llm.kinds import ProviderKind, ProviderSettings
from uait.llm.provider import Provider
from uait.llm.servers import OPENAI, SERVERS
from uait.llm.upstream import Timeouts


def _openai(name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider:
    """A provider of OpenAI's dialect: the vendor itself, a well-known server by its name, or any other by its address."""
    base_url = settings.base_url or (SERVERS[name].base_url if name in SERVERS else OPENAI)
    always = settings.api == "responses"
    if always or urlsplit(base_url).hostname == urlsplit(OPENAI).hostname:
        from uait.llm.providers.openai_responses import ResponsesProvider

        return ResponsesProvider(name, base_url, key, always=always, timeouts=timeouts)
    from uait.llm.providers.openai import OpenAIProvider

    return OpenAIProvider(name, base_url, key, timeouts=timeouts)


def _anthropic(name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider:
    from uait.llm.providers.anthropic import AnthropicProvider

    return AnthropicProvider(name, settings.base_url, key, timeouts=timeouts)


def _gemini(name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider:
    from uait.llm.providers.gemini import GeminiProvider

    return GeminiProvider(name, settings.base_url, key, timeouts=timeouts)


def _ollama(name: str, settings: ProviderSettings, key: str, timeouts: Timeouts) -> Provider:
    from uait.llm.providers.ollama import OllamaProvider

    return OllamaProvider(name, settings.base_url, key, timeouts=timeouts)


openai = ProviderKind(make=_openai, variables={"key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL"})

anthropic = ProviderKind(
    make=_anthropic,
    base_url="https://api.anthropic.com",
    variables={"key": "ANTHROPIC_API_KEY", "base_url": "ANTHROPIC_BASE_URL"},
)

gemini = ProviderKind(
    make=_gemini,
    base_url="https://generativelanguage.googleapis.com",
    variables={"key": "GEMINI_API_KEY", "base_url": "GEMINI_BASE_URL"},
)

ollama = ProviderKind(make=_ollama, base_url="http://127.0.0.1:11434")
