"""Running a coroutine with other context variables than its task's."""

from __future__ import annotations

import contextvars
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def run_in_context(context: contextvars.Context, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run `coroutine` to its end in this task, but in `context`, as a task of its own would be: for a third of what a nursery and a task cost.

    Tasks that it starts copy `context`, too. Cancellation and exceptions go through as in a plain `await`.
    """
    step: Any = coroutine.send
    value: Any = None
    try:
        while True:
            trap = context.run(step, value)
            try:
                value = yield trap
                step = coroutine.send
            except BaseException as error:  # thrown in by trio: the coroutine's to handle
                step, value = coroutine.throw, error
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        del step, value, coroutine  # an error's traceback refers to this frame
