"""What metadata tells under the usual names: when something was, in which session, at which place in it, and who says it. Pure.

Names are taken as they are written anywhere: `session_id`, `Session ID`, `sessionId` are one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import attrs

from uait.services.memory.times import has_clock, read_moment, with_clock

TIME_KEYS = (
    "occurred_at", "timestamp", "datetime", "date_time", "session_date_time", "session_datetime", "date", "session_date", "created_at",
    "created", "sent_at", "time", "session_time", "when", "at", "ts", "day",
)  # fmt: skip
"""Where it says when something was, the surest first."""

SESSION_KEYS = (
    "conversation_id", "conversation", "dialogue_id", "dialog_id", "thread_id", "chat_id", "run_id", "session_id", "session", "session_number",
    "session_name", "session_index",
)  # fmt: skip
"""Where it says which session a memory belongs to; where there are several, they tell it together."""

TURN_KEYS = (
    "turn", "turn_index", "turn_number", "turn_id", "message_index", "utterance", "dia_id", "position", "index", "idx", "order",
)  # fmt: skip
"""Where it says its place in the session."""

SPEAKER_KEYS = ("speaker", "speaker_name", "author", "sender", "from", "name", "user_name", "username", "person")
"""Where it says who speaks."""

_LAST_NUMBER = re.compile(r"(\d{1,9})\D*$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_REMEMBERED = 1000
"""Characters of all names together: longer lists of them are gone through each time, so that what is remembered stays small."""


@attrs.frozen
class _Keys:
    """Which of the names that metadata has say what: each as it is usual, and as it is written."""

    times: tuple[tuple[str, str], ...]
    sessions: tuple[tuple[str, str], ...]
    turns: tuple[tuple[str, str], ...]
    speakers: tuple[tuple[str, str], ...]
    clock: str | None


def _keys(metadata: Mapping[str, Any]) -> _Keys:
    written = tuple(metadata)
    return _known_keys(written) if sum(map(len, written)) <= _REMEMBERED else _find_keys(written)


def _find_keys(written: tuple[str, ...]) -> _Keys:
    usual = {_HUMP.sub("_", key).lower().replace("-", "_").replace(" ", "_"): key for key in written}

    def found(keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((key, usual[key]) for key in keys if key in usual)

    return _Keys(found(TIME_KEYS), found(SESSION_KEYS), found(TURN_KEYS), found(SPEAKER_KEYS), usual.get("time"))


# The memories of one client have the same names again and again.
_known_keys = lru_cache(maxsize=256)(_find_keys)


def moment_of(metadata: Mapping[str, Any]) -> datetime | None:
    """When something was said or done; None where it does not say."""
    if not metadata:
        return None
    keys = _keys(metadata)
    for name, key in keys.times:
        if (value := metadata[key]) is not None and (found := read_moment(value)) is not None:
            clock = metadata[keys.clock] if keys.clock is not None else None
            if name.endswith(("date", "day")) and isinstance(clock, str) and not has_clock(value):
                found = with_clock(found, clock)
            return found
    return None


def session_of(metadata: Mapping[str, Any]) -> list[str]:
    """What says which session it belongs to; nothing where there is none."""
    found = []
    for name, key in _keys(metadata).sessions if metadata else ():
        value = metadata[key]
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            found.append(f"{name}={value}")
    return found


def place_of(metadata: Mapping[str, Any]) -> int | None:
    """Its place in the session."""
    for _, key in _keys(metadata).turns if metadata else ():
        value = metadata[key]
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float) and abs(value) < 2**40:
            return int(value)
        if isinstance(value, str) and (match := _LAST_NUMBER.search(value[-40:])):
            return int(match[1])
    return None


def speaker_of(metadata: Mapping[str, Any]) -> str:
    """Who says it, as far as the metadata tells."""
    for _, key in _keys(metadata).speakers if metadata else ():
        value = metadata[key]
        if isinstance(value, str) and 0 < len(value) <= 64:
            return value
    return ""
