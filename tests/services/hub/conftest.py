from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import attrs
import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.feeds import Feed, FeedFenced, StoredFeed, open_journal
from uait.services.hub import room
from uait.services.hub.audience import NativeLine, QueuedLine
from uait.services.hub.connection import serve_client
from uait.services.hub.hub import Hub
from uait.services.hub.model import HubSettings
from uait.services.hub.rooms import Rooms


class MemoryFeeds:
    """A `FeedStore` that outlives a hub, as a disk does."""

    def __init__(self):
        self.feeds = {}
        self.failures = []
        self.lives = 0

    async def load(self, name, newest):
        await trio.lowlevel.checkpoint()
        if name not in self.feeds:
            self.lives += 1
            self.feeds[name] = StoredFeed(f"life {self.lives}", 0, [])
        found = self.feeds[name]
        return attrs.evolve(found, events=found.events[-newest:] if newest else [])

    async def append(self, batches):
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        for batch in batches:
            found = self.feeds.get(batch.name)
            if found is None or (found.epoch, found.offset) != (batch.epoch, batch.events[0].offset - 1):
                raise FeedFenced(batch.name)
            events = [event for event in (*found.events, *batch.events) if event.offset >= batch.oldest]
            self.feeds[batch.name] = StoredFeed(found.epoch, batch.events[-1].offset, events)

    async def delete(self, name):
        await trio.lowlevel.checkpoint()
        self.feeds.pop(name, None)


class MemoryDeclarations:
    def __init__(self):
        self.rooms = {}

    async def load(self):
        return list(self.rooms.values())

    async def save(self, declared):
        await trio.lowlevel.checkpoint()
        self.rooms[declared.name] = declared

    async def delete(self, name):
        await trio.lowlevel.checkpoint()
        self.rooms.pop(name, None)


class Disk:
    """What outlives a hub."""

    def __init__(self):
        self.feeds = MemoryFeeds()
        self.declarations = MemoryDeclarations()


@asynccontextmanager
async def running_hub(disk: Disk | None = None, **settings: Any):
    """A hub, without a service around it. Leaving the block is how it crashes."""
    disk = disk or Disk()
    async with open_journal(disk.feeds) as journal:
        hub = Hub(HubSettings(**settings), partial(Rooms, new_feed=Feed, journal=journal, store=disk.declarations))
        await hub.rooms.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.ticker.run)
            nursery.start_soon(hub.cork.run)
            nursery.start_soon(hub.upkeep.run)
            yield hub
            nursery.cancel_scope.cancel(reason="the hub is gone")


class Wire:
    """Both ends of one connection, without a socket. The client stops reading while `may_read` is unset.

    It is an `Outlet`, too, for a client on uait's own server, with a writer that leaves everything to `push`.
    """

    open = True
    writer = SimpleNamespace(direct=None)

    def __init__(self):
        self.to_hub, self._from_client = trio.open_memory_channel(1000)
        self.sent: list[dict] = []
        self.closed: tuple[int, str] | None = None
        self.may_read = trio.Event()
        self.may_read.set()
        self.left = trio.CancelScope()
        self._broken = False
        self.over = trio.Event()
        self._frames: list[bytes] = []

    # The hub's end

    async def receive(self):
        message = await self._from_client.receive()
        if self._broken:
            raise ConnectionResetError("the connection is lost")
        return message

    async def send(self, text):
        await self.may_read.wait()
        self._drain()
        self.sent.append(orjson.loads(text))

    async def close(self, code, reason):
        await trio.lowlevel.checkpoint()
        self.closed = self.closed or (int(code), reason)

    @property
    def queued(self):
        if self.may_read.is_set():
            self._drain()
        return sum(map(len, self._frames))

    def push(self, frame):
        self._frames.append(frame)
        return self.queued

    def _drain(self):
        self.sent += [orjson.loads(payload) for frames in self._frames for payload in payloads_of(frames)]
        self._frames.clear()

    # The client's end

    def say(self, **message):
        self.to_hub.send_nowait(orjson.dumps(message).decode())

    def stop_reading(self):
        self.may_read = trio.Event()

    def leave(self):
        """Be gone, without a word."""
        self.left.cancel(reason="the client left")

    def break_down(self):
        """Have the task that serves this end with an error."""
        self._broken = True
        self.say()

    def arrived(self):
        """All that was sent; what is with the system when the connection ends still arrives."""
        self._drain()
        return self.sent

    def of(self, kind):
        return [message for message in self.sent if message["type"] == kind]


def payloads_of(frames: bytes) -> Iterator[bytes]:
    """What text frames of a server, one behind the other, hold."""
    while frames:
        assert frames[0] == 0x81
        size, head = frames[1], 2
        if size == 126:
            size, head = int.from_bytes(frames[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(frames[2:10], "big"), 10
        assert len(frames) >= head + size
        yield frames[head : head + size]
        frames = frames[head + size :]


def wire_to(hub: Hub, user: str, native: bool, **options: Any) -> tuple[Wire, Callable]:
    """A wire, and the task that serves it."""
    wire = Wire()
    line = NativeLine(wire, wire.send) if native else QueuedLine()

    async def serve():
        try:
            with wire.left:
                await serve_client(hub, user, line, receive=wire.receive, send=wire.send, close=wire.close, **options)
        except* ConnectionResetError:
            pass
        finally:
            wire.over.set()

    return wire, serve


@pytest.fixture(params=["native", "queued", "corked"])
def native(request, monkeypatch):
    """Whether the server has outlets. Corked: it has, and what is said is held back whatever the number of members."""
    if request.param == "corked":
        monkeypatch.setattr(room, "MANY", 0)
    return request.param != "queued"


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def hubs(native, disk):
    """`async with hubs(**settings) as connect`: a hub; `await connect("ada")` is a wire to it, `connect.hub` the hub."""

    @asynccontextmanager
    async def running(**settings):
        async with running_hub(disk, **settings) as hub, trio.open_nursery() as nursery:

            async def connect(user="ada", *, settle=True, **options):
                wire, serve = wire_to(hub, user, native, **options)
                nursery.start_soon(serve)
                if settle:
                    await wait_all_tasks_blocked()
                return wire

            connect.hub = hub
            yield connect
            nursery.cancel_scope.cancel(reason="the hub is gone")

    return running


@pytest.fixture
def open_hub():
    """`async with open_hub(**settings) as hub`, for tests that run trio themselves."""
    return lambda **settings: running_hub(None, **settings)


@pytest.fixture
def connection_to():
    """`wire, serve = connection_to(hub, "ada", native)`: a wire, and the task that serves it."""
    return wire_to
