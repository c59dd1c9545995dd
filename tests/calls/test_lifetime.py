"""What comes out of a block with helpers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from uait.calls.lifetime import open_helpers


async def test_a_cancellation_comes_out_bare():
    with trio.CancelScope() as scope, pytest.raises(trio.Cancelled):
        async with open_helpers("the test ends") as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="test")
            await trio.sleep_forever()
    assert not scope.cancelled_caught


async def test_what_the_block_raises_comes_out_also_where_it_is_cancelled():
    with trio.CancelScope() as scope, pytest.raises(LookupError, match="mine"):
        async with open_helpers("the test ends") as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="test")
            raise LookupError("mine")
    assert not scope.cancelled_caught


async def test_a_cancellation_of_the_helpers_alone_goes_on():
    with trio.CancelScope() as scope:
        async with open_helpers("the test ends") as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="test")
    assert scope.cancelled_caught


async def test_a_helpers_own_failure_is_not_hidden():
    async def fail():
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError

    with trio.CancelScope() as scope, pytest.RaisesGroup(ZeroDivisionError):
        async with open_helpers("the test ends") as nursery:
            nursery.start_soon(fail)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="test")
            raise LookupError
