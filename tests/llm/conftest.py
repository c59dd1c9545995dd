"""A mock model server and a provider that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from mock_upstream import Upstream, open_upstream

from uait.llm.messages import Collected, GenerateRequest, message
from uait.llm.provider import Provider
from uait.llm.providers.openai import OpenAIProvider
from uait.llm.upstream import Timeouts

Ask = Callable[..., AbstractAsyncContextManager[Collected]]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as server:
        yield server


@pytest.fixture
async def provider(upstream: Upstream) -> AsyncIterator[OpenAIProvider]:
    timeouts = Timeouts(connect=5, first_token=1, idle=1, total=20)
    provider = OpenAIProvider("mock", upstream.url, "sk-secret", timeouts=timeouts)
    yield provider
    await provider.aclose()


@pytest.fixture
def question() -> Callable[..., GenerateRequest]:
    """Make a request to the scenario named."""

    def make(model: str, text: str = "Hello", **more: object) -> GenerateRequest:
        return GenerateRequest(**{"model": model, "messages": (message("user", text),), **more})  # type: ignore[arg-type]

    return make


@pytest.fixture
def ask(provider: Provider, question: Callable[..., GenerateRequest]) -> Callable[..., object]:
    """Ask for a whole answer: `await ask("tokens")` gives what was collected."""

    async def ask(model: str, **more: object) -> Collected:
        answer = Collected()
        async with provider.stream(question(model, **more)) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
        return answer

    return ask
