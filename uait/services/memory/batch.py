"""Many memories at once, with progress for those who want to watch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import attrs
from attrs import validators

from uait.services.memory.model import NewMemory
from uait.services.memory.store import Added, MemoryStore
from uait.services.memory.work import Work
from uait.web import Event

MOST = 20_000


@attrs.frozen(kw_only=True)
class BatchRequest:
    """What to remember."""

    memories: list[NewMemory] = attrs.field(validator=validators.and_(validators.min_len(1), validators.max_len(MOST)))


@attrs.frozen(kw_only=True)
class BatchReport:
    """What became of each memory, in the order in which they were given."""

    results: list[Added]
    added: int
    deduped: int


@attrs.frozen(kw_only=True)
class BatchProgress:
    """How far it is. What is `done` is durable."""

    done: int
    total: int


async def take_batch(
    store: MemoryStore,
    work: Work,
    user_id: str,
    batch: BatchRequest,
    progress: Callable[[BatchProgress], Awaitable[None]] | None = None,
) -> BatchReport:
    """Store all of a batch, part by part. When it is cancelled, whole parts are stored, and sending it again stores the rest: what is there answers as `deduped`."""
    results: list[Added] = []
    with work.of(user_id):
        async with aclosing(store.add_many(user_id, batch.memories)) as parts:
            async for part in parts:
                results += part
                if progress is not None:
                    await progress(BatchProgress(done=len(results), total=len(batch.memories)))
    deduped = sum(each.deduped for each in results)
    return BatchReport(results=results, added=len(results) - deduped, deduped=deduped)


def stream_batch(store: MemoryStore, work: Work, user_id: str, batch: BatchRequest) -> Any:
    """The same as server-sent events: `progress` after each part, then the report."""

    async def events(send: Callable[[Event | bytes], Awaitable[None]]) -> None:
        async def progress(done: BatchProgress) -> None:
            await send(Event(done, event="progress"))

        await send(Event(await take_batch(store, work, user_id, batch, progress)))

    return events
