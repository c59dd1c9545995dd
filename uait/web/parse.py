"""The current request's body and query, as instances of attrs classes."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable
from datetime import date, datetime
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from quart import request

from uait.errors import BadRequest, InvalidJSON, Problem, UnsupportedMediaType, ValidationFailed
from uait.web.codec import from_json
from uait.web.structure import FORBID_UNKNOWN, Field, bare, fields_of, structure

T = TypeVar("T")

MAX_PARAMETERS = 1000
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_LISTS = (list, tuple, set, frozenset)
_LOST_PLUS = re.compile(r" ([0-9]{2}:[0-9]{2})$")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


async def body(cls: type[T]) -> T:
    """Read the current request's JSON body as a `cls`. See `structure` for what is checked, `from_json` for what counts as JSON.

    A missing Content-Type is taken as JSON. Cancelling leaves the rest of the body unread, which ends the connection.

    Raises:
        UnsupportedMediaType: 415, the body says that it is not JSON.
        InvalidJSON: 400, it is none, or empty.
        ValidationFailed: 422, with every problem.
        PayloadTooLarge: 413, it is over `limits.body_bytes`.
    """
    return structure(await json_body(), cls)


async def json_body() -> Any:
    """Read the current request's JSON body, decoded and unchecked: for dialects whose bodies are passed on. Raises what `body` does, but for 422."""
    kind = request.headers.get("Content-Type")
    if kind is not None and not _is_json(kind):
        raise UnsupportedMediaType()
    data = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    if not data:
        raise InvalidJSON("The body is empty; send a JSON document.")
    return from_json(data)


def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return False
    if not parameters:
        return True
    charset = re.search(r"charset\s*=\s*\"?([\w-]+)", parameters, re.IGNORECASE)
    return charset is None or charset[1].lower() in ("utf-8", "utf8", "us-ascii")


def query(cls: type[T]) -> T:
    """Read the current request's query string as a `cls`, whose fields are texts, numbers, booleans, times, enums, or lists of them.

    A list is given by repetition (`tag=a&tag=b`) or with commas (`tag=a,b`). An empty value of anything but text counts as not given, a bare name as true for a boolean.

    Raises:
        ValidationFailed: 422, with every problem.
        BadRequest: 400, the query string is not UTF-8.
    """
    return from_query(request.query_string, cls)


def from_query(query_string: bytes, cls: type[T]) -> T:
    """What `query` does, for a query string at hand."""
    given: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise BadRequest("The query string is not UTF-8.") from None
    except ValueError:
        raise BadRequest(f"The query string has more than {MAX_PARAMETERS} parameters.") from None
    for key, value in pairs:
        given.setdefault(key, []).append(value)
    data: dict[str, Any] = {}
    problems: list[Problem] = []
    for field in fields_of(cls):
        if field.key in given:
            _coerce(field, given.pop(field.key), data, problems)
    if getattr(cls, FORBID_UNKNOWN, False):
        data |= given
    if problems:
        # The rest is checked too, so that all problems come at once.
        try:
            structure(data, cls)
        except ValidationFailed as error:
            bad = {problem.where for problem in problems}
            problems.extend(problem for problem in error.problems if problem.where not in bad)
        raise ValidationFailed(problems)
    return structure(data, cls)


def _coerce(field: Field, texts: list[str], data: dict[str, Any], problems: list[Problem]) -> None:
    kinds = _alternatives(field.kind)
    listed = next((kind for kind in kinds if typing.get_origin(kind) in _LISTS), None)
    if listed is not None:
        item = _alternatives((typing.get_args(listed) or (str,))[0])
        parts = texts if len(texts) > 1 else [part for part in texts[0].split(",") if part]
        data[field.key] = [_from_text(part, item) for part in parts]
    elif len(texts) > 1:
        problems.append(Problem(f"$.{field.key}", "is given more than once"))
    elif texts[0] or bool in kinds or takes_text(field.kind):
        data[field.key] = _from_text(texts[0], kinds)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    kind = bare(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(bare(one) for one in typing.get_args(kind) if one is not type(None))
    return (kind,)


def takes_text(kind: Any) -> bool:
    """Whether any text is a value of `kind`, the empty one included; lists of such, too."""
    kinds = _alternatives(kind)
    if any(typing.get_origin(one) in _LISTS for one in kinds):
        kinds = tuple(bare(item) for one in kinds for item in typing.get_args(one) if item is not Ellipsis)
    return any(one in (str, Any) for one in kinds)


def _from_text(text: str, kinds: tuple[Any, ...]) -> Any:
    """The value that `text` stands for, or the text itself, whereupon `structure` says what is wrong with it."""
    for kind in kinds:
        for read in _READERS.get(kind, ()) or (_reader(kind),):
            value = read(text)
            if value is not None:
                return value
    return text


def _reader(kind: Any) -> Callable[[str], Any]:
    options: list[Any] = []
    if typing.get_origin(kind) is typing.Literal:
        options = list(typing.get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, Enum):
        options = [member.value for member in kind]
    return {str(option): option for option in options}.get


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _truth(text: str) -> bool | None:
    return True if not text else _WORDS.get(text.lower())


def _text(text: str) -> str:
    return text


def _time(text: str) -> str:
    # In a query string a "+" that nobody encoded has become a space.
    return _LOST_PLUS.sub(r"+\1", text)


_READERS: dict[Any, tuple[Callable[[str], Any], ...]] = {
    int: (_integer,),
    float: (_number,),
    bool: (_truth,),
    str: (_text,),
    datetime: (_time,),
    date: (_text,),
    Any: (_text,),
}
