"""`GET /openapi.json`: OpenAPI 3.1, derived from the routes, so that it is true by itself."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug.routing import Rule

from uait.web.describe import Description, description_of
from uait.web.exchange import standard_error
from uait.web.health import version_of
from uait.web.parse import takes_text
from uait.web.reflect import UNKNOWN, Reflection, reflect
from uait.web.schema import Schema, Schemas, summary_of
from uait.web.structure import Field, fields_of

if TYPE_CHECKING:
    from uait.web.app import App

_ERROR: Schema = {
    "type": "object",
    "description": "Every failure has this body.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "For programs, in UPPER_SNAKE."},
                "message": {"type": "string", "description": "For people: what to do."},
                "details": {"description": "More for programs; the list of all problems where values are invalid."},
                "request_id": {"type": ["string", "null"], "description": "What to look for in the log."},
            },
        }
    },
}

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

_SECTIONS = re.compile(r"^(Args|Raises|Returns|Attributes):$", re.MULTILINE)


def document_of(app: App) -> dict[str, Any]:
    """The whole document."""
    schemas = Schemas()
    schemas.components["Error"] = _ERROR
    paths: dict[str, dict[str, Any]] = {}
    identifiers: set[str] = set()
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        handler = inspect.unwrap(app.view_functions[rule.endpoint])
        description = description_of(handler)
        if rule.websocket or description.hidden:
            continue
        path, parameters = _path(rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation = _operation(app, schemas, path, handler, description)
            if parameters:
                operation["parameters"] = parameters + operation.get("parameters", [])
            operation["operationId"] = _unique(handler.__name__, method, identifiers)
            paths.setdefault(path, {})[method.lower()] = operation
    spec = app.context.spec
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": spec.title, "version": version_of(app), "description": spec.summary},
        "paths": paths,
        "components": {"schemas": schemas.components},
    }
    if app.authenticator.required:
        document["components"]["securitySchemes"] = _SECURITY
        document["security"] = [{name: []} for name in _SECURITY]
    for extend in app.openapi_extensions:
        extend(document)
    return document


def _unique(name: str, method: str, taken: set[str]) -> str:
    for candidate in (name, f"{method.lower()}_{name}"):
        if candidate not in taken:
            taken.add(candidate)
            return candidate
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def _path(rule: Rule) -> tuple[str, list[dict[str, Any]]]:
    """`/memory/<id:memory_id>` as `/memory/{memory_id}`, and its parameters."""
    path = re.sub(r"<(?:[^<>:]*(?:\([^<>]*\))?:)?(\w+)>", r"{\1}", rule.rule)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _converter_schema(converter)}
        for name, converter in rule._converters.items()
    ]
    return path, parameters


def _converter_schema(converter: Any) -> Schema:
    match type(converter).__name__:
        case "IntegerConverter":
            low = converter.min if converter.min is not None else None if converter.signed else 0
            bounds = {"minimum": low, "maximum": converter.max}
            return {"type": "integer"} | {key: bound for key, bound in bounds.items() if bound is not None}
        case "FloatConverter":
            return {"type": "number"}
        case "UUIDConverter":
            return {"type": "string", "format": "uuid"}
        case "AnyConverter":
            return {"type": "string", "enum": sorted(converter.items)}
        case "IdConverter":
            return {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[^/\x00-\x1f\x7f]+$"}
        case "PathConverter":
            return {"type": "string", "minLength": 1}
        case _:
            return {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}


def _operation(app: App, schemas: Schemas, path: str, handler: Any, description: Description) -> dict[str, Any]:
    found = reflect(handler)
    operation: dict[str, Any] = {}
    summary = summary_of(handler)
    if summary:
        operation["summary"] = summary.rstrip(".")
        rest = _SECTIONS.split(inspect.cleandoc(handler.__doc__ or "").partition("\n\n")[2])[0].strip()
        if rest:
            operation["description"] = rest
    if description.tags:
        operation["tags"] = list(description.tags)
    if description.deprecated:
        operation["deprecated"] = True
    query = description.query or found.query
    if query is not None:
        operation["parameters"] = _query_parameters(schemas, query)
    body = description.body or found.body
    if body is not None:
        content = {"application/json": {"schema": schemas.of(body, incoming=True)}}
        operation["requestBody"] = {"required": not description.body_optional, "content": content}
    operation["responses"] = _responses(app, schemas, path, found, description)
    if path in app.public and app.authenticator.required:
        operation["security"] = []
    return operation


def _query_parameters(schemas: Schemas, cls: type[Any]) -> list[dict[str, Any]]:
    properties = schemas.properties(cls, incoming=True)
    parameters = []
    for field in fields_of(cls):
        schema = properties[field.key]
        schema = _without_null(schema)
        parameter: dict[str, Any] = {"name": field.key, "in": "query", "required": field.required}
        text = schema.pop("description", None)
        if text:
            parameter["description"] = text
        parameter["schema"] = _with_words(schema, field)
        parameters.append(parameter)
    return parameters


def _with_words(schema: Schema, field: Field) -> Schema:
    """What `query` takes beside the type itself: nothing at all, and 0 and 1 for booleans."""
    if takes_text(field.kind) or field.required:
        return schema
    words = ["", "0", "1"] if schema.get("type") == "boolean" else [""]
    known = {key: schema.pop(key) for key in ("default", "description") if key in schema}
    return {"anyOf": [schema, {"type": "string", "enum": words}]} | known


def _without_null(schema: Schema) -> Schema:
    """A query string has no null: what may be null may be left out."""
    alternatives = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    if not alternatives:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return rest | (alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives})


def _responses(
    app: App, schemas: Schemas, path: str, found: Reflection, description: Description
) -> dict[str, dict[str, Any]]:
    answers = {status: list(kinds) for status, kinds in found.answers.items()}
    if description.returns is not None:
        answers = {description.status or 200: [description.returns]}
    elif description.status is not None:
        answers = {description.status: [kind for kinds in answers.values() for kind in kinds]}
    responses: dict[str, dict[str, Any]] = {}
    for status, kinds in answers.items():
        responses[str(status)] = _response(schemas, status, kinds, description.media_type)
    streams = found.streams or description.streams
    if streams:
        success = responses.setdefault("200", {"description": "OK"})
        success.setdefault("content", {})["text/event-stream"] = {}
        if any(kind is UNKNOWN for kind in answers.get(200, ())) and len(answers[200]) > 1:
            known = [kind for kind in answers[200] if kind is not UNKNOWN]
            success["content"] |= _response(schemas, 200, known, description.media_type).get("content", {})
    # Other dialects have error bodies of their own.
    standard = app.error_format(path) is standard_error
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"} if standard else {}}}
    for status, kind in description.responses.items():
        responses[str(status)] = (
            {"description": _phrase(status), "content": error}
            if kind is None
            else _response(schemas, status, [kind], None)
        )
    responses["default"] = {"description": "Failure", "content": error}
    return responses


def _response(schemas: Schemas, status: int, kinds: list[Any], media_type: str | None) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _phrase(status)}
    if status == 204 or (UNKNOWN in kinds and media_type is None):
        return response
    alternatives = [schemas.of(kind, incoming=False) for kind in kinds if kind is not UNKNOWN]
    schema = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives} if alternatives else {}
    if media_type is None and kinds == [str]:
        media_type = "text/html"
    response["content"] = {media_type or "application/json": {"schema": schema}}
    return response


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)
