"""What attrs validators demand, as sentences for people and as JSON Schema for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs

_BOUNDS = {">=": "minimum", "<=": "maximum", ">": "exclusiveMinimum", "<": "exclusiveMaximum"}


def _kind(validator: Any) -> str:
    """attrs does not export its validators' classes; their names have been the same since 21.3."""
    return type(validator).__name__ if type(validator).__module__ in ("attr.validators", "attr._make") else ""


def is_plain(validator: Any) -> bool:
    """Whether `validator` looks at the value alone, so that it can run before there is an instance."""
    match _kind(validator):
        case "_AndValidator":
            return all(is_plain(part) for part in validator._validators)
        case "_OptionalValidator":
            return is_plain(validator.validator)
        case "_DeepIterable":
            return all(is_plain(part) for part in (validator.member_validator, validator.iterable_validator) if part)
        case kind:
            return kind in _PLAIN


_PLAIN = {
    "_InValidator",
    "_NumberValidator",
    "_MinLengthValidator",
    "_MaxLengthValidator",
    "_MatchesReValidator",
    "_InstanceOfValidator",
}


def violations(validator: Any, value: Any, where: str) -> Iterator[tuple[str, str]]:
    """The (path, message) of everything in `value` that a plain `validator` does not allow."""
    match _kind(validator):
        case "_AndValidator":
            for part in validator._validators:
                yield from violations(part, value, where)
        case "_OptionalValidator":
            if value is not None:
                yield from violations(validator.validator, value, where)
        case "_DeepIterable":
            if validator.iterable_validator is not None:
                yield from violations(validator.iterable_validator, value, where)
            for index, item in enumerate(value):
                yield from violations(validator.member_validator, item, f"{where}[{index}]")
        case _:
            try:
                validator(None, _NAMELESS, value)
            except (ValueError, TypeError):
                yield where, _sentence(validator)


@attrs.frozen
class _Nameless:
    value: int = 0


_NAMELESS = attrs.fields(_Nameless).value


def _sentence(validator: Any) -> str:
    match _kind(validator):
        case "_InValidator":
            return f"must be one of {', '.join(str(_value(option)) for option in validator.options)}"
        case "_NumberValidator":
            return f"must be {validator.compare_op} {validator.bound}"
        case "_MinLengthValidator":
            return f"must have at least {validator.min_length} characters or items"
        case "_MaxLengthValidator":
            return f"must have at most {validator.max_length} characters or items"
        case "_MatchesReValidator":
            return f"must match {validator.pattern.pattern}"
        case _:
            return f"must be of type {getattr(validator.type, '__name__', validator.type)}"


def _value(option: Any) -> Any:
    return getattr(option, "value", option)


def schema_of(validator: Any, kind: str | None) -> dict[str, Any]:
    """What `validator` adds to the JSON Schema of a value of the JSON type `kind`; nothing where JSON Schema cannot say it."""
    match _kind(validator):
        case "_AndValidator":
            merged: dict[str, Any] = {}
            for part in validator._validators:
                merged |= schema_of(part, kind)
            return merged
        case "_OptionalValidator":
            return schema_of(validator.validator, kind)
        case "_DeepIterable":
            members = schema_of(validator.member_validator, None)
            outer = schema_of(validator.iterable_validator, kind) if validator.iterable_validator else {}
            return outer | ({"items": members} if members else {})
        case "_InValidator":
            return {"enum": [_value(option) for option in validator.options]}
        case "_NumberValidator":
            return {_BOUNDS[validator.compare_op]: validator.bound}
        case "_MinLengthValidator":
            return {_SIZE.get(kind, "minLength").replace("max", "min"): validator.min_length}
        case "_MaxLengthValidator":
            return {_SIZE.get(kind, "maxLength"): validator.max_length}
        case "_MatchesReValidator":
            return {"pattern": _portable(validator)}
        case _:
            return {}


_SIZE: dict[str | None, str] = {"array": "maxItems", "object": "maxProperties"}


def _portable(validator: Any) -> str:
    """Python matches the whole text by default, JSON Schema any part of it."""
    pattern: str = validator.pattern.pattern
    return f"^(?:{pattern})$" if validator.match_func.__name__ == re.Pattern.fullmatch.__name__ else pattern
