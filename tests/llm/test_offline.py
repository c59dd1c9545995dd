"""The offline provider looks things up, says so, and never varies."""

from __future__ import annotations

import pytest

from uait.errors import BadRequest
from uait.llm.messages import Collected, GenerateRequest, Image, Message, Tool, message
from uait.llm.providers.offline import CONNECT, INTRODUCTION, OfflineProvider


async def ask(*turns: Message, **more: object) -> Collected:
    answer = Collected()
    async with OfflineProvider().stream(GenerateRequest(model="retrieval", messages=turns, **more)) as chunks:  # type: ignore[arg-type]
        async for chunk in chunks:
            answer.add(chunk)
    return answer


async def test_it_says_what_it_is_and_how_to_get_a_model() -> None:
    answer = await ask(message("user", "Hello"))
    assert answer.text.startswith(INTRODUCTION)
    assert "not a language model" in answer.text
    assert CONNECT in answer.text
    assert answer.finish == "stop"


async def test_it_finds_what_was_said_before() -> None:
    turns = (
        message("user", "My cat is called Ada."),
        message("assistant", "Noted."),
        message("user", "I live in Oslo."),
        message("assistant", "Fine."),
        message("user", "What is the name of my cats?"),
    )
    text = (await ask(*turns)).text
    assert "My cat is called Ada." in text
    assert "Oslo" not in text


async def test_it_finds_memories() -> None:
    text = (await ask(message("user", "which tea?"), memories=("likes green tea", "drives a car"))).text
    assert "your memories: “likes green tea”" in text
    assert "car" not in text.replace(CONNECT, "")


async def test_it_does_not_quote_itself() -> None:
    first = await ask(message("user", "I like tea"), message("user", "tea"))
    again = await ask(message("user", "I like tea"), message("assistant", first.text), message("user", "tea"))
    assert again.text == first.text


async def test_the_rarer_word_decides() -> None:
    turns = [message("user", f"The report number {n} is late") for n in range(5)]
    turns.append(message("user", "The budget is fine"))
    text = (await ask(*turns, message("user", "report budget"))).text
    assert text.index("budget is fine") < text.index("report number")


async def test_it_streams_word_by_word_and_always_the_same() -> None:
    request = GenerateRequest(model="retrieval", messages=(message("user", "Hello"),))
    runs = []
    for _ in range(2):
        async with OfflineProvider().stream(request) as chunks:
            runs.append([chunk.text async for chunk in chunks])
    assert runs[0] == runs[1]
    assert all(len(text.split()) <= 1 for text in runs[0])
    assert len(runs[0]) > 20


async def test_usage_is_an_estimate() -> None:
    usage = (await ask(message("user", "Hello"))).usage
    assert usage is not None
    assert usage.estimated


async def test_limits_are_kept() -> None:
    short = await ask(message("user", "Hello"), max_tokens=3)
    assert (len(short.text), short.finish) == (12, "length")
    stopped = await ask(message("user", "Hello"), stop=("offline",))
    assert (stopped.text, stopped.finish) == ("I am uait's ", "stop")


@pytest.mark.parametrize(
    "request_",
    [
        {"tools": (Tool("now"),)},
        {"response_format": {"type": "json_object"}},
        {"messages": (Message("user", (Image("https://example.org/a.png"),)),)},
    ],
)
async def test_what_it_cannot_do_it_refuses(request_: dict[str, object]) -> None:
    request = GenerateRequest(**{"model": "retrieval", "messages": (message("user", "Hi"),), **request_})  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="cannot"):
        async with OfflineProvider().stream(request):
            pass
    with pytest.raises(BadRequest):
        await OfflineProvider().embed("retrieval", ["x"])
