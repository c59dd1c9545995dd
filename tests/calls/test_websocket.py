"""The WebSocket to an instance, against one that follows a script."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest
import trio
import trio.testing
from trio.testing import memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from uait.calls.duplex import NoAnswer
from uait.calls.pool import Pool
from uait.calls.remote import Instance
from uait.calls.websocket import MESSAGE_BYTES, WebSocket, WebSocketClosed, open_websocket
from uait.errors import Forbidden, UpstreamError

SOON = 5.0


class Server:
    """The other end."""

    def __init__(self, stream):
        self.stream = stream
        self.wire = WSConnection(ConnectionType.SERVER)
        self.events = []

    async def next(self):
        with trio.fail_after(SOON):
            while not self.events:
                self.wire.receive_data(bytes(await self.stream.receive_some()) or None)
                self.events = list(self.wire.events())
        return self.events.pop(0)

    async def send(self, *events):
        await self.stream.send_all(b"".join(self.wire.send(event) for event in events))


@pytest.fixture
async def pair():
    """A client and a server that have shaken hands."""
    ours, theirs = memory_stream_pair()
    websocket, server = WebSocket(ours), Server(theirs)
    with trio.fail_after(SOON):
        await shake_hands(websocket, server)
    assert websocket.subprotocol == "two"
    return websocket, server


async def shake_hands(websocket, server):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(websocket.handshake, "echo:1", "/ws?x=1", ["one", "two"], [(b"x-user-id", b"me")], "echo")
        request = await server.next()
        assert isinstance(request, Request)
        assert (request.target, request.host, request.subprotocols) == ("/ws?x=1", "echo:1", ["one", "two"])
        assert (b"x-user-id", b"me") in request.extra_headers
        await server.send(AcceptConnection(subprotocol="two"))


async def test_a_message_in_parts_arrives_whole(pair):
    websocket, server = pair
    await server.send(TextMessage("grü", message_finished=False), Ping(b"now"), TextMessage("ße"))
    await server.send(BytesMessage(b"\x00", message_finished=False), BytesMessage(b"\xff"))
    await server.send(BytesMessage(b""), TextMessage(""))
    received = [await websocket.receive() for _ in range(4)]
    assert received == ["grüße", b"\x00\xff", b"", ""]
    assert [type(message) for message in received] == [str, bytes, bytes, str]


async def test_a_message_costs_no_more_than_its_bytes(pair):
    websocket, server = pair
    tracemalloc.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.receive)
            await server.send(BytesMessage(b"", message_finished=False))
            before = 0
            for turn in range(6):
                await server.stream.send_all(b"\x00\x00" * 3000)  # fragments, empty ones
                await trio.testing.wait_all_tasks_blocked()
                before = before if turn else tracemalloc.get_traced_memory()[0]
            assert tracemalloc.get_traced_memory()[0] - before < 60_000
            nursery.cancel_scope.cancel(reason="seen")
    finally:
        tracemalloc.stop()


async def test_pings_are_answered_and_answers_to_ours_are_a_sign_of_life(pair, mock_clock):
    websocket, server = pair
    await server.send(Ping(b"now"), TextMessage("x"))
    await websocket.receive()
    assert await server.next() == Pong(b"now")
    await websocket.ping()
    assert await server.next() == Ping(b"")
    before = websocket.last_heard
    await trio.lowlevel.checkpoint()
    mock_clock.jump(3)
    await server.send(Pong(b""), TextMessage("y"))
    await websocket.receive()
    assert websocket.last_heard - before == 3


async def test_the_others_close_is_answered_and_told(pair):
    websocket, server = pair
    await server.send(CloseConnection(4000, "bye"))
    with pytest.raises(WebSocketClosed) as caught, trio.fail_after(SOON):
        await websocket.receive()
    assert (caught.value.code, caught.value.reason) == (4000, "bye")
    assert isinstance(await server.next(), CloseConnection)
    for act in (websocket.send("late"), websocket.ping(), websocket.receive()):
        with pytest.raises(WebSocketClosed):
            await act
    await websocket.close()


@pytest.mark.parametrize(("code", "seen"), [(1000, 1000), (4000, 4000), (1005, 1000), (1001, 1001)])
async def test_our_close_carries_its_code(pair, code, seen):
    websocket, server = pair
    await websocket.close(code)
    assert (await server.next()).code == seen


async def test_nothing_follows_a_message_that_was_cut_off(pair, monkeypatch):
    websocket, server = pair
    send_all = websocket._stream.send_all

    async def half(data):
        await send_all(data[:-8])  # as much as the other side takes
        await trio.sleep_forever()

    monkeypatch.setattr(websocket._stream, "send_all", half)
    with trio.move_on_after(0.01):
        await websocket.send(b"x" * 1000)
    monkeypatch.undo()
    # A close frame has eight bytes, too: with it the message would be complete, and wrong.
    await websocket.close(1001)
    with pytest.raises(WebSocketClosed):
        await websocket.ping()
    await websocket._stream.aclose()
    while not isinstance(event := await server.next(), CloseConnection):
        assert not event.message_finished
    assert event.code == 1006


@pytest.mark.parametrize(
    ("said", "code"),
    [(None, 1006), (b"\xff" * 20, 1002), (b"\x81\x02\xff\xff", 1007)],
    ids=["nothing more", "no frames", "no UTF-8"],
)
async def test_a_connection_that_is_lost_or_talks_nonsense_is_closed(pair, said, code):
    websocket, server = pair
    if said is None:
        await server.stream.aclose()
    else:
        await server.stream.send_all(said)
    with pytest.raises(WebSocketClosed) as caught:
        await websocket.receive()
    assert caught.value.code == code


async def test_a_message_over_the_limit_is_refused(pair, monkeypatch):
    monkeypatch.setattr("uait.calls.websocket.MESSAGE_BYTES", 10)
    websocket, server = pair
    await server.send(TextMessage("12345678901"))
    with pytest.raises(WebSocketClosed) as caught:
        await websocket.receive()
    assert caught.value.code == 1009
    assert (await server.next()).code == 1009
    assert MESSAGE_BYTES > 10


async def refusing(status, body=b"", ended=True):
    ours, theirs = memory_stream_pair()
    websocket, server = WebSocket(ours), Server(theirs)
    async with trio.open_nursery() as nursery:

        async def refuse():
            await server.next()
            await server.send(
                RejectConnection(status_code=status, has_body=True), RejectData(body, body_finished=ended)
            )
            if not ended:
                await server.stream.aclose()

        nursery.start_soon(refuse)
        with trio.fail_after(SOON):
            await websocket.handshake("echo", "/ws", [], [], "echo")


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (403, orjson.dumps(Forbidden("Not you.").as_dict()), Forbidden, r"Not you\."),
        (403, b"<html>", Forbidden, "echo answered 403"),
        (200, b"hello", UpstreamError, "does not speak WebSocket"),
    ],
)
async def test_a_refusal_is_the_error_that_it_was(status, body, error, text):
    with pytest.raises(BaseExceptionGroup) as caught:
        await refusing(status, body)
    assert caught.group_contains(error, match=text)


# Real sockets


@pytest.fixture
def listen(nursery):
    async def listen(handler):
        async def serve(stream):
            async with stream:
                await handler(stream)

        [listener] = await nursery.start(
            trio.serve_listeners, serve, await trio.open_tcp_listeners(0, host="127.0.0.1")
        )
        return Instance("127.0.0.1", listener.socket.getsockname()[1])

    return listen


async def test_what_does_not_answer_the_handshake_is_no_answer(listen, monkeypatch):
    monkeypatch.setattr("uait.calls.websocket.HANDSHAKE_TIMEOUT", 0.1)
    left = trio.Event()

    async def hang(stream):
        while await stream.receive_some():
            pass
        left.set()

    instance = await listen(hang)
    with trio.fail_after(SOON):
        with pytest.raises(NoAnswer):
            async with open_websocket(Pool(), instance, b"/", [], [], name="echo"):
                raise AssertionError("there is nothing to talk to")
        await left.wait()


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 101 Nonsense\r\n\r\n"])
async def test_what_does_not_speak_websocket_is_no_answer(listen, said):
    async def talk(stream):
        await stream.receive_some()
        await stream.send_all(said)

    instance = await listen(talk)
    with trio.fail_after(SOON), pytest.raises(NoAnswer):
        async with open_websocket(Pool(), instance, b"/", [], [], name="echo"):
            raise AssertionError("there is nothing to talk to")


async def test_leaving_the_block_closes_the_connection(listen):
    left = trio.Event()

    async def accept(stream):
        server = Server(stream)
        await server.next()
        await server.send(AcceptConnection())
        while await stream.receive_some():
            pass
        left.set()

    instance = await listen(accept)
    with trio.fail_after(SOON):
        async with open_websocket(Pool(), instance, b"/", [], [], name="echo"):
            pass
        await left.wait()
