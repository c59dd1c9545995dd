"""What a provider wants back with a tool's result, and no other dialect has a place for: signed thoughts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_ENTRIES = 4096
MAX_SIZE = 16 * 1024 * 1024


class Recall(Generic[T]):
    """Values by the id of a tool call, as long as there is room: the oldest go first. A conversation that outlives them goes on without."""

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_size: int = MAX_SIZE) -> None:
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._max_entries = max_entries
        self._max_size = max_size
        self._size = 0

    def put(self, call_id: str, value: T, size: int) -> None:
        """Keep `value`, which takes about `size` bytes."""
        self._drop(call_id)
        if size > self._max_size:
            return
        self._entries[call_id] = (value, size)
        self._size += size
        while len(self._entries) > self._max_entries or self._size > self._max_size:
            self._drop(next(iter(self._entries)))

    def get(self, call_id: str) -> T | None:
        found = self._entries.get(call_id)
        return found[0] if found is not None else None

    def _drop(self, call_id: str) -> None:
        found = self._entries.pop(call_id, None)
        if found is not None:
            self._size -= found[1]
