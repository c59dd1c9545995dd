import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal

import httpx
import pytest
import trio
from uait_command import kind

from uait import APIError
from uait.llm import GenerateRequest, Message, Provider, ProviderSettings, Text, Timeouts

Run = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

SLOWLY = "import sys, time\nfor word in sys.stdin.read().split():\n    print(word, end=' ', flush=True)\n    time.sleep(0.05)"
FAILING = "import sys\nprint('Hello', flush=True)\nsys.exit('it is broken')"
FOREVER = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(100)"


def provider(source: str, **timeouts: float) -> Provider:
    settings = ProviderSettings(kind="command", options={"command": [sys.executable, "-c", source]})
    return kind.make("mine", settings, "", Timeouts(**timeouts))


def question(*texts: str) -> GenerateRequest:
    roles: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")
    turns = tuple(Message(roles[n % 2], (Text(text),)) for n, text in enumerate(texts))
    return GenerateRequest(model="m", messages=turns)


async def texts_of(provider: Provider, request: GenerateRequest, said: list[str]) -> None:
    """Read an answer into the list `said`."""
    async with provider.stream(request) as chunks:
        async for chunk in chunks:
            said.append(chunk.text)  # noqa: PERF401  (an error must not take what came before it)


async def test_what_it_prints_comes_as_it_prints_it() -> None:
    said: list[str] = []
    await texts_of(provider(SLOWLY), question("Grüße to you 👋"), said)

    assert "".join(said) == "Grüße to you 👋 "
    assert len(said) > 2


async def test_a_conversation_says_who_speaks() -> None:
    said: list[str] = []
    await texts_of(provider("import sys; print(sys.stdin.read())"), question("Hi", "Hello", "Bye"), said)

    assert "".join(said) == "User: Hi\n\nAssistant: Hello\n\nUser: Bye\n\nAssistant: \n"


async def test_a_program_that_fails_is_an_error_after_what_it_said() -> None:
    said: list[str] = []
    with pytest.raises(APIError, match="it is broken"):
        await texts_of(provider(FAILING), question("x"), said)

    assert "".join(said) == "Hello\n"


async def test_whoever_leaves_ends_it() -> None:
    async with provider(FOREVER).stream(question("x")) as chunks:
        pid = int((await anext(chunks)).text)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_silence_has_an_end() -> None:
    with pytest.raises(APIError, match="in time"), trio.fail_after(10):
        await texts_of(provider(FOREVER, idle=0.2), question("x"), [])


async def test_the_chat_service_asks_it(run_service: Run) -> None:
    from uait.services.chat.service import chat

    providers = {"loud": {"kind": "command", "options": {"command": "tr a-z A-Z"}}}
    async with run_service(chat, settings={"local": False, "memory": False, "providers": providers}) as client:
        answer = await client.post("/chat", json={"message": "hello", "model": "loud"})

        assert answer.status_code == 200
        assert answer.json()["response"] == "HELLO"
        assert answer.json()["model"] == "loud/tr"
