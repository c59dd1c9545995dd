"""A nursery for tasks that serve a block, and end with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_helpers(reason: str) -> AsyncIterator[trio.Nursery]:
    """Give a nursery whose tasks are cancelled, for `reason`, when the block ends in whatever way.

    Other than with a plain nursery, an exception of the block comes out as it is, not in a group: callers of an API need not know how many tasks it
    takes. The tasks must handle their own exceptions; one that does not is a bug, whose group replaces the block's exception.
    """
    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    try:
        yield nursery
    except BaseException:
        nursery.cancel_scope.cancel(reason=reason)
        try:
            await manager.__aexit__(None, None, None)
        except* trio.Cancelled:
            pass  # of a task, from further out: what the block raises, and be it the same, is what counts
        raise
    nursery.cancel_scope.cancel(reason=reason)
    await manager.__aexit__(None, None, None)
