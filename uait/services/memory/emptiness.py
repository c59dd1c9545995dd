"""Who has no memories at all, so that those who ask for every message of theirs need not (`uait.calls.standing`)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from uait.calls.standing import Standing
from uait.storage import Database

USERS = 10_000
"""Of so many users it is remembered."""


class Emptiness:
    """Vouches for the users who have nothing, and takes it back before something of theirs is stored. An async context manager; at its end nothing stands any more.

    Whether a write that was given up has been stored is not known, so its user is not vouched for again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standing: OrderedDict[str, Standing] = OrderedDict()
        self._adding: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._added = 0

    async def __aenter__(self) -> Emptiness:
        return self

    async def __aexit__(self, *_: object) -> None:
        for standing in self._standing.values():
            standing.holds = False
        self._standing.clear()

    @contextmanager
    def adding(self, user_id: str) -> Iterator[None]:
        """Store something for a user inside the block."""
        self._added += 1
        self._adding[user_id] += 1
        standing = self._standing.pop(user_id, None)
        if standing is not None:
            standing.holds = False
        try:
            yield
        except BaseException:
            if len(self._given_up) <= USERS:
                self._given_up.add(user_id)
            raise
        finally:
            self._adding[user_id] -= 1
            if not self._adding[user_id]:
                del self._adding[user_id]

    async def vouch(self, user_id: str) -> Standing | None:
        """That a user has nothing, if so."""
        standing = self._standing.get(user_id)
        if standing is not None:
            return standing
        if user_id in self._given_up or len(self._given_up) > USERS:
            return None
        added = self._added
        row = await self._database.fetch_one("SELECT 1 FROM owner WHERE user_id = ? AND memories > 0", (user_id,))
        # What was stored meanwhile, or is about to be, the read need not have seen.
        if row is not None or self._added != added or user_id in self._adding:
            return None
        standing = self._standing[user_id] = Standing()
        if len(self._standing) > USERS:
            self._standing.popitem(last=False)[1].holds = False
        return standing
