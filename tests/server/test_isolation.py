from __future__ import annotations

import contextvars
import gc
import weakref

import pytest
import trio

from uait.server.isolation import run_in_context

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_each_side_has_its_own_variables():
    seen = []

    async def child():
        seen.append(variable.get())

    async def inside():
        seen.append(variable.get())
        variable.set("inner")
        await trio.lowlevel.checkpoint()
        seen.append(variable.get())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        seen.append(await trio.to_thread.run_sync(variable.get))
        return 7

    context = contextvars.copy_context()
    variable.set("outer")
    assert await run_in_context(context, inside()) == 7
    assert seen == ["unset", "inner", "inner", "inner"]
    assert variable.get() == "outer"


async def test_exceptions_come_out(autojump_clock):
    async def inside():
        await trio.sleep(1)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await run_in_context(contextvars.copy_context(), inside())


async def test_cancellation_goes_in_and_can_be_handled_inside(autojump_clock):
    ended = []

    async def inside():
        with trio.move_on_after(1):
            await trio.sleep_forever()
        ended.append("inner scope")
        try:
            await trio.sleep_forever()
        finally:
            ended.append("outer scope")

    with trio.move_on_after(2) as scope:
        await run_in_context(contextvars.copy_context(), inside())
    assert scope.cancelled_caught
    assert ended == ["inner scope", "outer scope"]


async def test_nothing_is_left_for_the_garbage_collector():
    async def inside():
        with trio.CancelScope() as scope:
            scope.cancel(reason="test")
            await trio.sleep_forever()

    gc.disable()
    try:
        coroutine = inside()
        reference = weakref.ref(coroutine)
        await run_in_context(contextvars.copy_context(), coroutine)
        del coroutine
        assert reference() is None
    finally:
        gc.enable()
