"""The filter language as JSON Schema, for `/openapi.json`: what fits it is understood, what does not is refused."""

from __future__ import annotations

from typing import Any

from uait.services.memory.filters import COLUMNS, TIMES

Schema = dict[str, Any]

NAME = "MemoryFilter"
REFERENCE: Schema = {"$ref": f"#/components/schemas/{NAME}"}

_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_TIME: Schema = {"type": "string", "format": "date-time"}
_LITERAL: Schema = {"type": ["string", "number"]}


def _tests(scalar: Schema) -> Schema:
    listed = {"type": "array", "items": scalar}
    operators: Schema = {
        **{name: {"anyOf": [scalar, {"enum": ["*", None]}]} for name in ("eq", "ne")},
        **dict.fromkeys(("in", "nin"), listed),
        **dict.fromkeys(("gt", "gte", "lt", "lte"), scalar),
        **dict.fromkeys(("contains", "icontains"), _LITERAL),
        "exists": {"type": "boolean"},
    }
    return {
        "anyOf": [
            scalar,
            {"enum": ["*", None]},
            listed,
            {"type": "object", "properties": operators, "additionalProperties": False, "minProperties": 1},
        ]
    }


def _tags() -> Schema:
    listed: Schema = {"type": "array", "items": {"type": "string"}}
    one: Schema = {"anyOf": [{"type": "string"}, listed]}
    names = ("contains", "eq", "all", "in", "any", "ne", "nin")
    return {
        "anyOf": [
            *one["anyOf"],
            {
                "type": "object",
                "properties": dict.fromkeys(names, one),
                "additionalProperties": False,
                "minProperties": 1,
            },
        ]
    }


def filter_schema() -> Schema:
    """The component that `REFERENCE` names."""
    several: Schema = {"anyOf": [REFERENCE, {"type": "array", "items": REFERENCE, "minItems": 1, "maxItems": 3}]}
    return {
        "type": "object",
        "description": "Keys of memories with a value, a list of values, or operators; several keys mean AND.",
        "minProperties": 1,
        "maxProperties": 3,
        "additionalProperties": False,
        "properties": {
            **dict.fromkeys(("AND", "OR", "NOT"), several),
            "tags": _tags(),
            **{key: _tests(_TIME if key in TIMES else _SCALAR) for key in COLUMNS},
        },
        "patternProperties": {r"^metadata\.[A-Za-z0-9_]{1,40}(\.[A-Za-z0-9_]{1,40}){0,4}$": _tests(_SCALAR)},
    }


def describe_filters(document: dict[str, Any]) -> None:
    """Put the schema where classes only say that there is an object."""
    schemas = document["components"]["schemas"]
    for schema in list(schemas.values()):
        found = schema.get("properties", {}).get("filters")
        if found is not None:
            optional = "anyOf" in found or "default" in found
            schema["properties"]["filters"] = {"anyOf": [REFERENCE, {"type": "null"}]} if optional else REFERENCE
    schemas[NAME] = filter_schema()
