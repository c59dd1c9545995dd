"""Reading what providers send: any field may be missing, or something else than it should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from uait.llm import upstream


def load(provider: str, data: bytes) -> dict[str, Any]:
    """A JSON object, also where it is the only one of a list, as Google's errors may be.

    Raises:
        APIError: it is none.
    """
    try:
        payload = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise upstream.broken(provider, "sent something that is not JSON") from None
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]
    if not isinstance(payload, dict):
        raise upstream.broken(provider, "sent something that is not a JSON object")
    return payload


def child(value: Any) -> dict[str, Any]:
    """An object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def children(value: Any) -> Sequence[dict[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else ()


def text(value: Any) -> str:
    """A string; an empty one in place of anything else."""
    return value if isinstance(value, str) else ""


def count(value: Any) -> int:
    """A number of tokens."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def seconds(value: Any) -> int:
    """Unix seconds of a time as RFC 3339 has it, 0 where it is none."""
    try:
        return max(0, int(datetime.fromisoformat(str(value)).timestamp()))
    except (ValueError, OverflowError, OSError):
        return 0


def vectors(provider: str, rows: Any, texts: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """One vector for each text.

    Raises:
        APIError: that is not what `rows` are.
    """
    if not isinstance(rows, list) or len(rows) != len(texts):
        raise upstream.broken(provider, "sent no embeddings, or not as many as asked for")
    try:
        return tuple(tuple(float(number) for number in row) for row in rows)
    except (TypeError, ValueError):
        raise upstream.broken(provider, "sent embeddings that cannot be read") from None


def first_of(fields: Mapping[str, Any], *names: str) -> int | None:
    """The first of the fields that is an integer."""
    return next((fields[name] for name in names if isinstance(fields.get(name), int)), None)
