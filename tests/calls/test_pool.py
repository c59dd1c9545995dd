from __future__ import annotations

import pytest
import trio

from uait.calls.pool import Pool


@pytest.fixture
async def origins():
    """Origins that accept connections and say nothing."""
    listeners = [(await trio.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(2)]
    yield [("http", "127.0.0.1", listener.socket.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        await listener.aclose()


async def test_what_can_serve_again_is_kept_the_last_one_first(origins):
    pool = Pool()
    assert pool.take(origins[0]) is None
    one, two = [await pool.connect(origins[0]) for _ in range(2)]
    pool.give_back(one, reusable=True)
    pool.give_back(two, reusable=True)
    assert pool.take(origins[1]) is None
    assert [pool.take(origins[0]) for _ in range(3)] == [two, one, None]
    pool.give_back(one, reusable=False)
    assert pool.take(origins[0]) is None
    two.close()
    pool.close()


async def test_only_so_many_are_kept(origins):
    pool = Pool(idle_per_origin=2)
    connections = [await pool.connect(origins[0]) for _ in range(3)]
    for connection in connections:
        pool.give_back(connection, reusable=True)
    assert [connection.quiet() for connection in connections] == [False, True, True]
    pool.close()


async def test_only_so_many_are_kept_in_all(origins):
    pool = Pool(idle=2)
    connections = [await pool.connect(origin) for origin in (*origins, *origins)]
    for connection in connections:
        pool.give_back(connection, reusable=True)
    assert sum(connection.quiet() for connection in connections) == 2
    pool.close()


async def test_giving_back_closes_what_is_kept_too_long(origins, mock_clock):
    pool = Pool(idle_timeout=10)
    old, new = [await pool.connect(origin) for origin in origins]
    pool.give_back(old, reusable=True)
    mock_clock.jump(11)
    pool.give_back(new, reusable=True)
    assert not old.quiet()
    pool.close()


async def test_what_is_kept_too_long_is_closed(origins, mock_clock):
    pool = Pool(idle_timeout=10)
    old = await pool.connect(origins[0])
    pool.give_back(old, reusable=True)
    mock_clock.jump(11)
    assert pool.take(origins[0]) is None
    assert not old.quiet()


async def test_an_origin_that_nobody_asks_for_again_keeps_nothing_open(origins, mock_clock):
    pool = Pool(idle_timeout=10)
    old = await pool.connect(origins[0])
    pool.give_back(old, reusable=True)
    mock_clock.jump(11)
    new = await pool.connect(origins[1])
    assert not old.quiet()
    new.close()


async def test_a_closed_pool_keeps_nothing(origins):
    pool = Pool()
    kept, used = [await pool.connect(origins[0]) for _ in range(2)]
    pool.give_back(kept, reusable=True)
    pool.close()
    pool.give_back(used, reusable=True)
    assert not kept.quiet()
    assert not used.quiet()
