"""Which providers are found where."""

from __future__ import annotations

from typing import Any

import pytest

from uait.llm.find import find_providers, normal_endpoint
from uait.llm.kinds import BrokenProvider, ProviderSettings
from uait.llm.providers.anthropic import AnthropicProvider
from uait.llm.providers.gemini import GeminiProvider
from uait.llm.providers.ollama import OllamaProvider
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.providers.openai_responses import ResponsesProvider
from uait.llm.servers import SERVERS


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
    assert isinstance(entries["ollama"].provider, OllamaProvider)
    assert address(entries["ollama"])[0] == "http://127.0.0.1:11434"
    assert address(found({"OLLAMA_HOST": "0.0.0.0"})["ollama"])[0] == "http://127.0.0.1:11434"
    assert address(found({"OLLAMA_HOST": "https://far/ollama"})["ollama"])[0] == "https://far/ollama"


def test_vendors_by_their_variables() -> None:
    environ = {
        "ANTHROPIC_API_KEY": "a",
        "GEMINI_API_KEY": "g",
        "GEMINI_BASE_URL": "http://near/v1beta/",
        "GROQ_API_KEY": "q",
        "OPENAI_API_KEY": "o",
    }
    entries = found(environ, local=False)
    assert list(entries) == ["openai", "anthropic", "gemini", "groq", "offline"]
    assert isinstance(entries["openai"].provider, ResponsesProvider)
    assert isinstance(entries["anthropic"].provider, AnthropicProvider)
    assert isinstance(entries["gemini"].provider, GeminiProvider)
    assert type(entries["groq"].provider) is OpenAIProvider
    assert address(entries["groq"]) == ("https://api.groq.com/openai/v1", "Bearer q")
    assert entries["anthropic"].provider._http._base_url == "https://api.anthropic.com"
    assert entries["anthropic"].provider._http._headers["x-api-key"] == "a"
    assert entries["gemini"].provider._http._base_url == "http://near"
    assert entries["gemini"].provider._http._headers["x-goog-api-key"] == "g"


def test_every_server_of_the_table_is_found_by_its_variable() -> None:
    entries = found({server.key_variable: name for name, server in SERVERS.items()}, local=False)
    for name, server in SERVERS.items():
        assert address(entries[name]) == (server.base_url, f"Bearer {name}")


def test_several_of_one_kind_with_several_keys_each() -> None:
    configured = {
        "work": ProviderSettings(kind="anthropic", keys=("one", "two", "one"), key_variable="MORE"),
        "home": ProviderSettings(kind="anthropic", base_url="http://home/v1"),
        "mistral": ProviderSettings(),
    }
    entries = found({"MORE": "three", "MISTRAL_API_KEY": "m", "ANTHROPIC_API_KEY": "usual"}, configured, local=False)
    work = (entries["work"].provider, *entries["work"].others)
    assert [provider._http._headers["x-api-key"] for provider in work] == ["three", "one", "two"]
    assert {provider.name for provider in work} == {"work"}
    assert "x-api-key" not in entries["home"].provider._http._headers, "a key of Anthropic's is nobody else's business"
    assert address(entries["mistral"]) == ("https://api.mistral.ai/v1", "Bearer m")


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


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("OPENAI_BASE_URL", "openai"),
        ("ANTHROPIC_BASE_URL", "anthropic"),
        ("GEMINI_BASE_URL", "gemini"),
        ("LOCAL_LLM_ENDPOINT", "local"),
        ("OLLAMA_HOST", "ollama"),
    ],
)
@pytest.mark.parametrize("wrong", ["http://", "http://h:abc/v1", "localhost:99999", "::", "a b"])
def test_a_variable_that_is_no_address_breaks_its_own_provider_and_the_log_names_it(
    caplog: pytest.LogCaptureFixture, variable: str, name: str, wrong: str
) -> None:
    entries = found({variable: wrong, "GROQ_API_KEY": "k"})
    assert isinstance(entries[name].provider, BrokenProvider)
    assert not entries[name].optional  # somebody has asked for it, so it is listed
    assert not isinstance(entries["groq"].provider, BrokenProvider)
    (record,) = caplog.records
    assert f"variable {variable}: must be an address such as http://localhost:8000/v1" in record.getMessage()
    assert record.exc_info is None


def test_a_password_in_an_address_that_is_none_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(found({"OPENAI_BASE_URL": "http://me:hunter2@h:abc/v1"})["openai"].provider, BrokenProvider)
    assert "OPENAI_BASE_URL" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_address_without_its_scheme_is_not_guessed_at(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(found({"OPENAI_BASE_URL": "localhost:8000/v1"})["openai"].provider, BrokenProvider)
    assert "not 'localhost:8000/v1'" in caplog.text


@pytest.mark.parametrize(
    "url", ["", "http://h", "https://h:8443/a/v1/", "http://[::1]:8000/v1", "http://user:pass@h/v1", "HTTPS://H"]
)
def test_addresses_of_providers(url: str) -> None:
    assert ProviderSettings(base_url=url).base_url == url


@pytest.mark.parametrize(
    "url", ["h", "ftp://h", "http:/h", "http://", "http://:80", "http://[::1", "http://h:0x1", "http://a b"]
)
def test_what_is_no_address_of_a_provider(url: str) -> None:
    with pytest.raises(ValueError, match="must be an address such as"):
        ProviderSettings(base_url=url)


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(ProviderSettings(base_url="http://x", key="secret"))
