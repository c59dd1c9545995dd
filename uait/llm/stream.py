"""An answer as it comes from a provider: cut into events, read into chunks, bounded in time and size, whatever its dialect is."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import trio

from uait.errors import APIError
from uait.llm import upstream
from uait.llm.http import Pieces, ProviderHTTP, field, pieces
from uait.llm.messages import Chunk, FinishReason, GenerateRequest
from uait.llm.sse import EventTooLarge, ServerSentEvent, SSEParser
from uait.llm.upstream import Timeouts

TAIL_TIMEOUT = 2.0
"""Seconds for each part of what may follow a finish reason: usage and `[DONE]`. Without them the answer is complete all the same."""

LONGEST_TAIL = 10.0
"""Seconds for all of it: comments that keep the connection alive may come for ever."""

END_TIMEOUT = 0.1
"""Seconds for the end of the body after `[DONE]`, so that the connection can be used again."""

MAX_STREAM_BYTES = 128 * 1024 * 1024
"""Of one streamed answer: far more than any model writes, and an end to a server that never stops."""


class Reader(Protocol):
    """Makes chunks of what a provider sends; see `AnswerReader`."""

    @property
    def done(self) -> bool:
        """Nothing more is to come, whether or not the connection ends."""

    @property
    def finish(self) -> FinishReason | None:
        """Why the answer ended; what may follow then is not waited for long."""

    def event(self, event: ServerSentEvent) -> Chunk | None: ...
    def end(self) -> Chunk | None: ...
    def whole(self, body: bytes) -> Chunk: ...


class Framer(Protocol):
    """Cuts what arrives into events; see `SSEParser`."""

    def feed(self, data: bytes) -> list[ServerSentEvent]: ...
    def end(self) -> list[ServerSentEvent]: ...


@asynccontextmanager
async def ask_for_answer(
    http: ProviderHTTP,
    path: str,
    body: Any,
    request: GenerateRequest,
    reader: Reader,
    *,
    framer: Callable[[], Framer] = SSEParser,
    media_type: str = "text/event-stream",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[AsyncIterator[Chunk]]:
    """What every provider's `stream` does, whatever its words are.

    Args:
        media_type: of a stream that `framer` can cut.
        headers: sent with this question.
    """
    started = trio.current_time()
    total = started + (request.total or http.timeouts.total)
    first = min(total, started + http.timeouts.first_token) if request.stream else total
    reply = await http.ask("POST", path, body, deadline=first, headers=headers)
    try:
        sent = field(reply, b"content-type")
        # Some servers ignore `stream`, some say no type at all.
        if media_type in sent or (request.stream and "json" not in sent):
            yield AnswerStream(reader, framer(), http.name, pieces(reply), http.timeouts, first=first, total=total)
        else:
            yield _Once(reader.whole(await http.whole(reply, total)))
    finally:
        await reply.aclose()


class _Once:
    """An answer that came in one piece."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk: Chunk | None = chunk

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        # No checkpoint: it was waited for before this was made.
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            raise StopAsyncIteration
        return chunk


class AnswerStream:
    """An answer as it comes. Chunks that came together are handed out without a checkpoint between them."""

    def __init__(
        self,
        reader: Reader,
        framer: Framer,
        provider: str,
        source: Pieces,
        timeouts: Timeouts,
        *,
        first: float,
        total: float,
    ) -> None:
        self._provider = provider
        self._source = source
        self._idle = timeouts.idle
        self._first: float | None = first
        self._total = total
        self._tail: float | None = None  # when what may follow the finish reason is not waited for any more
        self._parser = framer
        self._reader = reader
        self._ready: deque[Chunk] = deque()
        self._failure: APIError | None = None
        self._over = False
        self._bytes = 0

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        while not self._ready:
            if self._failure is not None:
                failure, self._failure, self._over = self._failure, None, True
                raise failure
            if self._over:
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    def ready(self) -> list[Chunk]:
        """What has arrived already, and need not be waited for."""
        ready, self._ready = list(self._ready), deque()
        return ready

    async def _read(self) -> None:
        try:
            data = await self._receive()
            events = self._parser.end() if data is None else self._parser.feed(data)
            self._bytes += len(data or b"")
            if self._bytes > MAX_STREAM_BYTES:
                raise EventTooLarge
        except EventTooLarge:
            self._failure = upstream.broken(self._provider, "sent more than any answer needs")
            return
        self._take(events)
        if self._reader.done:
            self._over = True
            await self._skip_to_end()
        elif data is None:
            self._over = True
            if self._failure is None:
                self._end()

    def _end(self) -> None:
        try:
            chunk = self._reader.end()
        except APIError as error:
            self._failure = error
        else:
            if chunk is not None:
                self._ready.append(chunk)

    def _take(self, events: list[ServerSentEvent]) -> None:
        """Read events up to an error, which is raised after what came before it."""
        for event in events:
            try:
                chunk = self._reader.event(event)
            except APIError as error:
                self._failure = error
                return
            if chunk is not None:
                if self._first is not None and chunk.meaningful:
                    self._first = None
                self._ready.append(chunk)
            if self._reader.done:
                return

    async def _receive(self) -> bytes | None:
        """The next bytes, or None at the end."""
        finished = self._reader.finish is not None
        # Once for every token: no context managers made of generators here, and none at all where nothing is waited for.
        failure: APIError
        try:
            if self._source.ready:
                return await self._source.__anext__()
            now = trio.current_time()
            if finished:
                self._tail = self._tail or now + LONGEST_TAIL
                deadline = min(now + TAIL_TIMEOUT, self._tail)
            else:
                deadline = self._first or now + self._idle
            with trio.CancelScope(deadline=min(deadline, self._total)):
                return await self._source.__anext__()
            failure = upstream.too_slow(self._provider, "did not go on with its answer")
        except StopAsyncIteration:
            return None
        except httpx.HTTPError as error:
            failure = upstream.from_transport(self._provider, error)
        if finished:
            return None
        raise failure

    async def _skip_to_end(self) -> None:
        try:
            while self._source.ready:
                await self._source.__anext__()
            with trio.move_on_after(END_TIMEOUT):
                while True:
                    await self._source.__anext__()
        except (StopAsyncIteration, httpx.HTTPError):
            pass
