"""How the ends of a WebSocket learn of each other's."""

from __future__ import annotations

import attrs
import pytest
import trio

from uait.calls.tunnel import PING_INTERVAL, PING_TIMEOUT, _Tunnel
from uait.calls.websocket import WebSocketClosed


@attrs.define
class Instance:
    """The WebSocket to the instance, as the tunnel sees it."""

    answers_pings: bool = True
    reads: bool = True
    last_heard: float = attrs.field(factory=trio.current_time)
    sent: list = attrs.field(factory=list)
    pings: int = 0
    closed: tuple | None = None
    incoming: tuple = attrs.field(factory=lambda: trio.open_memory_channel(100))

    async def _take(self):
        await trio.lowlevel.checkpoint()
        if not self.reads:
            await trio.sleep_forever()

    async def send(self, data):
        await self._take()
        self.sent.append(data)

    async def receive(self):
        data = await self.incoming[1].receive()
        self.last_heard = trio.current_time()
        if isinstance(data, Exception):
            raise data
        return data

    async def ping(self):
        await self._take()
        self.pings += 1
        if self.answers_pings:
            self.last_heard = trio.current_time()

    async def close(self, code, reason=None):
        await trio.lowlevel.checkpoint()
        self.closed = (code, reason)

    def says(self, data):
        self.incoming[0].send_nowait(data)


@attrs.define
class Client:
    """The client's side, as ASGI shows it."""

    sent: list = attrs.field(factory=list)
    stuck: bool = False
    incoming: tuple = attrs.field(factory=lambda: trio.open_memory_channel(100))

    async def receive(self):
        return await self.incoming[1].receive()

    async def send(self, message):
        if self.stuck and message["type"] == "websocket.send":
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    def does(self, kind, **more):
        self.incoming[0].send_nowait({"type": f"websocket.{kind}", **more})


@pytest.fixture
def run():
    async def run(instance, client):
        with trio.fail_after(1000):
            await _Tunnel(instance, client.receive, client.send).run()

    return run


@pytest.mark.parametrize(
    ("left_with", "told"),
    [
        ({"code": 4000, "reason": "bye"}, (4000, "bye")),
        ({"code": 1000}, (1000, None)),
        ({"code": 1001, "reason": ""}, (1001, None)),
        ({}, (1005, None)),
        ({"code": 1006}, None),
    ],
)
async def test_the_instance_learns_how_the_client_left(run, autojump_clock, left_with, told):
    instance, client = Instance(), Client()
    client.does("receive", text="one")
    client.does("receive", bytes=b"two", text=None)
    client.does("receive", bytes=None, text="")
    client.does("disconnect", **left_with)
    await run(instance, client)
    assert instance.sent == ["one", b"two", ""]
    assert instance.closed == told
    assert client.sent == []


@pytest.mark.parametrize(
    ("left_with", "told"),
    [
        (WebSocketClosed(4000, "bye"), {"code": 4000, "reason": "bye"}),
        (WebSocketClosed(1005), {"code": 1000, "reason": ""}),
        (WebSocketClosed(1006), {"code": 1011, "reason": ""}),
        (WebSocketClosed(1012, "restart"), {"code": 1012, "reason": "restart"}),
    ],
)
async def test_the_client_learns_how_the_instance_left(run, autojump_clock, left_with, told):
    instance, client = Instance(), Client()
    instance.says("one")
    instance.says(b"")
    instance.says(left_with)
    await run(instance, client)
    assert client.sent == [
        {"type": "websocket.send", "text": "one"},
        {"type": "websocket.send", "bytes": b""},
        {"type": "websocket.close", **told},
    ]
    assert instance.closed is None


async def test_a_tunnel_that_is_cancelled_says_goodbye_to_the_instance(run, autojump_clock):
    instance, client = Instance(), Client()
    with trio.move_on_after(5) as scope:
        await run(instance, client)
    assert scope.cancelled_caught
    assert instance.closed == (1001, None)


async def test_an_instance_that_does_not_answer_pings_is_gone(run, autojump_clock):
    instance, client = Instance(answers_pings=False), Client()
    began = trio.current_time()
    await run(instance, client)
    assert trio.current_time() - began == PING_INTERVAL + PING_TIMEOUT
    assert client.sent == [{"type": "websocket.close", "code": 1011, "reason": ""}]


async def test_an_instance_that_does_not_even_read_is_gone_too(run, autojump_clock):
    instance, client = Instance(reads=False), Client()
    client.does("receive", text="nobody takes this")
    began = trio.current_time()
    await run(instance, client)
    assert trio.current_time() - began == PING_INTERVAL + PING_TIMEOUT
    assert client.sent == [{"type": "websocket.close", "code": 1011, "reason": ""}]


async def test_an_instance_that_reads_late_but_speaks_is_not_pinged_twice(run, autojump_clock):
    instance, client = Instance(reads=False), Client()
    with trio.move_on_after(500) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, instance, client)
            while True:
                await trio.sleep(PING_TIMEOUT / 2)
                instance.says("still here")
    assert scope.cancelled_caught
    assert instance.pings == 0


async def test_an_instance_that_answers_pings_or_says_something_stays(run, autojump_clock):
    for instance in (Instance(), Instance(answers_pings=False)):
        client = Client()
        with trio.move_on_after(500) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, instance, client)
                while not instance.answers_pings:
                    await trio.sleep(PING_TIMEOUT / 2)
                    instance.says("still here")
        assert scope.cancelled_caught
        assert instance.pings > 5


async def test_a_client_that_does_not_read_is_not_the_instances_fault(run, autojump_clock):
    instance, client = Instance(answers_pings=False), Client(stuck=True)
    instance.says("nobody takes this")
    with trio.move_on_after(500) as scope:
        await run(instance, client)
    assert scope.cancelled_caught
    assert client.sent == []
