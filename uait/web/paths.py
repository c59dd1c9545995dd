"""Paths, and the ids in them and elsewhere."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from attrs import validators
from werkzeug.routing import BaseConverter

from uait.errors import BadRequest
from uait.server.asgi import Scope


def request_path(scope: Scope) -> str:
    """The path that routes match, also of a request line in absolute form (RFC 9112 section 3.2.2).

    Raises:
        BadRequest: it is no URL.
    """
    path: str = scope["path"]
    if path.startswith("/"):
        return path
    try:
        return urlsplit(path).path or "/"
    except ValueError:
        raise BadRequest("The request's target is not a URL.") from None


def is_under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it. A prefix ends where a segment ends: `/v1` is none of `/v10`."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


_SIGN = r"[^/\x00-\x1f\x7f]"


class IdConverter(BaseConverter):
    """`<id:name>` in a route: 1 to 128 characters without control characters and slashes. Anything else is not found."""

    regex = _SIGN + "{1,128}"


def identifier() -> Any:
    """A validator for attrs fields that hold somebody's id, as `<id:name>` takes it, so that what is stored under it can be asked for."""
    return validators.and_(validators.min_len(1), validators.max_len(128), validators.matches_re(_SIGN + "*"))
