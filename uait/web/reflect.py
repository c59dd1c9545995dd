"""What a handler's source tells: which body, query and answer it has."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import attrs
from quart.wrappers import Response
from werkzeug.wrappers import Response as WerkzeugResponse

from uait.web import parse, sse

UNKNOWN: Any = object()
"""The type of an answer that nothing is known of."""


@attrs.frozen
class Reflection:
    """What was found. `answers` maps a status to the types of its body."""

    body: Any = None
    query: Any = None
    streams: bool = False
    answers: dict[int, list[Any]] = attrs.field(factory=dict)


def reflect(handler: Callable[..., Any]) -> Reflection:
    """Look at `handler`, which nothing wraps: at the calls of `body`, `query` and `event_stream` in its source, and at its return annotation."""
    scope = _scope(handler)
    calls = dict(_calls(handler, scope))
    return Reflection(
        body=calls.get(parse.body),
        query=calls.get(parse.query),
        streams=sse.event_stream in calls,
        answers=_answers(_return_type(handler, scope)),
    )


def _scope(handler: Callable[..., Any]) -> dict[str, Any]:
    """The names that the handler sees: its module's, and those of the functions around it."""
    found = inspect.getclosurevars(handler)
    return {**vars(typing), **found.builtins, **getattr(handler, "__globals__", {}), **found.nonlocals}


def _calls(handler: Callable[..., Any], scope: dict[str, Any]) -> list[tuple[Any, Any]]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(handler)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = _resolve(node.func, scope)
        if function in (parse.body, parse.query) and node.args:
            kind = _resolve(node.args[0], scope)
            if kind is not UNKNOWN:
                found.append((function, kind))
        elif function is sse.event_stream:
            found.append((function, True))
    return found


def _resolve(expression: ast.expr, scope: dict[str, Any]) -> Any:
    """What an expression made of names, attributes, subscripts and `|` stands for. Anything else is not evaluated."""
    allowed = (ast.Name, ast.Attribute, ast.Subscript, ast.Tuple, ast.Constant, ast.BinOp, ast.BitOr, ast.expr_context)
    if not all(isinstance(node, allowed) for node in ast.walk(expression)):
        return UNKNOWN
    try:
        found = eval(compile(ast.Expression(expression), "<openapi>", "eval"), scope)
        hash(found)
    except Exception:
        return UNKNOWN
    return found


def _return_type(handler: Callable[..., Any], scope: dict[str, Any]) -> Any:
    annotation = getattr(handler, "__annotations__", {}).get("return", UNKNOWN)
    if isinstance(annotation, str):
        try:
            return eval(annotation, scope)
        except Exception:
            return UNKNOWN
    return annotation


def _answers(annotation: Any) -> dict[int, list[Any]]:
    """Status -> types. `tuple[X, Literal[201]]` names its status, None is 204, the rest 200, `tuple[X, int]` too; a `Response` may be anything."""
    found: dict[int, list[Any]] = {}
    members = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (typing.Union, types.UnionType)
        else (annotation,)
    )
    for member in members:
        status, kind = 200, member
        if typing.get_origin(member) is tuple:
            kind, *rest = typing.get_args(member) or (UNKNOWN,)
            codes = typing.get_args(rest[0]) if rest and typing.get_origin(rest[0]) is Literal else ()
            if Ellipsis in rest:
                kind = UNKNOWN
            for status in codes:
                found.setdefault(status, []).append(kind)
            if codes:
                continue
        if kind is None or kind is type(None):
            status, kind = 204, None
        elif kind is Any or (isinstance(kind, type) and issubclass(kind, (Response, WerkzeugResponse))):
            kind = UNKNOWN
        found.setdefault(status, []).append(kind)
    return found
