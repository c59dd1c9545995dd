"""Where a task hangs, for the report of what had to be abandoned."""

from __future__ import annotations

import os
from types import CodeType

import trio

_TRIO = os.path.dirname(trio.__file__)


def where(task: trio.lowlevel.Task) -> str:
    """What `task` and the tasks below it wait for, each as "function (file:line)", the innermost frame outside of trio."""
    places = [_place(one) for one in _leaves(task)]
    return ", ".join(dict.fromkeys(places))


def _leaves(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [leaf for child in children for leaf in _leaves(child)] or [task]


def _place(task: trio.lowlevel.Task) -> str:
    last: tuple[CodeType, int] | None = None
    for frame, line in task.iter_await_frames():
        if not frame.f_code.co_filename.startswith(_TRIO):
            last = frame.f_code, line
    if last is None:
        return task.name
    code, line = last
    return f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{line})"
