"""Which providers are found where."""

from __future__ import annotations

from typing import Any

import pytest

from uait.llm.find import ProviderSettings, find_providers, normal_endpoint


def found(
    environ: dict[str, str], configured: dict[str, ProviderSettings] | None = None, **more: Any
) -> dict[str, Any]:
    entries = find_providers(environ, configured or {}, **more)
    return {entry.provider.name: entry for entry in entries}


def address(entry: Any) -> tuple[str, str | None]:
    http = entry.provider._http
    return http._base_url, http._headers.get("authorization")


def test_the_offline_one_is_always_there_and_last() -> None:
    assert list(found({}, local=False)) == ["offline"]
    assert list(found({"OPENAI_API_KEY": "k"}))[-1] == "offline"


def test_the_environment() -> None:
    assert address(found({"OPENAI_API_KEY": "k"})["openai"]) == ("https://api.openai.com/v1", "Bearer k")
    both = found({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://x/v1/"})
    assert address(both["openai"]) == ("http://x/v1", "Bearer k")
    assert address(found({"LOCAL_LLM_ENDPOINT": "http://x:1"})["local"]) == ("http://x:1/v1", None)


def test_settings_come_first_and_may_name_a_variable() -> None:
    configured = {
        "groq": ProviderSettings(base_url="https://groq.example/v1", key_variable="GROQ"),
        "openai": ProviderSettings(base_url="http://mine/v1", key="mine"),
    }
    entries = found({"OPENAI_API_KEY": "k", "GROQ": "g"}, configured, local=False)
    assert list(entries) == ["groq", "openai", "offline"]
    assert address(entries["groq"])[1] == "Bearer g"
    assert address(entries["openai"]) == ("http://mine/v1", "Bearer mine")


def test_local_servers_are_only_looked_for() -> None:
    entries = found({})
    local = [name for name, entry in entries.items() if entry.optional]
    assert local == ["ollama", "lmstudio", "llamacpp", "vllm"]
    assert address(entries["ollama"])[0] == "http://127.0.0.1:11434/v1"
    assert address(found({"OLLAMA_HOST": "0.0.0.0"})["ollama"])[0] == "http://127.0.0.1:11434/v1"


async def test_ports_of_others_are_not_asked() -> None:
    async def taken(port: int) -> bool:
        return port == 8080

    entries = found({"OLLAMA_HOST": "elsewhere:8080"}, taken=taken)
    assert await entries["llamacpp"].absent()
    assert not await entries["vllm"].absent()
    assert entries["ollama"].absent is None  # somebody has said where it is


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("localhost:1234", "http://localhost:1234/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("https://h/api/v1", "https://h/api/v1"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1"),
    ],
)
def test_addresses_as_people_write_them(written: str, meant: str) -> None:
    assert normal_endpoint(written) == meant


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(ProviderSettings(base_url="http://x", key="secret"))
