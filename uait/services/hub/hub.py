"""The hub: its rooms and clients, and what is common to them."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uait.server.drain import Phase
from uait.services.hub.client import Client
from uait.services.hub.cork import Cork
from uait.services.hub.model import HubSettings, Laggard
from uait.services.hub.presence import Ticker
from uait.services.hub.protocol import Message, MessageType
from uait.services.hub.requests import Requests
from uait.services.hub.rooms import Rooms
from uait.services.hub.traffic import Traffic
from uait.services.hub.upkeep import Upkeep

REMEMBERED = 10_000
"""Most ids of messages in no log that are remembered, so that each is said once."""

RETURNS_PER_SECOND = 500
"""Clients that are to come back in one second after a restart."""

LONGEST_PAUSE = 30.0
"""Seconds after which they are all to be back."""

SLOWEST = 10
"""Clients that `/stats` names for being behind."""


class Hub:
    """What all connections share.

    Attributes:
        leaving: the service stops or starts again.
    """

    def __init__(self, settings: HubSettings, make_rooms: Callable[..., Rooms]) -> None:
        self.settings = settings
        self.traffic = Traffic()
        self.ticker = Ticker(settings.presence_tick)
        self.cork = Cork()
        self.upkeep = Upkeep()
        self.rooms = make_rooms(
            settings, self.traffic, cork=self.cork, mark=self.ticker.mark, counted=self.upkeep.count
        )
        self.requests = Requests(most=settings.requests, longest=settings.request_timeout)
        self.leaving = False
        self._said: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def said(self, user_id: str, ref: str) -> dict[str, Any] | None:
        """What became of a message that no log remembers, and that this user has sent under this id before."""
        return self._said.get((user_id, ref))

    def remember(self, user_id: str, ref: str, outcome: dict[str, Any]) -> None:
        """For `said`."""
        self._said[user_id, ref] = outcome
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)

    def leave(self, phase: Phase) -> None:
        """Tell everybody that the service leaves, and when to come back: not all at once. A callback for `Drain`."""
        if self.leaving:
            return
        self.leaving = True
        for client in self.rooms.clients:
            client.push(
                Message(
                    type=MessageType.STATUS,
                    user_id=client.user_id,
                    content="The hub restarts",
                    data={"event": "restart", "reconnect_after_ms": self.pause_of(client)},
                ).encode()
            )

    def pause_of(self, client: Client) -> int:
        """Milliseconds after which `client` is to come back: the more clients there are, the wider they are spread. The same at every call."""
        seconds = min(LONGEST_PAUSE, max(1.0, len(self.rooms.clients) / RETURNS_PER_SECOND))
        if client.pause is None:
            client.pause = random.uniform(0, seconds)
        return round(1000 * client.pause)

    def queued(self, client: Client) -> tuple[int, int, int]:
        """How many messages, and how many bytes, wait for `client`, and how many were left out."""
        memberships = self.rooms.memberships(client)
        readers = [membership.reader for membership in memberships if membership.reader is not None]
        messages = client.line.messages + sum(map(len, readers))
        return (
            messages,
            client.line.queued + sum(reader.bytes for reader in readers),
            sum(membership.dropped for membership in memberships),
        )

    def slowest(self) -> list[Laggard]:
        """Those for whom most waits, the slowest first."""
        laggards = []
        for client in self.rooms.clients:
            messages, size, dropped = self.queued(client)
            if messages or size or dropped:
                laggards.append(
                    Laggard(
                        client_id=client.client_id,
                        user_id=client.user_id,
                        queued=messages,
                        queued_bytes=size,
                        dropped=dropped,
                    )
                )
        laggards.sort(key=lambda laggard: (laggard.queued_bytes, laggard.dropped), reverse=True)
        return laggards[:SLOWEST]
