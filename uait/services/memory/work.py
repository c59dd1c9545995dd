"""What is under way for each user, so that forgetting them can end it first: nothing is written after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from uait.errors import Conflict

ENDING = 10.0
"""Seconds that work has to end after it was cancelled."""


class Forgotten(Conflict):
    """The work was ended because its user is being forgotten."""

    code, message = "FORGOTTEN", "Everything of this user is being forgotten; what was under way for them has ended."


class Work:
    """The work of all users."""

    def __init__(self) -> None:
        self._under_way: dict[str, set[trio.CancelScope]] = {}
        self._forgetting: dict[str, int] = {}
        self._ended = trio.Event()

    @contextmanager
    def of(self, user_id: str) -> Iterator[None]:
        """Do something for a user that takes longer than one transaction, or writes.

        Raises:
            Forgotten: the user is being forgotten, or was while it was done.
        """
        if self._forgetting.get(user_id):
            raise Forgotten
        scope = trio.CancelScope()
        self._under_way.setdefault(user_id, set()).add(scope)
        try:
            with scope:
                yield
        finally:
            scopes = self._under_way[user_id]
            scopes.discard(scope)
            if not scopes:
                del self._under_way[user_id]
            self._ended.set()
        if scope.cancelled_caught:
            raise Forgotten

    def count(self, user_id: str) -> int:
        """How much is under way for a user."""
        return len(self._under_way.get(user_id, ()))

    @contextmanager
    def forgetting(self, user_id: str) -> Iterator[int]:
        """Take no further work for a user, and cancel what is under way; gives how much that was. `ended` waits for it."""
        self._forgetting[user_id] = self._forgetting.get(user_id, 0) + 1
        scopes = list(self._under_way.get(user_id, ()))
        try:
            for scope in scopes:
                scope.cancel(reason="everything of this user is being forgotten")
            yield len(scopes)
        finally:
            left = self._forgetting.pop(user_id) - 1
            if left:
                self._forgetting[user_id] = left

    async def ended(self, user_id: str) -> None:
        """Wait until nothing is under way for a user, `ENDING` seconds at most."""
        with trio.move_on_after(ENDING):
            while self._under_way.get(user_id):
                # Others may wait for it, too.
                if self._ended.is_set():
                    self._ended = trio.Event()
                await self._ended.wait()
