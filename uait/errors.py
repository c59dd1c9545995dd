"""Every exception that uait raises on purpose.

    UaitError
    ├── SettingsError            the operator must act: settings that cannot be used, all problems at once
    ├── PluginError              the plugin's author or the operator must act: one plugin cannot be loaded
    ├── StartError               the operator must act: the host cannot start (ports taken, data directory locked)
    ├── ServiceFailed            the service's author must act: a service crashed or would not start
    └── APIError                 whoever sent the request must act: it has an HTTP status and a code
        ├── BadRequest           400 INVALID_REQUEST
        │   └── InvalidJSON      400 INVALID_JSON
        ├── Unauthorized         401 UNAUTHORIZED
        ├── Forbidden            403 FORBIDDEN
        ├── NotFound             404 NOT_FOUND
        ├── MethodNotAllowed     405 METHOD_NOT_ALLOWED
        ├── Conflict             409 CONFLICT
        ├── PayloadTooLarge      413 PAYLOAD_TOO_LARGE
        ├── UnsupportedMediaType 415 UNSUPPORTED_MEDIA_TYPE
        ├── ValidationFailed     422 VALIDATION_FAILED
        ├── TooManyRequests      429 RATE_LIMITED
        ├── InternalError        500 INTERNAL_ERROR
        ├── UpstreamError        502 UPSTREAM_ERROR
        ├── Unavailable          503 UNAVAILABLE
        └── DeadlineExceeded     504 DEADLINE_EXCEEDED

What goes wrong with database files continues this tree in `uait/storage/errors.py`, with feeds in `uait/feeds/events.py`.

An APIError crosses a call between services unchanged: the callee's becomes an HTTP answer, and `from_response` makes the same class of it again at
the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs


class UaitError(Exception):
    """The root of the tree above."""


@attrs.frozen
class Problem:
    """One thing that is wrong: where it stands, and what would be right."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class SettingsError(UaitError):
    """Settings that cannot be used. `problems` lists every one of them, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(UaitError):
    """One plugin cannot be used. The message says who (distribution, entry point), what, and what to do."""


class StartError(UaitError):
    """The host cannot start at all. `problems` lists every reason at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ServiceFailed(UaitError):
    """A service stopped against its will; `__cause__` is why."""


class APIError(UaitError):
    """An answer with a status. Subclasses give `status` and `code`; both can be changed for one error by argument.

    Args:
        message: one sentence that says what to do. It reaches the client: no path, no secret.
        details: anything that JSON can hold, for programs.
        headers: added to the answer, as `Retry-After` is.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"
    message: ClassVar[str] = "The service failed to answer."

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Any = None,
        code: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.text = message or self.message
        self.details = details
        self.http_status = status or self.status
        self.error_code = code or self.code
        self.headers = dict(headers or {})
        super().__init__(self.text)

    def as_dict(self, request_id: str | None = None) -> dict[str, Any]:
        """The body of SPEC section 2: `{"error": {"code", "message", "details", "request_id"}}`."""
        return {
            "error": {"code": self.error_code, "message": self.text, "details": self.details, "request_id": request_id}
        }


class BadRequest(APIError):
    """The request cannot be understood."""

    status, code, message = (
        400,
        "INVALID_REQUEST",
        "The request cannot be understood; /openapi.json tells what is expected.",
    )


class InvalidJSON(BadRequest):
    """The body is not JSON."""

    code, message = "INVALID_JSON", "The body is not valid JSON."


class Unauthorized(APIError):
    """Nobody knows who is asking."""

    status, code, message = 401, "UNAUTHORIZED", "Send an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."

    def __init__(self, message: str | None = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.headers.setdefault("WWW-Authenticate", "Bearer")


class Forbidden(APIError):
    """It is known who is asking, and that they may not."""

    status, code, message = 403, "FORBIDDEN", "This is not allowed."


class NotFound(APIError):
    """There is no such thing, or it is somebody else's."""

    status, code, message = 404, "NOT_FOUND", "There is nothing at this address; GET / lists what there is."


class MethodNotAllowed(APIError):
    """The path exists, the method does not."""

    status, code, message = (
        405,
        "METHOD_NOT_ALLOWED",
        "This path does not take this method; the header 'Allow' lists those that it takes.",
    )


class Conflict(APIError):
    """The request contradicts what is stored."""

    status, code, message = 409, "CONFLICT", "The request contradicts the present state."


class PayloadTooLarge(APIError):
    """The body is over the limit."""

    status, code, message = 413, "PAYLOAD_TOO_LARGE", "The body is too large; send less at once."


class UnsupportedMediaType(APIError):
    """The body is of a type that the path does not take."""

    status, code, message = (
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        "Send the body as JSON, with the header 'Content-Type: application/json'.",
    )


class ValidationFailed(APIError):
    """The body or query is well formed and wrong. `problems` become `details`: every one, with its JSON path; the first is the message, too."""

    status, code, message = 422, "VALIDATION_FAILED", "The request has invalid values; 'details' lists each of them."

    def __init__(self, problems: Iterable[Problem] = (), message: str | None = None, **kwargs: Any) -> None:
        self.problems = tuple(problems)
        kwargs.setdefault("details", [{"path": problem.where, "message": problem.message} for problem in self.problems])
        super().__init__(message or self._first(), **kwargs)

    def _first(self) -> str | None:
        if not self.problems:
            return None
        first, *others = self.problems
        more = f" (and {len(others)} more)" if others else ""
        return f"{_short(first.where)} {_short(first.message)}{more}."


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


class _RetryLater(APIError):
    def __init__(self, message: str | None = None, *, retry_after: float | None = 1, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.retry_after = retry_after
        if retry_after is not None:
            self.headers.setdefault("Retry-After", str(max(1, round(retry_after))))


class TooManyRequests(_RetryLater):
    """A limit is reached; `retry_after` is in seconds."""

    status, code, message = 429, "RATE_LIMITED", "Too many requests; try again later."


class InternalError(APIError):
    """A bug, or a broken machine. What went wrong is in the log under the request id, never in the answer."""

    message = "The service failed to answer; its log has the reason under this request id."


class UpstreamError(APIError):
    """Somebody we asked on the caller's behalf answered wrongly."""

    status, code, message = 502, "UPSTREAM_ERROR", "A service behind this one failed."


class Unavailable(_RetryLater):
    """The service is not there now; `retry_after` is in seconds."""

    status, code, message = 503, "UNAVAILABLE", "The service is not available now; try again."


class DeadlineExceeded(APIError):
    """The request's time budget is used up."""

    status, code, message = (
        504,
        "DEADLINE_EXCEEDED",
        "The request ran out of time; ask for less, or give it more in X-Request-Timeout-Ms.",
    )


_SHORT = 300
"""Characters of a client's own words that a message repeats."""

_BY_STATUS: dict[int, type[APIError]] = {
    kind.status: kind
    for kind in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        Conflict,
        PayloadTooLarge,
        UnsupportedMediaType,
        TooManyRequests,
        InternalError,
        UpstreamError,
        Unavailable,
        DeadlineExceeded,
    )
}


def from_response(status: int, payload: Any, *, source: str) -> APIError:
    """Make the error of an HTTP answer again, at the caller's side of a call.

    Args:
        status: the answer's HTTP status, 400 or above.
        payload: its decoded JSON body, or None where it was not JSON.
        source: who answered, for the message where the body holds none.
    """
    error = payload.get("error") if isinstance(payload, dict) else None
    error = error if isinstance(error, dict) else {}
    message = error.get("message") if isinstance(error.get("message"), str) else f"{source} answered {status}."
    code = error.get("code") if isinstance(error.get("code"), str) else None
    if status == ValidationFailed.status:
        return ValidationFailed(message=message, details=error.get("details"), code=code)
    kind = _BY_STATUS.get(status, UpstreamError if status >= 500 else BadRequest)
    return kind(message, details=error.get("details"), code=code, status=status)
