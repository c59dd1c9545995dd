"""Every exception that can come out of an app becomes an APIError."""

from __future__ import annotations

import re

import trio
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from uait.errors import (
    APIError,
    BadRequest,
    DeadlineExceeded,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
)

_DESIGNED = (APIError, HTTPException, trio.TooSlowError)
"""What is raised to be an answer; the first kind goes before the others."""


def to_api_error(error: BaseException) -> APIError:
    """The answer to `error`: the first APIError in it where it is a group; InternalError where it is a bug."""
    leaves = list(_leaves(error))
    for kind in _DESIGNED:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return _translate(leaf)
    return InternalError()


def has_bug(error: BaseException) -> bool:
    """Whether there is something in `error` that nobody raised for the client: then the log must have it, whatever the answer is."""
    return any(isinstance(leaf, InternalError) or not isinstance(leaf, _DESIGNED) for leaf in _leaves(error))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _translate(error: BaseException) -> APIError:
    if isinstance(error, APIError):
        return error
    if isinstance(error, HTTPException):
        return _from_werkzeug(error)
    return DeadlineExceeded()


def _from_werkzeug(error: HTTPException) -> APIError:
    status = error.code or 500
    if isinstance(error, WerkzeugMethodNotAllowed):
        return MethodNotAllowed(headers={"Allow": ", ".join(sorted(error.valid_methods or ()))})
    match status:
        case 400:
            return BadRequest()
        case 404:
            return NotFound()
        case 413:
            return PayloadTooLarge()
        case _ if status >= 400:
            code = re.sub(r"[^A-Z]+", "_", error.name.upper()).strip("_")
            return APIError(error.description, status=status, code=code)
        case _:
            return InternalError()
