"""`GET /models`, health, and what happens when a provider does not answer."""

from __future__ import annotations

from typing import Any

import trio


async def test_the_models_of_all_providers(running: Any) -> None:
    listed = (await running.client.get("/models")).json()
    assert [each["id"] for each in listed["models"]] == [
        "mock/tokens",
        "mock/text-embedding-mock",
        "offline/retrieval",
    ]
    assert listed["models"][0] == {
        "id": "mock/tokens",
        "provider": "mock",
        "name": "tokens",
        "capabilities": ["chat", "streaming"],
        "context_length": 4096,
        "status": "available",
        "stale": False,
        "created": 5,
    }
    assert listed["total"] == 3
    assert listed["providers"]["mock"] == {"status": "available", "models": 2, "error": None}


async def test_a_provider_that_hangs_costs_nobody_the_list(run_chat: Any, upstream: Any) -> None:
    upstream.models = "hang"
    async with run_chat() as chat:
        with trio.fail_after(5):
            listed = (await chat.client.get("/models")).json()
        assert [each["id"] for each in listed["models"]] == ["offline/retrieval"]
        assert listed["providers"]["mock"]["status"] == "unknown"
        began = trio.current_time()
        await chat.client.get("/models")
        assert trio.current_time() - began < 1.5  # who hangs already is not waited for again
        assert (await chat.say())["model"] == "mock/tokens"  # an exact address needs no list


async def test_health_tells_of_the_providers(running: Any) -> None:
    await running.client.get("/models")
    health = (await running.client.get("/health")).json()
    assert (health["service"], health["status"]) == ("chat-service", "healthy")
    assert health["providers"]["mock"]["models"] == 2


async def test_metrics_count_answers_and_tokens(running: Any) -> None:
    await running.say()
    text = (await running.client.get("/metrics")).text
    assert 'uait_chat_answers_total{provider="mock"} 1.0' in text
    assert 'uait_chat_tokens_total{kind="completion",provider="mock"} 5.0' in text
