"""What a feed is made of: events, positions, and what goes wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from uait.errors import UaitError


@attrs.frozen
class Position:
    """Where in which life of a log: after the event `offset`. As text it is `EPOCH:OFFSET`, which is what an SSE event's `id` holds."""

    offset: int
    epoch: str

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """The position that `text` stands for, or None where it is none: a client may send anything as `Last-Event-ID`."""
        epoch, colon, offset = text.rpartition(":")
        if not colon or not epoch or not offset.isascii() or not offset.isdigit() or len(offset) > 15:
            return None
        return cls(int(offset), epoch)


@attrs.frozen
class FeedEvent:
    """One entry of a feed, as one reader gets it.

    Attributes:
        offset: its place in the log, from 1.
        data: what was appended, the same object for all readers: do not change it.
        key: what it is about; a later event with the same key supersedes it for readers that coalesce.
        missed: how many events between the one this reader got before and this one were left out because the reader was slow.
        weight: about how many bytes it is worth.
    """

    offset: int
    data: Any
    key: str | None = None
    missed: int = 0
    weight: int = 0


class FeedClosed(UaitError):
    """Something was appended after `close`."""


class FeedBusy(UaitError):
    """More is waiting to be stored than may wait. Nothing was appended; try again."""


class FeedFenced(UaitError):
    """Somebody else has written to, or deleted, the stored feed `name`. It is closed here; open it again to go on."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the feed {name!r} is not as it was left: somebody else writes to it, or has deleted it")


class SlowReader(UaitError):
    """A reader fell too far behind and was cut off. It can come back with `read(after=offset, epoch=epoch)`."""

    def __init__(self, name: str, offset: int, epoch: str) -> None:
        self.offset = offset
        self.epoch = epoch
        super().__init__(f"a reader of the feed {name!r} fell too far behind; it had read up to offset {offset}")


def weigh(data: Any) -> int:
    """About how many bytes `data` is worth for retention: exact for text (in characters) and bytes, the sum of the parts for JSON-like data."""
    if isinstance(data, str | bytes | bytearray):
        return len(data)
    if isinstance(data, Mapping):
        return sum(weigh(key) + weigh(value) for key, value in data.items())
    if isinstance(data, list | tuple):
        return sum(weigh(item) for item in data)
    return 8
