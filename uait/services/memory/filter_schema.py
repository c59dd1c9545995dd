"""The filter language as JSON Schema, for `/openapi.json`: what fits it is understood.

It says a little less than what is understood (`AND`, `OR` and `NOT` nest, and every key takes every operator): a schema of all that has so many forms that tools which read it do not come to an end.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

FILTER, CONDITION = "MemoryFilter", "MemoryCondition"

_TEXT: Schema = {"type": "string"}
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_VALUES: tuple[Schema, ...] = (_SCALAR, {"type": "null"}, {"type": "array", "items": _SCALAR})
_TIME: Schema = {"type": "string", "format": "date-time"}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _operators(value: Schema, *names: str) -> Schema:
    return {
        "type": "object",
        "properties": dict.fromkeys(names, value),
        "additionalProperties": False,
        "minProperties": 1,
    }


def _condition() -> Schema:
    words = {"anyOf": [*_VALUES, _operators({"type": ["string", "number"]}, "contains", "icontains")]}
    return {
        "type": "object",
        "description": "Keys of memories, each with a value or with operators; several keys mean AND.",
        "minProperties": 1,
        "properties": {
            **dict.fromkeys(("type", "content", "source", "agent_id", "session_id"), words),
            **{
                name: {
                    "anyOf": [
                        _TIME,
                        {"type": "null"},
                        {"type": "array", "items": _TIME},
                        _operators(_TIME, "gte", "lt"),
                    ]
                }
                for name in ("created_at", "occurred_at")
            },
            "importance": {"anyOf": [*_VALUES, _operators(_SCALAR, "gte", "lt")]},
            "tags": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]},
        },
        "patternProperties": {r"^metadata\.[A-Za-z0-9_]{1,40}$": {"anyOf": [*_VALUES]}},
        "additionalProperties": False,
    }


def _filter() -> Schema:
    several = {"type": "array", "items": _reference(CONDITION), "minItems": 1}
    whole: Schema = {
        "type": "object",
        "properties": dict.fromkeys(("AND", "OR", "NOT"), several),
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {"anyOf": [_reference(CONDITION), whole]}


def describe_filters(document: dict[str, Any]) -> None:
    """Put the schema where classes only say that there is an object."""
    schemas = document["components"]["schemas"]
    for schema in list(schemas.values()):
        found = schema.get("properties", {}).get("filters")
        if found is not None:
            forms = [_reference(FILTER)]
            if "filters" not in schema.get("required", ()):
                forms.append({"type": "null"})
            schema["properties"]["filters"] = {"anyOf": forms} if len(forms) > 1 else forms[0]
    schemas |= {FILTER: _filter(), CONDITION: _condition()}
