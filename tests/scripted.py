"""Providers that do as they are told, and what tests want to know of a router over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from uait.errors import APIError
from uait.llm.messages import Chunk, Collected, GenerateRequest, Usage, message
from uait.llm.provider import Capability, Embeddings, Model
from uait.llm.routing import Router

ROLE = Chunk()
FINISH = Chunk(finish="stop", usage=Usage(10, 2))


@attrs.frozen
class Script:
    """What a provider does with one question: seconds to accept, to the first token, between tokens; how it fails.

    Attributes:
        refuse: raised instead of accepting.
        fail: raised after so many words as `fail_after` says.
    """

    accept: float = 0.0
    first: float = 0.0
    between: float = 0.0
    words: tuple[str, ...] = ("Hello", " there")
    refuse: Exception | None = None
    fail: Exception | None = None
    fail_after: int = 0


class Scripted:
    """A provider that follows its scripts, one for each question; the last one again and again."""

    capabilities = frozenset(Capability)

    def __init__(self, name: str, *scripts: Script, models: Sequence[str | Model] = ("m",)) -> None:
        self.name = name
        self.scripts = list(scripts) or [Script()]
        self.listed = models
        self.asked: list[GenerateRequest] = []
        self.times: list[float] = []
        self.open = 0
        self.lists = 0

    async def models(self) -> Sequence[Model]:
        self.lists += 1
        await trio.lowlevel.checkpoint()
        return [each if isinstance(each, Model) else Model(each) for each in self.listed]

    @asynccontextmanager
    async def stream(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Chunk]]:
        script = self.scripts[0] if len(self.scripts) == 1 else self.scripts.pop(0)
        self.asked.append(request)
        self.times.append(trio.current_time())
        self.open += 1
        try:
            await trio.sleep(script.accept)
            if script.refuse is not None:
                raise script.refuse
            yield Words(script)
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()  # closing takes a moment
            self.open -= 1

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None = None) -> Embeddings:
        script = self.scripts[0] if len(self.scripts) == 1 else self.scripts.pop(0)
        self.times.append(trio.current_time())
        await trio.sleep(script.accept)
        if script.refuse is not None:
            raise script.refuse
        return Embeddings(tuple((1.0,) for _ in texts), Usage(len(texts)))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Words:
    """An answer, as its script has it. Neither a generator nor safe to read twice at once."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._steps = iter([ROLE, *(Chunk(word) for word in script.words), FINISH])
        self._said = 0
        self._began = trio.current_time()

    def __aiter__(self) -> Words:
        return self

    async def __anext__(self) -> Chunk:
        chunk = next(self._steps, None)
        if chunk is None:
            raise StopAsyncIteration
        script = self._script
        if chunk is ROLE:
            await trio.lowlevel.checkpoint()
            return chunk
        if script.fail is not None and self._said == script.fail_after:
            await trio.sleep(script.first if not self._said else script.between)
            raise script.fail
        await trio.sleep(script.first if not self._said else script.between)
        self._said += 1
        return chunk


@attrs.define
class Rig:
    """A router over scripted providers, and what it told."""

    router: Router
    used: list[tuple[str, str, Usage, int, float | None]]
    providers: dict[str, Scripted]

    @property
    def open(self) -> int:
        """Questions that providers have now."""
        return sum(provider.open for provider in self.providers.values() if isinstance(provider, Scripted))

    async def routed(self, address: str | None = "r", **options: Any) -> Any:
        asked = {
            key: options.pop(key) for key in ("temperature", "tools", "max_tokens", "text", "extra") if key in options
        }
        text = asked.pop("text", "Hi")
        plan = await self.router.plan(address)
        question = GenerateRequest(model=address or "", messages=(message("user", text),), **asked)
        return self.router.ask(plan, question, options.pop("user", "ann"), options.pop("id", "t"), **options)

    async def ask(self, address: str | None = "r", **options: Any) -> tuple[str, Any]:
        """The text of an answer and what is known of it; it is closed."""
        routed = await self.routed(address, **options)
        collected = Collected()
        try:
            await routed.open()
            async for chunk in routed:
                collected.add(chunk)
                for more in routed.ready():
                    collected.add(more)
        finally:
            routed.used(collected.usage or Usage(estimated=True))
            await routed.aclose()
        return collected.text, routed

    async def fails(self, address: str | None = "r", **options: Any) -> APIError:
        """The error that an answer ends with."""
        with pytest.raises(APIError) as caught:
            await self.ask(address, **options)
        return caught.value


async def leave(after: float, ask: Callable[..., Awaitable[Any]], **options: Any) -> None:
    """Ask, and be cancelled after so many seconds, without a deadline that could be known before."""
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await ask(**options)
            nursery.cancel_scope.cancel(reason="it has ended by itself")

        nursery.start_soon(run)
        await trio.sleep(after)
        nursery.cancel_scope.cancel(reason="the client leaves")
