from __future__ import annotations

import attrs
import orjson
import pytest

from uait.feeds import Feed
from uait.services.hub.model import HubSettings
from uait.services.hub.rooms import Rooms
from uait.storage.ids import new_id


@attrs.define(eq=False)
class Listener:
    """A member that keeps what it is given."""

    user_id: str
    client_id: str = attrs.field(factory=new_id)
    connected_at: str = "2026-11-22T00:00:00.000000Z"
    queued: int = 0
    slow: bool = False
    texts: list[str] = attrs.field(factory=list)

    def offer(self, text: str, size: int) -> None:
        assert size == len(text.encode())
        self.texts.append(text)

    @property
    def messages(self) -> list[dict]:
        return [orjson.loads(text) for text in self.texts]


@pytest.fixture
def listener():
    return Listener


@pytest.fixture
def make_rooms():
    def make(**settings) -> Rooms:
        chosen = HubSettings(**settings)
        return Rooms(chosen, lambda name: Feed(name, max_events=chosen.history, max_bytes=chosen.history_bytes))

    return make
