"""Sending to clients who read slowly, or never, on sockets for which no option of the system helps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from uait.server.writer import Writer

LARGE = b"x" * 3_000_000


@pytest.fixture
def pair() -> Iterator[tuple[trio.SocketStream, trio.SocketStream]]:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        yield trio.SocketStream(ours), trio.SocketStream(theirs)


Pair = tuple[trio.SocketStream, trio.SocketStream]


async def take(stream: trio.SocketStream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = await stream.receive_some(65536)
        assert piece
        data += piece
    return bytes(data)


async def test_who_never_reads_is_lost(pair: Pair) -> None:
    writer = Writer(pair[0], 0.2)
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
        await writer.write(LARGE)
    assert writer.lost
    with pytest.raises(trio.BrokenResourceError):
        await writer.write(b"more")
    assert pair[0].socket.fileno() == -1


async def test_who_reads_slowly_is_not(pair: Pair) -> None:
    writer = Writer(pair[0], 0.3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, LARGE)
        taken = 0
        while taken < len(LARGE):
            taken += len(await pair[1].receive_some(400_000))
            await trio.sleep(0.05)
    assert not writer.lost


async def test_who_has_gone_is_lost(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    await pair[1].aclose()
    with pytest.raises(trio.BrokenResourceError):
        await writer.write(b"x")
    assert writer.lost


async def test_waiting_ends_when_the_socket_is_closed_under_it(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await writer.write(LARGE)

            await trio.sleep(0.1)
            writer.reset()


async def test_what_a_cancelled_task_leaves_goes_out_before_what_comes_next(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    first = b"a" * 200_000
    pair[0].socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    with trio.move_on_after(0.1) as scope:
        await writer.write(first)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, b"b" * 100)
        nursery.start_soon(writer.write, b"b" * 100)
        assert await take(pair[1], len(first) + 200) == first + b"b" * 200


async def test_who_is_behind_by_too_much_that_was_given_up_is_lost(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    with trio.move_on_after(0.1):
        await writer.write(LARGE)
    assert writer.lost


async def test_who_has_caught_up_since_somebody_gave_up_is_not(pair: Pair) -> None:
    writer = Writer(pair[0], 0.2)
    pair[0].socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    with trio.move_on_after(0.1):
        await writer.write(b"a" * 100_000)
    await trio.sleep(0.3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.write, b"b")
        assert (await take(pair[1], 100_001)).endswith(b"ab")
    assert not writer.lost


async def test_writers_at_once_do_not_mix_their_bytes(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    pieces = [bytes([i]) * 50_000 for i in range(50)]
    async with trio.open_nursery() as nursery:
        for piece in pieces:
            nursery.start_soon(writer.write, piece)
        data = await take(pair[1], 50 * 50_000)
    assert sorted(data[i : i + 50_000] for i in range(0, len(data), 50_000)) == pieces


async def test_bytes_go_directly_only_where_nothing_waits(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    direct = writer.direct
    assert direct is not None
    assert direct.__self__ is pair[0].socket._sock  # type: ignore[attr-defined]  # or each delivery costs a tenth more
    assert direct(b"now") == 3
    assert not writer.write_nowait(LARGE)
    assert writer.direct is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.flush)
        assert await take(pair[1], 3 + len(LARGE)) == b"now" + LARGE
    assert writer.direct == direct
    writer.reset()
    assert writer.direct is None


async def test_bytes_go_directly_to_nobody_else_when_the_socket_is_closed_under_us(pair: Pair) -> None:
    writer = Writer(pair[0], 5)
    await pair[0].aclose()
    ours, theirs = trio.socket.socketpair()  # which has the number that has become free
    with ours, theirs:
        with pytest.raises(trio.BrokenResourceError):
            writer.write_nowait(b"secret")
        with pytest.raises(BlockingIOError):
            theirs._sock.recv(10)  # type: ignore[attr-defined]
        with pytest.raises(BlockingIOError):
            ours._sock.recv(10)  # type: ignore[attr-defined]
    assert writer.lost
