"""Which memories: the filter language, and everything else that a query says beside its words, as SQL conditions. Pure.

    {"AND": [{"type": "fact"}, {"OR": [{"metadata.city": "Oslo"}, {"importance": {"gte": 0.5}}]}, {"NOT": [{"tags": {"contains": "old"}}]}]}

Several keys in one object mean AND. A key that is not known is an error, never a condition that everything meets.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import orjson

from uait.errors import BadRequest
from uait.services.memory.model import MemoryQuery, MemorySearch, begin_of, end_of
from uait.storage import format_time

COLUMNS = {
    "id": "m.id",
    "type": "m.type",
    "content": "m.content",
    "memory": "m.content",
    "source": "m.source",
    "agent_id": "m.agent_id",
    "session_id": "m.session_id",
    "run_id": "m.session_id",
    "created_at": "m.created_at",
    "updated_at": "m.updated_at",
    "last_access": "m.last_access",
    "occurred_at": "m.occurred_at",
    "expires_at": "m.expires_at",
    "valid_from": "m.valid_from",
    "valid_until": "m.valid_until",
    "importance": "m.importance",
    "access_count": "m.access_count",
}
TIMES = {"created_at", "updated_at", "last_access", "occurred_at", "expires_at", "valid_from", "valid_until"}
OPERATORS = ("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "icontains", "exists")
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

DEPTH = 16
CONDITIONS = 200
"""Most conditions in one filter: SQLite has a limit of its own for what one statement may hold."""

Condition = tuple[str, list[Any]]


class _Compiler:
    def __init__(self) -> None:
        self._left = CONDITIONS

    def any_of(self, given: Any, where: str, depth: int) -> Condition:
        """An object: all of its keys hold."""
        if depth > DEPTH:
            raise _wrong(where, f"is nested more than {DEPTH} deep")
        if not isinstance(given, dict):
            raise _wrong(where, "must be an object")
        if not given:
            raise _wrong(where, "must have at least one condition")
        parts: list[str] = []
        parameters: list[Any] = []
        for key, value in given.items():
            sql, more = self._key(key, value, f"{where}.{key[:100]}", depth)
            parts.append(sql)
            parameters += more
        return f"({' AND '.join(parts)})", parameters

    def _key(self, key: str, value: Any, where: str, depth: int) -> Condition:
        self._left -= 1
        if self._left < 0:
            raise _wrong(where, f"is one condition too many: a filter has at most {CONDITIONS}")
        word = key.upper()
        if word in ("AND", "OR", "NOT"):
            listed = value if isinstance(value, list) else [value]
            if not listed:
                raise _wrong(where, "must have at least one condition")
            found = [self.any_of(each, f"{where}[{at}]", depth + 1) for at, each in enumerate(listed)]
            glue = " OR " if word == "OR" else " AND "
            sql = f"({glue.join(sql for sql, _ in found)})"
            return (f"NOT coalesce({sql}, 0)" if word == "NOT" else sql), [each for _, more in found for each in more]
        if key == "tags":
            return _tags(value, where)
        if key == "metadata" and isinstance(value, dict) and value:
            parts = [
                self._key(f"metadata.{name}", each, f"{where}.{name[:100]}", depth) for name, each in value.items()
            ]
            return (
                f"({' AND '.join(sql for sql, _ in parts)})",
                [each for _, more in parts for each in more],
            )
        if key.startswith("metadata."):
            path = _path(key, where)
            return _tests("json_extract(m.metadata, ?)", [path], value, where, timed=False)
        if key not in COLUMNS:
            known = ", ".join(["AND", "OR", "NOT", "tags", "metadata.NAME", *COLUMNS])
            raise _wrong(where, f"is not a key of memories; known are {known}")
        return _tests(COLUMNS[key], [], value, where, timed=key in TIMES)


def _path(key: str, where: str) -> str:
    names = key.split(".")[1:]
    if not all(names) or any(sign in name for name in names for sign in '"\\\0'):
        raise _wrong(where, "is no key: names are separated by single dots, without quotes and backslashes")
    return "$" + "".join(f'."{name}"' for name in names)


def _tests(column: str, before: list[Any], value: Any, where: str, *, timed: bool) -> Condition:
    if not isinstance(value, dict):
        value = {"in" if isinstance(value, list) else "eq": value}
    if not value:
        raise _wrong(where, f"must have an operator: {', '.join(OPERATORS)}")
    parts: list[str] = []
    parameters: list[Any] = []
    for operator, operand in value.items():
        sql, more = _test(column, operator, operand, f"{where}.{operator[:100]}", timed)
        parts.append(sql)
        parameters += [*before, *more]
    return f"({' AND '.join(parts)})", parameters


def _test(column: str, operator: str, operand: Any, where: str, timed: bool) -> Condition:
    match operator:
        case "eq" | "ne" if operand == "*" or operand is None:
            there = (operand == "*") is (operator == "eq")
            return f"{column} IS {'NOT ' if there else ''}NULL", []
        case "eq":
            return f"{column} = ?", [_scalar(operand, where, timed)]
        case "ne":
            return f"{column} IS NOT ?", [_scalar(operand, where, timed)]
        case "in" | "nin":
            if not isinstance(operand, list):
                raise _wrong(where, "must be an array")
            values = [_scalar(each, f"{where}[{at}]", timed) for at, each in enumerate(operand)]
            listed = orjson.dumps(values).decode()
            test = f"{column} IN (SELECT value FROM json_each(?))"
            return (test if operator == "in" else f"NOT coalesce({test}, 0)"), [listed]
        case "gt" | "gte" | "lt" | "lte":
            scalar = _scalar(operand, where, timed)
            # SQLite sorts every text behind every number; a range of numbers is one of numbers only.
            kind = "'text'" if isinstance(scalar, str) else "'integer', 'real'"
            if timed:
                return f"{column} {_COMPARE[operator]} ?", [scalar]
            return (
                f"EXISTS (SELECT 1 FROM (SELECT {column} AS v) WHERE typeof(v) IN ({kind}) AND v {_COMPARE[operator]} ?)",
                [scalar],
            )
        case "contains" | "icontains":
            if not isinstance(operand, str | int | float) or isinstance(operand, bool):
                raise _wrong(where, "must be a text or a number")
            if operator == "icontains":
                return f"instr(lower({column}), lower(?)) > 0", [str(operand)]
            return f"instr({column}, ?) > 0", [str(operand)]
        case "exists":
            if not isinstance(operand, bool):
                raise _wrong(where, "must be true or false")
            return f"{column} IS {'NOT ' if operand else ''}NULL", []
        case _:
            raise _wrong(where, f"is not an operator; known are {', '.join(OPERATORS)}")


def _tags(value: Any, where: str) -> Condition:
    if not isinstance(value, dict):
        value = {"all" if isinstance(value, list) else "contains": value}
    if not value:
        raise _wrong(where, "must have an operator: contains, all, in, any, nin")
    parts: list[str] = []
    parameters: list[Any] = []
    for operator, operand in value.items():
        listed = operand if isinstance(operand, list) else [operand]
        if not all(isinstance(each, str) for each in listed):
            raise _wrong(f"{where}.{operator[:100]}", "must be a tag, or an array of tags")
        parameters.append(orjson.dumps(listed).decode())
        match operator:
            case "contains" | "eq" | "all":
                parts.append("NOT EXISTS (SELECT value FROM json_each(?) EXCEPT SELECT value FROM json_each(m.tags))")
            case "in" | "any":
                parts.append("EXISTS (SELECT value FROM json_each(?) INTERSECT SELECT value FROM json_each(m.tags))")
            case "ne" | "nin":
                parts.append(
                    "NOT EXISTS (SELECT value FROM json_each(?) INTERSECT SELECT value FROM json_each(m.tags))"
                )
            case _:
                raise _wrong(
                    f"{where}.{operator[:100]}", "is not an operator of tags; known are contains, all, in, any, nin"
                )
    return f"({' AND '.join(parts)})", parameters


def _scalar(value: Any, where: str, timed: bool) -> Any:
    if timed:
        try:
            return format_time(datetime.fromisoformat(value.upper()))
        except (AttributeError, ValueError, OverflowError):
            raise _wrong(where, "must be an RFC 3339 time, as 2026-01-31T12:00:00Z") from None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong(where, "must be a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        return float(value) if abs(value) < 1 << 1000 else math.copysign(1e300, value)
    if isinstance(value, str | int | float):
        return value
    raise _wrong(where, "must be a text, a number, true or false")


def _wrong(where: str, message: str) -> BadRequest:
    return BadRequest(
        f"{where} {message}."[:1000], code="INVALID_FILTER", details=[{"path": where, "message": message}]
    )


def compile_filter(given: Any, where: str = "$.filters") -> Condition:
    """A filter as a condition on `memory AS m`, and its parameters.

    Raises:
        BadRequest: it is none; the message says where, and what would be one.
    """
    return _Compiler().any_of(given, where, 1)


def conditions_of(query: MemoryQuery, now: str) -> tuple[list[str], list[Any]]:
    """What a query demands beside its words and beside being there at `now`, as conditions on `memory AS m`, and their parameters.

    Raises:
        BadRequest: its filter is none.
    """
    conditions: list[str] = []
    parameters: list[Any] = []

    def demand(condition: str, *values: Any) -> None:
        conditions.append(condition)
        parameters.extend(values)

    if query.type is not None:
        demand("m.type = ?", query.type)
    if query.tags:
        demand(
            "NOT EXISTS (SELECT value FROM json_each(?) EXCEPT SELECT value FROM json_each(m.tags))",
            orjson.dumps(query.tags).decode(),
        )
    if query.agent_id is not None:
        demand("m.agent_id = ?", query.agent_id)
    if query.session is not None:
        demand("m.session_id = ?", query.session)
    if query.start_date is not None:
        demand("m.created_at >= ?", format_time(begin_of(query.start_date)))
    if query.end_date is not None:
        demand("m.created_at <= ?", format_time(end_of(query.end_date)))
    if query.as_of is not None:
        demand("m.created_at <= ?", format_time(end_of(query.as_of)))
    if isinstance(query, MemorySearch) and query.filters is not None:
        sql, more = compile_filter(query.filters)
        demand(sql, *more)
    return conditions, parameters


THERE = "(m.valid_from IS NULL OR m.valid_from <= ?) AND (m.valid_until IS NULL OR m.valid_until > ?) AND (m.expires_at IS NULL OR m.expires_at > ?)"
"""A memory is there at a moment, given three times: valid then, and not expired."""


def moment_asked(query: MemoryQuery, now: str) -> str:
    """The moment at which memories must be there."""
    return now if query.as_of is None else format_time(end_of(query.as_of))
