"""Where feeds outlive the process: what a store must do, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs


@attrs.frozen
class StoredEvent:
    """An event as it is stored. `at` is its time, in Unix seconds; for the rest see `Feed.append`."""

    offset: int
    data: bytes
    key: str | None
    token: str | None
    at: float


@attrs.frozen
class StoredFeed:
    """A feed as it is found: its epoch, its last offset, and the events that are kept, oldest first and without holes."""

    epoch: str
    offset: int
    events: Sequence[StoredEvent]


@attrs.frozen
class Batch:
    """What to store of one feed: `events` follow each other, and follow the last one that is stored; nothing before `oldest` is needed any more."""

    name: str
    epoch: str
    events: Sequence[StoredEvent]
    oldest: int


class FeedStore(Protocol):
    """Keeps feeds. One process writes to a feed at a time; a store notices when that is not so, for every event comes with its offset (as an entry id of Redis Streams does).

    All methods may be cancelled; what was under way is then done wholly or not at all.
    """

    async def load(self, name: str, newest: int) -> StoredFeed:
        """The feed of this name, made, with a new epoch, where there is none. Of its events at most the `newest` last ones."""
        ...

    async def append(self, batches: Sequence[Batch]) -> None:
        """Store all of it, durably, or nothing of it.

        Raises:
            FeedFenced: a feed is not as the batch supposes: of another epoch, gone, or written to by somebody else.
        """
        ...

    async def delete(self, name: str) -> None:
        """Forget the feed; nothing happens where there is none."""
        ...
