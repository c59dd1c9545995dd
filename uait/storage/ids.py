"""Ids that sort by time, and times that everybody reads the same way."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime


def new_id() -> str:
    """A UUIDv7 as text (RFC 9562 section 5.7): 48 bits of Unix milliseconds, 12 of the fraction of one, then 62 random bits."""
    now = time.time_ns()
    milliseconds, rest = divmod(now, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    tail = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return str(uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (fraction << 64) | (2 << 62) | tail))


def utc_now() -> str:
    """The present as RFC 3339 in UTC with microseconds, ending in `Z`."""
    return format_time(datetime.now(UTC))


def format_time(moment: datetime) -> str:
    """`moment` as RFC 3339 in UTC, ending in `Z`; a moment without a zone is taken as UTC. Fixed width, so that texts sort as times do."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return (
        moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if moment.year >= 1000
        else f"{moment.year:04d}{moment.strftime('-%m-%dT%H:%M:%S.%fZ')}"
    )
