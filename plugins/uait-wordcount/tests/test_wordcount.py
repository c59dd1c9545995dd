from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
from uait_wordcount import wordcount

from uait.testing import assert_service_contract

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


async def test_it_counts_words(run_service: Run) -> None:
    async with run_service(wordcount) as client:
        answer = await client.post("/count", json={"text": "one two  three"})

        assert answer.status_code == 200
        assert answer.json() == {"words": 3}


async def test_it_answers_the_orchestrator(run_service: Run) -> None:
    async with run_service(wordcount) as client:
        answer = await client.post(
            "/orchestrate", json={"userRequest": "count the words of this", "context": {}, "priority": None}
        )

        assert answer.json() == {"words": 5}


async def test_what_is_no_text_is_refused_with_its_path(run_service: Run) -> None:
    async with run_service(wordcount) as client:
        answer = await client.post("/count", json={"text": 5})

        assert answer.status_code == 422
        assert answer.json()["error"]["details"][0]["path"] == "$.text"


async def test_it_keeps_what_every_service_promises() -> None:
    await assert_service_contract(wordcount)
