"""The time budget of a call: trio's cancel scopes carry it inside a process, a header carries what remains of it over HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from uait.errors import BadRequest, DeadlineExceeded

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
"""Whole milliseconds that the callee has, counted from when it reads the request's head."""


def remaining() -> float | None:
    """Seconds until this task is cancelled by a deadline; None where there is none, 0 where it is cancelled already."""
    deadline = trio.current_effective_deadline()
    if deadline == math.inf:
        return None
    return max(0.0, deadline - trio.current_time())


def to_header(seconds: float) -> str:
    """The header's value for `seconds`; at least 1, since a callee cannot do anything with 0."""
    return str(max(1, int(seconds * 1000)))


def from_header(value: str) -> float:
    """Seconds that the header's `value` grants.

    Raises:
        BadRequest: it is not a positive whole number.
    """
    if not (value.isascii() and value.isdigit()) or len(value) > 12 or int(value) == 0:
        raise BadRequest(f"{TIMEOUT_HEADER} must be a positive whole number of milliseconds.")
    return int(value) / 1000


@contextmanager
def within(seconds: float | None, message: str) -> Iterator[trio.CancelScope]:
    """Cancel the block after `seconds` (None: never) and raise `DeadlineExceeded(message)`.

    A deadline of somebody further out stays theirs: it cancels the block, and their scope decides what that means.
    """
    with trio.CancelScope(deadline=math.inf if seconds is None else trio.current_time() + seconds) as scope:
        yield scope
    if scope.cancelled_caught:
        raise DeadlineExceeded(message)
