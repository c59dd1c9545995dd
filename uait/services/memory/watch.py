"""Changes of a user's memories as a feed. An event holds what happened and to which memories, never their contents."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from uait.feeds import Feed
from uait.storage import utc_now

USERS = 256
"""Of so many users the changes are kept, those that were watched last. Whoever comes back after that is told that something is missing."""

EVENTS = 500
IDS = 1000
"""Most ids in one event."""


class Changes:
    """The feeds of those users whose changes somebody watches, or has watched."""

    def __init__(self, make: Callable[..., Feed] = Feed) -> None:
        self._make = make
        self._feeds: OrderedDict[str, Feed] = OrderedDict()

    def feed(self, user_id: str) -> Feed:
        """A user's feed, from now on kept."""
        feed = self._feeds.get(user_id)
        if feed is None:
            feed = self._feeds[user_id] = self._make("memory", max_events=EVENTS)
        self._feeds.move_to_end(user_id)
        for other in list(self._feeds):
            if len(self._feeds) <= USERS:
                break
            if not self._feeds[other].readers and other != user_id:
                del self._feeds[other]
        return feed

    def tell(self, user_id: str, event: str, ids: Sequence[str]) -> None:
        """Something durable has happened to these memories."""
        feed = self._feeds.get(user_id)
        if feed is None or not ids:
            return
        for start in range(0, len(ids), IDS):
            feed.append({"event": event, "ids": list(ids[start : start + IDS]), "at": utc_now()})

    def forget(self, user_id: str, count: int) -> None:
        """Everything of a user is gone: so is what their feed has kept. Its watchers are told, and the feed begins anew."""
        feed = self._feeds.pop(user_id, None)
        if feed is not None:
            feed.append({"event": "forget", "ids": [], "count": count, "at": utc_now()})
            feed.retain(max_events=1, max_bytes=1 << 20, max_age=None)
            feed.close()
