"""One attempt: a question on its way to one model under one key, from the first byte sent to the connection's end."""

from __future__ import annotations

import enum
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeAlias

import trio

from uait.errors import APIError
from uait.llm import upstream
from uait.llm.messages import Chunk
from uait.llm.provider import Provider
from uait.llm.routing.health import Call, Key
from uait.llm.routing.order import Candidate
from uait.llm.routing.trace import Attempt, Stopwatch

CLOSE_TIMEOUT = 2.0
"""Seconds for a provider to close a connection; its own bound is shorter."""

Work: TypeAlias = Callable[[Provider, str], AbstractAsyncContextManager[Any]]
"""Asks a provider's model, by the provider's own name of it. Entering is being accepted."""

_log = logging.getLogger("uait.llm")


class Stage(enum.IntEnum):
    """How far an attempt has come."""

    ACCEPTED = 1
    """The provider has taken the question."""
    BEGUN = 2
    """The first event that carries some of the answer has come: no role, no comment, no error."""
    COMPLETE = 3
    """The whole answer is here."""


class Leg:
    """One attempt. Whoever has made it ends it, by one of `lost`, `left`, `failed` and `succeeded`, each of which closes it.

    It holds no scope and no nursery between two calls: it may be opened in one task, read in another and closed in a third.

    Attributes:
        started: on trio's clock.
        chunks: what the provider gives, once accepted.
        buffer: what has been read of it and not handed on.
        stage: how far it has come; None before it is accepted.
        given_up: the provider had the question when nobody waited any more.
    """

    def __init__(
        self, candidate: Candidate, call: Call, work: Work, attempt: Attempt, watch: Stopwatch, clock_zero: float
    ) -> None:
        self.candidate = candidate
        self.attempt = attempt
        self.started = trio.current_time()
        self.chunks: AsyncIterator[Chunk] | None = None
        self.buffer: deque[Chunk] = deque()
        self.stage: Stage | None = None
        self.given_up = False
        self._call = call
        self._work = work
        self._watch = watch
        self._zero = clock_zero
        self._stack = AsyncExitStack()
        self._open = True
        watch.start()

    @property
    def key(self) -> Key:
        """The key that it is made with."""
        return self._call.key

    @property
    def begun(self) -> bool:
        return self.stage is not None and self.stage >= Stage.BEGUN

    @property
    def complete(self) -> bool:
        return self.stage is Stage.COMPLETE

    async def reach(self, stage: Stage, deadline: float) -> None:
        """Go on until it has come so far. Where this raises, the attempt is still to be ended.

        Args:
            deadline: on trio's clock.

        Raises:
            APIError: the provider failed, or took too long.
        """
        try:
            if deadline == math.inf:  # mostly, and a scope costs as much as a system call
                await self._reach(stage)
                return
            with trio.CancelScope(deadline=deadline) as scope:
                await self._reach(stage)
        except APIError:
            raise
        except Exception as error:
            name = self.candidate.provider.name
            read: deque[Any] = self.buffer
            if read and not isinstance(read[-1], Chunk):
                # Found out by its failure, for a look at each would cost something for every token.
                raise _misbuilt(name, f"its `stream` gave a {type(read.pop()).__name__}, not a Chunk") from error
            raise own_failure(name, error) from error
        if scope.cancelled_caught:
            raise upstream.too_slow(self.candidate.provider.name, "did not begin its answer")

    async def _reach(self, stage: Stage) -> None:
        if self.stage is None:
            accepting = self._work(self._call.key.provider, self.candidate.name)
            if not hasattr(accepting, "__aenter__"):
                raise _misbuilt(
                    self.candidate.provider.name,
                    f"its `stream` gave a {type(accepting).__name__}, not an asynchronous context manager; decorate it with @asynccontextmanager and yield the iterator of chunks",
                )
            self.chunks = await self._stack.enter_async_context(accepting)
            self.stage = Stage.ACCEPTED
            self.attempt.accepted = trio.current_time() - self._zero
        if stage > self.stage:
            assert self.chunks is not None
            async for chunk in self.chunks:
                self.buffer.append(chunk)
                if not self.begun and chunk.meaningful:
                    self._first()
                    if stage is Stage.BEGUN:
                        return
            if not self.begun:
                raise upstream.broken(self.candidate.provider.name, "ended its answer before it had begun")
            self.stage = Stage.COMPLETE

    def _first(self) -> None:
        self.stage = Stage.BEGUN
        now = trio.current_time()
        self.attempt.first_token = now - self._zero
        self._call.begun(now - self.started)

    async def succeeded(self) -> None:
        """The answer is complete."""
        self._end("answered")
        self._call.succeeded()
        await self.close()

    async def failed(self, error: APIError, *, unhealthy: bool) -> None:
        """It failed; `unhealthy` says whether that speaks against the provider."""
        self._end("failed")
        self.attempt.fail(error)
        if unhealthy:
            self._call.failed()
        else:
            self._call.succeeded()
        await self.close()

    async def lost(self) -> None:
        """Another one was quicker, which is neither its success nor its failure."""
        self._end("lost")
        self._call.abandoned()
        await self.close()

    async def left(self) -> None:
        """Nobody waits for it any more."""
        self.given_up = self.attempt.outcome == "running"
        self._end("left")
        self._call.abandoned()
        await self.close()

    def _end(self, outcome: str) -> None:
        if self.attempt.outcome == "running":
            self.attempt.outcome = outcome

    async def close(self) -> None:
        """End the question at the provider, and its connection. Also where the caller is cancelled, and then within a bound."""
        if not self._open:
            return
        self._open = False
        self.attempt.ended = trio.current_time() - self._zero
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_TIMEOUT, shield=True):
            try:
                await self._stack.aclose()
            except Exception:
                _log.exception("the provider %r failed to close an answer", self.candidate.provider.name)
        self._watch.stop()


def _misbuilt(provider: str, what: str) -> APIError:
    """A provider is not written as `Provider` says, which its author must hear and no further attempt can change."""
    _log.error("the provider %r is wrongly written: %s", provider, what)
    error = upstream.broken(provider, f"is wrongly written: {what}")
    error.error_code = upstream.NEVER
    return error


def own_failure(provider: str, error: Exception) -> APIError:
    """A bug in a provider, which may be somebody else's, is that provider's failure and nobody else's."""
    _log.error("the provider %r failed", provider, exc_info=error)
    return upstream.broken(provider, "failed for a reason of its own")
