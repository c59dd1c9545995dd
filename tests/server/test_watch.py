"""Seeing what can be read, and who has gone, in both of the ways that systems have."""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from uait.server.watch import EpollWatch, PollingWatch, Watch

LOG = logging.getLogger("test")
KINDS = [pytest.param(EpollWatch, marks=pytest.mark.skipif(sys.platform != "linux", reason="epoll")), PollingWatch]


class Pair:
    """A connection: our side, which is watched, and the client's."""

    def __init__(self, watch: Watch, ours: trio.socket.SocketType, theirs: trio.SocketStream) -> None:
        self.watch = watch
        self.ours = ours
        self.theirs = theirs
        self.gone: list[str] = []
        self.watched = watch.add(ours, lambda: self.gone.append("gone"))

    async def read(self) -> bytes:
        while True:
            await self.watched.readable()
            try:
                return os.read(self.ours.fileno(), 65536)
            except BlockingIOError:
                continue

    async def until_gone(self) -> None:
        with trio.fail_after(2):
            while not self.gone:
                await trio.sleep(0.005)


@pytest.fixture(params=KINDS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        theirs = await trio.open_tcp_stream(*listener.getsockname())
        ours, _ = await listener.accept()
        with ours:
            async with theirs, trio.open_nursery() as nursery:
                watch = request.param(LOG)
                pair = Pair(watch, ours, theirs)
                nursery.start_soon(watch.run)
                yield pair
                pair.watched.close()
                nursery.cancel_scope.cancel(reason="the test is over")


async def test_what_comes_can_be_read(pair: Pair) -> None:
    for data in (b"one", b"two", b"three"):
        await pair.theirs.send_all(data)
        with trio.fail_after(2):
            assert await pair.read() == data
    assert pair.gone == []


async def test_a_reader_waits_until_something_comes(pair: Pair) -> None:
    with trio.move_on_after(0.1) as patience:
        await pair.read()
    assert patience.cancelled_caught
    await pair.theirs.send_all(b"late")
    with trio.fail_after(2):
        assert await pair.read() == b"late"


@pytest.mark.parametrize("way", ["end", "reset"])
async def test_the_end_right_behind_the_last_bytes_is_not_missed(pair: Pair, way: str) -> None:
    await pair.theirs.send_all(b"last")
    leave(pair.theirs, way)
    await trio.sleep(0.1)  # one event tells of both
    with trio.fail_after(2):
        assert await pair.read() == b"last"
        try:
            assert await pair.read() == b""
        except ConnectionResetError:
            assert way == "reset"


@pytest.mark.parametrize("way", ["end", "reset"])
async def test_who_goes_is_seen_while_nobody_reads_and_told_once(pair: Pair, way: str) -> None:
    leave(pair.theirs, way)
    await pair.until_gone()
    await trio.sleep(0.15)
    assert pair.gone == ["gone"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
async def test_also_behind_data_that_nobody_has_read(pair: Pair) -> None:
    if isinstance(pair.watch, PollingWatch):
        pytest.skip("it does not see that, and says so")
    await pair.theirs.send_all(b"x" * 10_000)
    await trio.sleep(0.05)
    assert pair.gone == []
    leave(pair.theirs, "end")
    await pair.until_gone()


async def test_a_socket_closed_under_a_reader_wakes_it(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with trio.fail_after(2):
                await pair.watched.readable()
                await pair.watched.readable()  # and does not let it wait again

        await trio.testing.wait_all_tasks_blocked(0.01)
        pair.ours.close()
        pair.watched.wake()


async def test_who_is_closed_is_not_told_of(pair: Pair) -> None:
    pair.watched.close()
    leave(pair.theirs, "end")
    await trio.sleep(0.15)
    assert pair.gone == []


async def test_an_app_that_fails_to_hear_of_it_costs_nobody_else_the_news(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("bug")

    pair.watched.hung_up = fail  # type: ignore[attr-defined]
    leave(pair.theirs, "end")
    with trio.fail_after(2):
        while "could not be acted upon" not in caplog.text:
            await trio.sleep(0.005)


def leave(stream: trio.SocketStream, way: str) -> None:
    if way == "reset":
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
    else:
        stream.socket.shutdown(socket.SHUT_WR)
