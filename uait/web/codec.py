"""JSON in and out of the wire: what is accepted as JSON, and how our values are written."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Set
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import attrs
import orjson

from uait.errors import InvalidJSON
from uait.storage.ids import format_time
from uait.web.memo import memo

MAX_DEPTH = 100
"""Levels of nesting taken from outside. What is stored can then be written again: orjson's writer ends at 254."""

MAX_VALUES = 200_000
"""Members and items taken in one document: 32 MiB of `[],[],` would otherwise become a gigabyte of objects."""

_TOKEN = re.compile(rb'(?s)"(?:[^"\\]++|\\.)*+"?|[][{},]')
"""A bracket, a comma, or a string. One that never ends is passed over in one go, too, instead of being looked through again from every quote in it."""


def from_json(data: bytes) -> Any:
    """Decode JSON from outside.

    NaN, infinities, lone surrogates, bytes that are not UTF-8, nesting over `MAX_DEPTH` and more than `MAX_VALUES` values are refused.

    Raises:
        InvalidJSON: with what is wrong, and where.
    """
    opened = data.count(b"[") + data.count(b"{")
    if opened > MAX_DEPTH or opened + data.count(b",") > MAX_VALUES:
        _check_size(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not valid JSON: {error}.") from None


def _check_size(data: bytes) -> None:
    """Look at the brackets and commas outside of strings, before any object is made, and no further than a document of `MAX_VALUES` goes."""
    depth = values = strings = 0
    for token in _TOKEN.finditer(data):
        match data[token.start()]:
            case 0x22:  # a quote
                strings += 1
            case 0x2C:  # a comma
                values += 1
            case 0x5B | 0x7B:
                values += 1
                depth += 1
            case _:
                depth -= 1
        if values > MAX_VALUES:
            raise InvalidJSON(f"The JSON document has more than {MAX_VALUES} values.")
        if depth > MAX_DEPTH:
            raise InvalidJSON(f"The JSON document is nested more than {MAX_DEPTH} levels deep.")
        if depth < 0 or strings > 2 * MAX_VALUES + 1:
            return  # no JSON, whatever follows: the parser will say so


def to_json(value: Any) -> bytes:
    """Write `value` as JSON.

    attrs instances become objects whose keys are their fields' aliases, times RFC 3339 in UTC ending in `Z`, enums their values, sets lists, NaN null.
    Integers are written with all their digits (RFC 8259 section 6 sets no limit; many readers, orjson's too, make floats of those beyond 64 bits).

    Raises:
        TypeError: something in it has no JSON form.
    """
    try:
        return orjson.dumps(value, _plain, _OPTIONS)
    except TypeError:
        # Rare shapes: keys that are not text, text with lone surrogates (from operating systems and careless providers), integers beyond 64 bits.
        return orjson.dumps(_mended(value), _plain, _OPTIONS | orjson.OPT_NON_STR_KEYS)


_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


@memo
def json_fields(cls: type[Any]) -> tuple[tuple[str, str], ...]:
    """The (JSON key, attribute) pairs of an attrs class."""
    return tuple((field.alias or field.name, field.name) for field in attrs.fields(cls))


_BASES: tuple[Any, ...] = (str, int, float, list)
"""A subclass of these is written as they are."""


def _plain(value: Any) -> Any:
    """One level of what orjson does not know."""
    kind = type(value)
    if attrs.has(kind):
        return {key: getattr(value, name) for key, name in json_fields(kind)}
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Set, tuple)):
        return list(value)
    for base in _BASES:
        if isinstance(value, base):
            return base(value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{kind.__name__} has no JSON form")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(f"{value:d}")
    if isinstance(value, Mapping):
        return {_mended_key(key): _mended(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [_mended(item) for item in value]
    if attrs.has(type(value)):
        return _mended(_plain(value))
    return value


def _mended_key(key: Any) -> Any:
    mended = _mended(key)
    return f"{key:d}" if isinstance(mended, orjson.Fragment) else mended
