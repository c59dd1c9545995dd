"""Cases 37 to 39: lists of models, as the gateway gives them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from faces import FACES
from mock_upstream import KINDS, Upstream

PATHS = {
    "openai": "/chat/completions",
    "responses": "/responses",
    "anthropic": "/messages",
    "gemini": "enerateContent",
    "ollama": "/api/chat",
}


def one_of_each(upstream: Upstream) -> dict[str, Any]:
    return {kind: upstream.provider(kind) for kind in KINDS}


def asked(upstream: Upstream) -> str:
    """Where the last question came."""
    return upstream.requests[-1].path.partition("?")[0]


async def listed(front: Any, path: str) -> list[str]:
    answer = (await front.client.get(path)).json()
    return [model["id"] for model in answer.get("models", answer.get("data"))]


@pytest.mark.parametrize("path", ["/api/v1/models", "/v1/models"])
async def test_case_37_a_list_that_hangs(run: Any, upstream: Upstream, path: str) -> None:
    upstream.models = "hang"
    async with run(providers=one_of_each(upstream)) as front:
        with trio.fail_after(6):
            assert await listed(front, path) == ["offline/retrieval"]


@pytest.mark.parametrize("kind", ["anthropic", "gemini"])
async def test_case_38_a_list_whose_second_page_fails(run: Any, upstream: Upstream, kind: str) -> None:
    """Half a list would take the other half away: what was known stays, and the provider is marked."""
    upstream.models = "second"
    async with run(providers={kind: upstream.provider(kind)}) as front:
        answer = (await front.client.get("/api/v1/models")).json()
        assert [model["id"] for model in answer["models"]] == ["offline/retrieval"]
        assert answer["providers"][kind]["status"] == "unavailable"


async def test_case_39_the_same_name_at_several_providers(run: Any, upstream: Upstream) -> None:
    async with run(providers=one_of_each(upstream)) as front:
        assert {f"{kind}/tokens" for kind in KINDS} <= set(await listed(front, "/api/v1/models"))
        for face in FACES:
            for kind in KINDS:
                response = await front.response(face, f"{kind}/tokens")
                assert response.json()["model"] == f"{kind}/tokens"
                assert asked(upstream).endswith(PATHS[kind])
            # Without a provider's name the first one has it.
            assert (await front.ask(face, "tokens")).text == "tok0 tok1 tok2 tok3 tok4 "
            assert asked(upstream).endswith(PATHS[KINDS[0]])
