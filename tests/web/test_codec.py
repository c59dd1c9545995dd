"""JSON in and out."""

from __future__ import annotations

import contextlib
import enum
import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.errors import InvalidJSON
from uait.web.codec import MAX_DEPTH, MAX_VALUES, from_json, to_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert from_json(to_json(value)) == value


@given(PLAIN)
def test_other_writers_are_understood(value: Any) -> None:
    assert from_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidJSON):
        from_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'"\n"',
        b"01",
        b"1 2",
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidJSON):
        from_json(data)


def test_nul_is_a_character_of_texts() -> None:
    assert from_json(b'"a\\u0000b"') == "a\0b"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_is_bounded(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(levels: int) -> bytes:
        return opening * levels + b"1" + closing * levels

    assert from_json(nested(MAX_DEPTH))
    with pytest.raises(InvalidJSON, match="nested"):
        from_json(nested(MAX_DEPTH + 1))
    with pytest.raises(InvalidJSON, match="nested"):
        from_json(nested(90_000))


def test_what_is_accepted_can_be_written_again() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert to_json(from_json(deepest)) == deepest


def test_brackets_and_commas_in_texts_do_not_count() -> None:
    text = '[{"\\' * 100_000 + "," * (MAX_VALUES + 1)
    assert from_json(json.dumps([text]).encode()) == [text]


@pytest.mark.parametrize("unit", [b"1,", b"[],", b"{},", b'"",'])
def test_the_number_of_values_is_bounded(unit: bytes) -> None:
    with pytest.raises(InvalidJSON, match="more than"):
        from_json(b"[" + unit * MAX_VALUES + b"1]")


def test_a_text_that_never_ends_is_refused_in_time() -> None:
    with pytest.raises(InvalidJSON):
        from_json(b"[" * 200 + b'"' + b"\\" * 300_000)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@attrs.frozen
class Inner:
    when: datetime
    kind: Colour = Colour.RED


@attrs.frozen
class Outer:
    user_request: str = attrs.field(alias="userRequest")
    inner: Inner
    extra: Any = None


def test_attrs_instances_are_objects_under_their_aliases() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
    outer = Outer("x", Inner(moment), MappingProxyType({"t": (1, 2)}))
    assert json.loads(to_json(outer)) == {
        "userRequest": "x",
        "inner": {"when": "2026-01-02T03:04:05.006000Z", "kind": "red"},
        "extra": {"t": [1, 2]},
    }


def test_times_are_utc_and_end_in_z() -> None:
    moment = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert to_json([moment, date(2026, 1, 2)]) == b'["2025-12-31T23:00:00.000000Z","2026-01-02"]'


def test_what_json_lacks_has_a_form() -> None:
    assert to_json([math.nan, math.inf]) == b"[null,null]"
    assert to_json(frozenset({1})) == b"[1]"
    assert to_json([Level.HIGH, PurePosixPath("/a/b")]) == b'[3,"/a/b"]'
    assert to_json({1: "a"}) == b'{"1":"a"}'


@pytest.mark.parametrize("number", [2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400])
def test_integers_keep_all_their_digits(number: int) -> None:
    """A handler may give back a number from its path: `GET /numbers/23281783971789136195491064709120` was a 500."""
    assert to_json({"number": [number], number: None}) == f'{{"number":[{number}],"{number}":null}}'.encode()
    assert json.loads(to_json(number)) == number


def test_lone_surrogates_from_inside_become_replacement_characters() -> None:
    assert json.loads(to_json({"a\ud800": ["b\udfff", Inner(datetime(2026, 1, 1)), {"c": "\U0001f600"}]})) == {
        "a\ufffd": ["b\ufffd", {"when": "2026-01-01T00:00:00.000000Z", "kind": "red"}, {"c": "\U0001f600"}]
    }


def test_what_has_no_form_is_a_bug() -> None:
    with pytest.raises(TypeError):
        to_json(object())


@pytest.mark.parametrize(
    "rest",
    [b'"' + b'\\"' * 500_000, b'"\\\n' * 500_000, b"]" * 5_000_000, b'""' * 5_000_000],
    ids=["quotes", "lines", "brackets", "strings"],
)
def test_text_that_goes_wrong_is_not_looked_through_again_and_again(rest: bytes) -> None:
    # Many brackets make it worth a look. With one from every quote, this would take an hour.
    with pytest.raises(InvalidJSON):
        from_json(b"[" + b"[]," * MAX_DEPTH + rest)
