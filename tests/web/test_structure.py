"""Data from outside, checked against attrs classes."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Literal, NewType

import attrs
import pytest
from attrs import validators
from hypothesis import given
from hypothesis import strategies as st

from uait.errors import Problem, ValidationFailed
from uait.web import identifier
from uait.web.structure import structure, taker


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Item:
    id: str
    count: int = 1


@attrs.frozen
class Tree:
    name: str
    children: list[Tree] = attrs.field(factory=list)


UserId = NewType("UserId", str)


@attrs.frozen
class Everything:
    text: str
    number: int = 0
    fraction: float = 0.0
    flag: bool = False
    colour: Colour = Colour.RED
    mode: Literal["a", "b", 3] = "a"
    maybe: str | None = None
    either: int | str = 0
    items: list[Item] = attrs.field(factory=list)
    tags: tuple[str, ...] = ()
    pair: tuple[int, str] = (0, "")
    names: frozenset[str] = frozenset()
    sequence: Sequence[int] = ()
    table: dict[str, int] = attrs.field(factory=dict)
    free: Mapping[str, Any] = attrs.field(factory=dict)
    anything: Any = None
    when: datetime | None = None
    day: date | None = None
    user: UserId = UserId("")
    noted: Annotated[int, "a note"] = 0
    tree: Tree | None = None
    user_request: str = attrs.field(default="", alias="userRequest")


def problems(data: Any, cls: Any) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        structure(data, cls)
    assert caught.value.http_status == 422
    return {problem.where: problem.message for problem in caught.value.problems}


def test_every_kind_of_field() -> None:
    value = structure(
        {
            "text": "a\0b",
            "number": -(2**53) + 1,
            "fraction": 2,
            "flag": True,
            "colour": "blue",
            "mode": 3,
            "maybe": None,
            "either": "x",
            "items": [{"id": "1"}, {"id": "2", "count": 5}],
            "tags": ["a"],
            "pair": [1, "b"],
            "names": ["n", "n"],
            "sequence": [1],
            "table": {"a": 1},
            "free": {"a": [1, {}]},
            "anything": [None],
            "when": "2026-01-31T12:00:00+02:00",
            "day": "2026-01-31",
            "user": "u",
            "noted": 1,
            "tree": {"name": "root", "children": [{"name": "leaf"}]},
            "userRequest": "r",
            "unknown": 1,
        },
        Everything,
    )
    assert value == Everything(
        text="a\0b",
        number=-(2**53) + 1,
        fraction=2.0,
        flag=True,
        colour=Colour.BLUE,
        mode=3,
        either="x",
        items=[Item("1"), Item("2", 5)],
        tags=("a",),
        pair=(1, "b"),
        names=frozenset({"n"}),
        sequence=[1],
        table={"a": 1},
        free={"a": [1, {}]},
        anything=[None],
        when=datetime(2026, 1, 31, 10, tzinfo=UTC),
        day=date(2026, 1, 31),
        user=UserId("u"),
        noted=1,
        tree=Tree("root", [Tree("leaf")]),
        userRequest="r",
    )
    assert type(value.fraction) is float
    assert value.when is not None
    assert value.when.tzinfo is UTC


@pytest.mark.parametrize(
    ("field", "data", "message"),
    [
        ("text", 1, "must be a string"),
        ("text", None, "must be a string"),
        ("text", "\ud800", "must not contain lone surrogates"),
        ("number", "5", "must be an integer"),
        ("number", 1.5, "must be an integer"),
        ("number", 1e300, "must be between -9007199254740991 and 9007199254740991"),
        ("number", float("inf"), "must be an integer"),
        ("number", True, "must be an integer"),
        ("number", 2**53, "must be between -9007199254740991 and 9007199254740991"),
        ("fraction", "1.5", "must be a number"),
        ("fraction", True, "must be a number"),
        ("fraction", float("nan"), "must be a number"),
        ("fraction", float("inf"), "must be a number"),
        ("fraction", 10**400, "must be a number"),
        ("flag", 1, "must be true or false"),
        ("flag", "true", "must be true or false"),
        ("colour", "green", "must be one of red, blue"),
        ("colour", ["red"], "must be one of red, blue"),
        ("mode", True, "must be one of a, b, 3"),
        ("mode", 3.5, "must be one of a, b, 3"),
        ("maybe", 1, "must be a string"),
        ("either", 1.5, "must be an integer, or must be a string"),
        ("items", {"0": {}}, "must be an array"),
        ("items", "abc", "must be an array"),
        ("tags", "abc", "must be an array"),
        ("pair", [1], "must be an array of 2 items"),
        ("table", [["a", 1]], "must be an object"),
        ("free", "x", "must be an object"),
        ("when", "2026-01-31T12:00:00", "must be an RFC 3339 time with an offset, as 2026-01-31T12:00:00Z"),
        ("when", "2026-13-31T12:00:00Z", "must be an RFC 3339 time with an offset, as 2026-01-31T12:00:00Z"),
        ("when", "0001-01-01T00:00:00+23:00", "must be an RFC 3339 time with an offset, as 2026-01-31T12:00:00Z"),
        ("when", 1769860800, "must be an RFC 3339 time with an offset, as 2026-01-31T12:00:00Z"),
        ("day", "31.1.2026", "must be a date, as 2026-01-31"),
        ("tree", [], "must be an object"),
    ],
)
def test_nothing_is_coerced(field: str, data: Any, message: str) -> None:
    assert problems({"text": "", field: data}, Everything) == {f"$.{field}": message}


def test_json_has_one_kind_of_number() -> None:
    value = structure({"text": "", "number": 5.0, "mode": 3.0, "fraction": 1}, Everything)
    assert (value.number, type(value.number), value.mode, type(value.mode), value.fraction) == (5, int, 3, int, 1.0)


def test_all_problems_are_named_with_their_paths() -> None:
    data = {
        "number": "1",
        "items": [{"id": 1}, 7, {"id": "ok"}, {"count": "x"}],
        "table": {"good": 1, "bad": "x", "odd key": None},
        "tree": {"name": "a", "children": [{"name": "b"}, {"children": [{"name": 3}]}]},
        "either": None,
    }
    assert problems(data, Everything) == {
        "$.text": "is required",
        "$.number": "must be an integer",
        "$.items[0].id": "must be a string",
        "$.items[1]": "must be an object",
        "$.items[3].id": "is required",
        "$.items[3].count": "must be an integer",
        "$.table.bad": "must be an integer",
        "$.table['odd key']": "must be an integer",
        "$.tree.children[1].name": "is required",
        "$.tree.children[1].children[0].name": "must be a string",
        "$.either": "must be an integer, or must be a string",
    }


@attrs.frozen
class Limited:
    size: int = attrs.field(default=1, validator=validators.and_(validators.ge(1), validators.lt(10)))
    name: str = attrs.field(default="abc", validator=[validators.min_len(2), validators.max_len(4)])
    code: str = attrs.field(default="A", validator=validators.matches_re("[A-Z]+"))
    kind: str | None = attrs.field(default=None, validator=validators.optional(validators.in_(["x", "y"])))
    words: list[str] = attrs.field(
        factory=list,
        validator=validators.deep_iterable(validators.max_len(3), iterable_validator=validators.max_len(2)),
    )
    kept: Any = attrs.field(default="", validator=validators.instance_of(str))
    even: int = attrs.field(default=2)

    @even.validator
    def _is_even(self, attribute: Any, value: int) -> None:
        if value % 2:
            raise ValueError("'even' must be even")


def test_validators_are_asked_for_every_field() -> None:
    data = {"size": 10, "name": "x", "code": "a", "kind": "z", "words": ["long word", "ok", "c"], "kept": 1, "even": 3}
    assert problems(data, Limited) == {
        "$.size": "must be < 10",
        "$.name": "must have at least 2 characters or items",
        "$.code": "must match [A-Z]+",
        "$.kind": "must be one of x, y",
        "$.words": "must have at most 2 characters or items",
        "$.words[0]": "must have at most 3 characters or items",
        "$.kept": "must be of type str",
    }
    assert problems({"even": 3}, Limited) == {"$": "'even' must be even"}
    assert structure({"kind": None, "size": 9}, Limited) == Limited(size=9)


@attrs.frozen
class Closed:
    FORBID_UNKNOWN_KEYS: ClassVar[bool] = True
    a: int = 0


def test_unknown_keys_are_ignored_unless_forbidden() -> None:
    assert structure({"id": "1", "b": 2}, Item) == Item("1")
    assert problems({"a": 1, "b": 2, "odd key": 3}, Closed) == {
        "$.b": "is not known here",
        "$['odd key']": "is not known here",
    }


@attrs.frozen
class WithId:
    id: str = attrs.field(validator=identifier())


@pytest.mark.parametrize("bad", ["", "a\0", "a\n", "x" * 129, "\x7f", "a/b"])
def test_ids_are_what_can_stand_in_a_path(bad: str) -> None:
    assert list(problems({"id": bad}, WithId)) == ["$.id"]
    assert structure({"id": "Zoë 1 2"}, WithId).id == "Zoë 1 2"


@attrs.frozen
class Converted:
    tags: tuple[str, ...] = attrs.field(
        default=(), converter=lambda given: tuple(sorted(given)), validator=validators.max_len(1)
    )


def test_converters_run_before_validators() -> None:
    assert structure({"tags": ["b"]}, Converted).tags == ("b",)
    assert "$" in problems({"tags": ["b", "a"]}, Converted)


def test_a_union_tells_of_the_alternative_that_was_meant() -> None:
    assert problems({"id": 5}, Item | str) == {"$.id": "must be a string"}
    assert structure("x", Item | str) == "x"


def test_types_that_json_cannot_carry_are_a_bug() -> None:
    @attrs.frozen
    class Strange:
        value: complex

    with pytest.raises(TypeError, match="cannot come from JSON"):
        structure({"value": 1}, Strange)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FIELDS = [field.alias for field in attrs.fields(Everything)]


@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON) | ANY_JSON)
def test_any_data_is_taken_or_refused_with_paths(data: Any) -> None:
    found: list[Problem] = []
    value = taker(Everything)(data, "$", found)
    assert found or isinstance(value, Everything)
    assert all(problem.where.startswith("$") and problem.message for problem in found)
