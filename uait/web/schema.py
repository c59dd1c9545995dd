"""JSON Schema (2020-12, as OpenAPI 3.1 has it) of our types."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from pathlib import PurePath
from typing import Any, TypeVar

import attrs

from uait.web.codec import json_fields
from uait.web.constraints import schema_of
from uait.web.structure import FORBID_UNKNOWN, MAX_INTEGER, bare, fields_of

Schema = dict[str, Any]

_SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
}
_ARRAYS = {list, tuple, set, frozenset, Sequence, Iterable, AbstractSet}
_OBJECTS = {dict, Mapping, MutableMapping}


class Schemas:
    """Collects the schemas of a document's `components`, one for each class and direction.

    What comes in may leave out fields with a default; what goes out has all of them.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._names: dict[tuple[Any, bool], str] = {}

    def of(self, kind: Any, *, incoming: bool, variables: Mapping[Any, Any] | None = None) -> Schema:
        """The schema of `kind`; a reference where it is an attrs class. A type that says nothing to JSON has the empty schema."""
        if variables and kind in variables:
            kind = variables[kind]
        kind = bare(kind)
        if kind in _SIMPLE:
            bounds = {"minimum": -MAX_INTEGER, "maximum": MAX_INTEGER} if incoming and kind is int else {}
            return _SIMPLE[kind] | bounds
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Literal:
            return _choice(list(arguments))
        if origin in (typing.Union, types.UnionType):
            return _any_of([self.of(one, incoming=incoming, variables=variables) for one in arguments])
        container = origin or kind
        if container in _ARRAYS:
            return self._array(container, arguments, incoming, variables)
        if container in _OBJECTS:
            members = self.of(arguments[1], incoming=incoming, variables=variables) if arguments else {}
            return {"type": "object"} | ({"additionalProperties": members} if members else {})
        if isinstance(container, type):
            if issubclass(container, enum.Enum):
                return _choice([member.value for member in container])
            if issubclass(container, PurePath):
                return {"type": "string"}
            if attrs.has(container):
                given = tuple(variables.get(one, one) if variables else one for one in arguments)
                return {"$ref": f"#/components/schemas/{self._component(container, given, incoming)}"}
        return {}

    def properties(self, cls: type[Any], *, incoming: bool, variables: Mapping[Any, Any] | None = None) -> Schema:
        """The schemas of the fields of an attrs class, by JSON key."""
        descriptions = attribute_docs(cls)
        found: Schema = {}
        for field in fields_of(cls):
            schema = self.of(field.kind, incoming=incoming, variables=variables)
            if incoming or field.attribute.converter is None:
                _constrain(schema, field.validator)
            if incoming and not field.required:
                _add_default(schema, field.attribute.default)
            if field.attribute.name in descriptions:
                # Next to a $ref, 3.1 allows a description.
                schema["description"] = descriptions[field.attribute.name]
            found[field.key] = schema
        if not incoming:
            hints = typing.get_type_hints(cls, include_extras=True)
            for key, name in json_fields(cls):
                found.setdefault(key, self.of(hints.get(name, Any), incoming=False, variables=variables))
        return found

    def _array(
        self, container: Any, arguments: tuple[Any, ...], incoming: bool, variables: Mapping[Any, Any] | None
    ) -> Schema:
        schema: Schema = {"type": "array"}
        if container is tuple and arguments and arguments[-1] is not Ellipsis:
            schema["prefixItems"] = [self.of(one, incoming=incoming, variables=variables) for one in arguments]
            schema["minItems"] = schema["maxItems"] = len(arguments)
        elif arguments:
            items = self.of(arguments[0], incoming=incoming, variables=variables)
            if items:
                schema["items"] = items
        return schema

    def _component(self, cls: type[Any], arguments: tuple[Any, ...], incoming: bool) -> str:
        key = (cls[arguments] if arguments else cls, incoming)
        if key in self._names:
            return self._names[key]
        name = cls.__name__ + "".join(getattr(one, "__name__", "") for one in arguments) + ("Input" if incoming else "")
        name = re.sub(r"\W", "", name)
        while name in self.components:
            name += "_"
        self._names[key] = name
        schema = self.components[name] = {"type": "object"}
        variables = dict(zip(_parameters(cls), arguments, strict=False))
        properties = self.properties(cls, incoming=incoming, variables=variables)
        required = [field.key for field in fields_of(cls) if field.required] if incoming else list(properties)
        description = summary_of(cls)
        if description:
            schema["description"] = description
        schema["properties"] = properties
        if required:
            schema["required"] = required
        if incoming and getattr(cls, FORBID_UNKNOWN, False):
            schema["additionalProperties"] = False
        return name


def _parameters(cls: type[Any]) -> tuple[TypeVar, ...]:
    return tuple(getattr(cls, "__parameters__", ()))


def _choice(values: list[Any]) -> Schema:
    kinds = {_SIMPLE[type(value)]["type"] for value in values if type(value) in _SIMPLE}
    return {"enum": values} | ({"type": kinds.pop()} if len(kinds) == 1 else {})


def _any_of(schemas: list[Schema]) -> Schema:
    if {} in schemas:
        return {}
    unique = [schema for index, schema in enumerate(schemas) if schema not in schemas[:index]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _constrain(schema: Schema, validator: Any) -> None:
    """Add what the validator demands to the part of `schema` that is not null."""
    if validator is None:
        return
    parts = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    for part in parts:
        wanted = schema_of(validator, part.get("type"))
        items = wanted.pop("items", None)
        part.update(wanted)
        if items and isinstance(part.get("items"), dict):
            part["items"].update(items)


def _add_default(schema: Schema, default: Any) -> None:
    value = getattr(default, "value", default)
    if isinstance(value, (str, int, float, bool)):
        schema["default"] = value


def summary_of(thing: Any) -> str:
    """The first paragraph of a docstring of its own, on one line."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    # attrs gives a class without a docstring none; a dataclass-like signature would be no description either.
    return " ".join(doc.partition("\n\n")[0].split())


def attribute_docs(cls: type[Any]) -> dict[str, str]:
    """What the `Attributes:` section of a class's docstring says of each."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    _, _, section = doc.partition("\nAttributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        entry = re.fullmatch(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2].strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found
