"""Crash reports that a person can read: exception groups flattened to what really went wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import TracebackType

import trio

_OURS = (os.path.dirname(__file__) + os.sep, os.path.dirname(trio.__file__) + os.sep, contextlib.__file__)
"""Where the frames lie through which a crash comes on its way from the service to its supervisor."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside `error` that are no groups, and no mere cancellations, in order."""
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    elif not isinstance(error, trio.Cancelled):
        yield error


def split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Divide `error` into what a supervisor may judge and what it must let through.

    Returns:
        (crash, rest): the `Exception` part, and the rest (KeyboardInterrupt, SystemExit, Cancelled, ...); either may be None.
    """
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)
    return (error, None) if isinstance(error, Exception) else (None, error)


def describe(error: BaseException) -> str:
    """`error` in one line: every leaf, each with the causes behind it.

    hypercorn's lifespan errors carry the real cause only in `__context__`, so that is followed where there is no `__cause__`.
    """
    return "; ".join(" <- ".join(_chain(leaf)) for leaf in leaves(error)) or type(error).__name__


def own_traceback(error: BaseException) -> ExcInfo:
    """`error` as a log takes it (`exc_info`): where it stands for one exception, that one, from the first frame on that is not the kernel's own."""
    found = list(leaves(error))
    one = found[0] if len(found) == 1 else error
    at = one.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_OURS):
        at = at.tb_next
    return type(one), one, at or one.__traceback__


def _chain(error: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < 8:
        seen.add(id(at))
        if isinstance(at, BaseExceptionGroup):
            yield describe(at)
            return
        text = " ".join(str(at).split())[:500]
        yield f"{type(at).__name__}: {text}" if text else type(at).__name__
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
