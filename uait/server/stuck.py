"""Where a task hangs, for the report of what had to be abandoned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import trio

from uait.server.isolation import run_in_context

_TRIO = os.path.dirname(trio.__file__)
_RUN_IN_CONTEXT: CodeType = run_in_context.__code__


def where(task: trio.lowlevel.Task) -> str:
    """What `task` and the tasks below it wait for, each as "function (file:line)", the innermost frame outside of trio."""
    places = [place(one) for one in _leaves(task)]
    return ", ".join(dict.fromkeys(places))


def _leaves(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [leaf for child in children for leaf in _leaves(child)] or [task]


def place(task: trio.lowlevel.Task) -> str:
    """What `task` itself waits for, as `where` has it, whatever the tasks below it do."""
    last: tuple[CodeType, int] | None = None
    for frame, line in _await_frames(task.coro):
        if not frame.f_code.co_filename.startswith(_TRIO):
            last = frame.f_code, line
    if last is None:
        return task.name
    code, line = last
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line})"


def _await_frames(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """As trio's `Task.iter_await_frames`, but through `run_in_context`, too, which does not await what it runs."""
    frame: FrameType | None = None
    for frame, line in trio.lowlevel.Task.iter_await_frames(_Awaiting(coroutine)):  # type: ignore[arg-type]
        yield frame, line
    if frame is not None and frame.f_code is _RUN_IN_CONTEXT:
        yield from _await_frames(frame.f_locals["coroutine"])


class _Awaiting:
    """As much of a task as trio looks at."""

    def __init__(self, coro: Any) -> None:
        self.coro = coro
