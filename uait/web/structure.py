"""Plain data from outside becomes instances of attrs classes: strictly, and with every problem named at once.

Nothing is coerced: "5" is not 5, 1 is not true. (A converter library's hooks would all have to be replaced for that, so the few types that
JSON can carry are handled here.)
"""

from __future__ import annotations

import enum
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from typing import Any, TypeAlias, TypeVar, cast

import attrs

from uait.errors import Problem, ValidationFailed
from uait.web.constraints import is_plain, violations
from uait.web.memo import memo

T = TypeVar("T")

Take: TypeAlias = Callable[[Any, str, list[Problem]], Any]
"""Takes (data, its path, the problems so far), gives the value; whatever it gives counts only while there are no problems."""

FORBID_UNKNOWN = "FORBID_UNKNOWN_KEYS"
"""A class with this ClassVar set to True refuses keys that it does not know. Others ignore them."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def structure(data: Any, cls: type[T], *, where: str = "$") -> T:
    """Check decoded JSON against `cls` and make an instance of it.

    Args:
        data: what `from_json` gave.
        cls: an attrs class, or any type made of JSON's: `list[int]`, `dict[str, Any]`, `A | None`, `Literal[...]`, enums, `datetime` (RFC 3339 with an offset, given in UTC).
        where: the path that problems begin with.

    Raises:
        ValidationFailed: with every problem and its JSON path.
    """
    problems: list[Problem] = []
    value = taker(cls)(data, where, problems)
    if problems:
        raise ValidationFailed(problems)
    return cast("T", value)


@memo
def taker(kind: Any) -> Take:
    """The function that takes data of the type `kind`.

    Raises:
        TypeError: JSON cannot carry this type. That is a bug in the class, not in the data.
    """
    kind = bare(kind)
    if kind is Any or kind is object:
        return lambda data, where, problems: data
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _choice([(option, option) for option in arguments])
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    container = origin or kind
    if container in _SEQUENCES:
        if container is tuple and arguments and arguments[-1] is not Ellipsis:
            return _fixed(arguments)
        return _sequence(_SEQUENCES[container], arguments[0] if arguments else Any)
    if container in _MAPPINGS:
        return _mapping(arguments[1] if arguments else Any)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choice([(member.value, member) for member in kind])
    if isinstance(container, type) and attrs.has(container):
        return _instance(container)
    raise TypeError(f"{kind!r} cannot come from JSON")


def bare(kind: Any) -> Any:
    """`kind` without what only type checkers see: Annotated, NewType, aliases, type variables."""
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        elif isinstance(kind, TypeVar):
            kind = kind.__bound__ or Any
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return kind


MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 7493 section 2.2), and that every database holds."""


def _take_integer(data: Any, where: str, problems: list[Problem]) -> Any:
    if type(data) is float and data.is_integer():
        # JSON has one kind of number: 1.0 is an integer, for JSON Schema too.
        data = int(data)
    if type(data) is not int:
        problems.append(Problem(where, "must be an integer"))
    elif abs(data) > MAX_INTEGER:
        problems.append(Problem(where, f"must be between -{MAX_INTEGER} and {MAX_INTEGER}"))
    return data


def _is(exact: type, name: str) -> Take:
    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        if type(data) is not exact:
            problems.append(Problem(where, f"must be {name}"))
        return data

    return take


def _take_text(data: Any, where: str, problems: list[Problem]) -> Any:
    if type(data) is not str:
        problems.append(Problem(where, "must be a string"))
    elif not data.isascii():
        try:
            data.encode()
        except UnicodeEncodeError:
            problems.append(Problem(where, "must not contain lone surrogates"))
    return data


def _take_float(data: Any, where: str, problems: list[Problem]) -> Any:
    if type(data) is float and math.isfinite(data):
        return data
    if type(data) is int and abs(data) < 1 << 1000:
        return float(data)
    problems.append(Problem(where, "must be a number"))
    return data


def _take_time(data: Any, where: str, problems: list[Problem]) -> Any:
    if type(data) is str and _RFC3339.fullmatch(data):
        try:
            return datetime.fromisoformat(data.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    problems.append(Problem(where, "must be an RFC 3339 time with an offset, as 2026-01-31T12:00:00Z"))
    return data


def _take_date(data: Any, where: str, problems: list[Problem]) -> Any:
    if type(data) is str and _DATE.fullmatch(data):
        try:
            return date.fromisoformat(data)
        except ValueError:
            pass
    problems.append(Problem(where, "must be a date, as 2026-01-31"))
    return data


_SIMPLE: dict[Any, Take] = {
    str: _take_text,
    int: _take_integer,
    float: _take_float,
    bool: _is(bool, "true or false"),
    None: _is(type(None), "null"),
    type(None): _is(type(None), "null"),
    datetime: _take_time,
    date: _take_date,
}

_SEQUENCES: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    Sequence: list,
    MutableSequence: list,
    Iterable: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    AbstractSet: frozenset,
}

_MAPPINGS = {dict, Mapping, MutableMapping}


def _choice(options: list[tuple[Any, Any]]) -> Take:
    # The type belongs to the key: True == 1 in Python, not in JSON.
    known = {(type(given), given): value for given, value in options}
    message = f"must be one of {', '.join(str(given) for given, _ in options)}"

    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        kind = int if type(data) is float and data.is_integer() else type(data)
        try:
            return known[kind, data]
        except (KeyError, TypeError):
            problems.append(Problem(where, message))
            return data

    return take


def _union(kinds: tuple[Any, ...]) -> Take:
    optional = type(None) in kinds
    takers = [taker(kind) for kind in kinds if kind is not type(None)]

    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        if data is None and optional:
            return None
        attempts: list[list[Problem]] = []
        for take_one in takers:
            found: list[Problem] = []
            value = take_one(data, where, found)
            if not found:
                return value
            attempts.append(found)
        # Where one alternative fits from outside (only its inside is wrong), its problems are the helpful ones.
        inside = [found for found in attempts if all(problem.where != where for problem in found)]
        if len(inside) == 1 or len(attempts) == 1:
            problems.extend((inside or attempts)[0])
        else:
            sentences = dict.fromkeys(problem.message for found in attempts for problem in found)
            problems.append(Problem(where, ", or ".join(sentences)))
        return data

    return take


def _sequence(make: Callable[[Iterable[Any]], Any], kind: Any) -> Take:
    take_item = taker(kind)

    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        if type(data) is not list:
            problems.append(Problem(where, "must be an array"))
            return data
        items = [take_item(item, f"{where}[{index}]", problems) for index, item in enumerate(data)]
        return data if problems else make(items)

    return take


def _fixed(kinds: tuple[Any, ...]) -> Take:
    takers = [taker(kind) for kind in kinds]

    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        if type(data) is not list or len(data) != len(takers):
            problems.append(Problem(where, f"must be an array of {len(takers)} items"))
            return data
        return tuple(
            one(item, f"{where}[{i}]", problems) for i, (one, item) in enumerate(zip(takers, data, strict=True))
        )

    return take


def _mapping(kind: Any) -> Take:
    take_item = taker(kind)
    anything = bare(kind) in (Any, object)

    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        if type(data) is not dict:
            problems.append(Problem(where, "must be an object"))
            return data
        if anything:
            return data
        return {key: take_item(item, member(where, key), problems) for key, item in data.items()}

    return take


def member(where: str, key: str) -> str:
    """The JSON path of a member: `$.name`, or `$["odd name"]`."""
    return f"{where}.{key}" if key.isidentifier() else f"{where}[{key[:100]!r}]"


@attrs.frozen
class Field:
    """One field of an attrs class as the wire sees it."""

    key: str
    kind: Any
    required: bool
    validator: Any
    attribute: attrs.Attribute[Any]


@memo
def fields_of(cls: type[Any]) -> tuple[Field, ...]:
    """The fields of an attrs class that come from outside, with their types resolved."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        Field(
            key=attribute.alias or attribute.name,
            kind=hints.get(attribute.name, Any),
            required=attribute.default is attrs.NOTHING,
            validator=attribute.validator,
            attribute=attribute,
        )
        for attribute in attrs.fields(cls)
        if attribute.init
    )


def _instance(cls: type[Any]) -> Take:
    # Compiled at the first use, not here: a class may contain itself.
    compiled: list[tuple[str, Take, bool, Any]] = []
    forbid = bool(getattr(cls, FORBID_UNKNOWN, False))

    def compile_fields() -> list[tuple[str, Take, bool, Any]]:
        if not compiled:
            for field in fields_of(cls):
                early = field.validator if field.attribute.converter is None and is_plain(field.validator) else None
                compiled.append((field.key, taker(field.kind), field.required, early))
        return compiled

    def take(data: Any, where: str, problems: list[Problem]) -> Any:
        if type(data) is not dict:
            problems.append(Problem(where, "must be an object"))
            return data
        arguments: dict[str, Any] = {}
        unchecked: list[tuple[int, Any, Any, str]] = []
        before = len(problems)
        for key, take_field, required, validator in compile_fields():
            if key in data:
                found = len(problems)
                path = f"{where}.{key}"
                value = arguments[key] = take_field(data[key], path, problems)
                if validator is not None and len(problems) == found:
                    unchecked.append((found, validator, value, path))
            elif required:
                problems.append(Problem(f"{where}.{key}", "is required"))
        if forbid:
            known = {key for key, *_ in compile_fields()}
            problems.extend(Problem(member(where, key), "is not known here") for key in data if key not in known)
        reason = ""
        if len(problems) == before:
            try:
                return cls(**arguments)
            except (ValueError, TypeError) as error:
                reason = str(error.args[0]) if error.args else "is not valid"
        # attrs has run the validators, up to the first that fails. What every one of them says is only asked for where something is wrong, and stands in the order of the fields.
        for place, validator, value, path in reversed(unchecked):
            problems[place:place] = [Problem(*violation) for violation in violations(validator, value, path)]
        if len(problems) == before:
            problems.append(Problem(where, reason))
        return data

    return take
