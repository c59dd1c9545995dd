"""Ids that sort by time, and times that everybody reads the same way."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime

_AT_ONCE = 512

_drawn: Iterator[tuple[bytes]] = iter(())


def random8() -> bytes:
    """Eight random bytes of the system's, drawn many at a time: a system call for each would take longer than all that is made of them. Threads may call it."""
    global _drawn
    for (eight,) in _drawn:
        return eight
    drawn = os.urandom(8 * _AT_ONCE)
    # Each is cut off when it is asked for: hundreds of small objects that lie about keep as many arenas of Python's allocator from being given back.
    _drawn = struct.iter_unpack("8s", drawn[8:])
    return drawn[:8]


def _forget() -> None:
    global _drawn
    _drawn = iter(())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # or parent and child would make the same ids


def new_id() -> str:
    """A UUIDv7 as text (RFC 9562 section 5.7): 48 bits of Unix milliseconds, 12 of the fraction of one, then 62 random bits."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    tail = int.from_bytes(random8(), "big") >> 2
    # Written by hand: `uuid.UUID` takes twice as long, and every request makes an id.
    text = f"{milliseconds:012x}7{rest * 4096 // 1_000_000:03x}{2 << 62 | tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def utc_now() -> str:
    """The present as RFC 3339 in UTC with microseconds, ending in `Z`."""
    return format_time(datetime.now(UTC))


def format_time(moment: datetime) -> str:
    """`moment` as RFC 3339 in UTC, ending in `Z`; a moment without a zone is taken as UTC. Fixed width, so that texts sort as times do."""
    if moment.tzinfo is not UTC:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    # Without its zone: a moment that has one asks for "utcoffset" by a new string each time, which the interpreter's cache of attributes keeps, wherever in memory it is, for thousands of calls.
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
