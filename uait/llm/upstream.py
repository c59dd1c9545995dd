"""What a provider's failure means to whoever asked us: one place where foreign errors become ours."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import attrs
import httpx
import orjson

from uait.errors import (
    APIError,
    BadRequest,
    DeadlineExceeded,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unavailable,
    UpstreamError,
)

SHOULD_RETRY = "x-should-retry"
"""The official SDKs obey it. We say `false` after a provider failed: whoever retries is as near to it as possible, or retries multiply."""

CONTEXT_LENGTH = "CONTEXT_LENGTH_EXCEEDED"
"""The code of a question that is longer than the model can read."""

NEVER = "PROVIDER_BROKEN"
"""The code of what no further attempt can change, since the provider itself is wrongly written or set up."""

_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"})
_SAYS_TOO_LONG = re.compile(
    r"maximum (context|prompt) length|context (length|window|size|limit)|prompt is too long|prompt too long"
    r"|input token count .{0,40}exceeds|too many (input )?tokens|input length .{0,40}(should|must|exceed)"
    r"|tokens .{0,60}must be <=",
    re.IGNORECASE,
)
"""Those that have no word for it say it in a sentence."""

MESSAGE_CHARACTERS = 500
"""How much of a provider's own words is passed on."""

_NO_QUOTA = frozenset({"insufficient_quota", "billing_error", "billing_hard_limit_reached"})
_STATUS_BY_TYPE = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Google's words
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long a provider may take, in seconds.

    Attributes:
        connect: until a connection is there.
        first_token: from the question to the first token; a local server may have to load the model.
        idle: between two signs of life afterwards; comments and pings count.
        total: the whole answer.
    """

    connect: float = 10.0
    first_token: float = 300.0
    idle: float = 90.0
    total: float = 600.0


def failed(error: APIError) -> APIError:
    """Mark `error` as a provider's failure, which the caller's SDK shall not retry."""
    error.headers.setdefault(SHOULD_RETRY, "false")
    return error


def broken(provider: str, what: str) -> APIError:
    """The provider answered, and not as it should."""
    return failed(UpstreamError(f"The provider {provider!r} {what}.", details={"provider": provider}))


def unreachable(provider: str, why: str = "check its address and that it is running") -> APIError:
    """No connection to the provider."""
    return failed(
        Unavailable(
            f"The provider {provider!r} cannot be reached; {why}.",
            code="PROVIDER_UNREACHABLE",
            details={"provider": provider},
        )
    )


def too_slow(provider: str, what: str) -> APIError:
    """The provider took longer than it may."""
    return failed(
        DeadlineExceeded(
            f"The provider {provider!r} {what} in time.", code="UPSTREAM_TIMEOUT", details={"provider": provider}
        )
    )


def from_transport(provider: str, error: httpx.HTTPError) -> APIError:
    """Translate what httpx raises while a question is under way."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout() | httpx.UnsupportedProtocol():
            return _no_connection(provider, error)
        case httpx.TimeoutException():
            return too_slow(provider, "did not answer")
        case httpx.DecodingError():
            return broken(provider, "sent a body that cannot be decoded")
        case _:
            return broken(provider, "closed the connection before its answer was complete")


def _no_connection(provider: str, error: BaseException) -> APIError:
    cause: BaseException | None = error
    while cause is not None:
        # By what `ssl.SSLCertVerificationError` has: not every process has loaded `ssl` (`uait.cli.lean`).
        if verdict := getattr(cause, "verify_message", ""):
            return unreachable(
                provider, f"its certificate is not trusted: {verdict} (SSL_CERT_FILE can name the authorities to trust)"
            )
        if isinstance(cause, socket.gaierror):
            return unreachable(provider, "the name in its address is not known")
        cause = cause.__cause__ or cause.__context__
    return unreachable(provider)


def from_status(provider: str, status: int, body: bytes, headers: Mapping[str, str]) -> APIError:
    """Translate an HTTP answer of 400 or above. `body` may be anything: JSON of several shapes, text, HTML, nothing."""
    payload = _json(body)
    wait = retry_after(headers)
    return _translate(provider, status, payload, _message(payload, body), _delay(payload) if wait is None else wait)


def from_frame(provider: str, error: Any) -> APIError:
    """Translate an error that came inside a stream after a 200. `error` is what stood there: an object or a text."""
    payload = {"error": error}
    code = _code(payload)
    status = int(code) if isinstance(code, int | str) and str(code).isascii() and str(code).isdigit() else 0
    if not 400 <= status < 600:
        status = next((_STATUS_BY_TYPE[word] for word in _kind(payload) if word in _STATUS_BY_TYPE), 502)
    return _translate(provider, status, payload, _message(payload, b""), _delay(payload))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the provider says it: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date. None where it says nothing sensible."""
    milliseconds = headers.get("retry-after-ms", "")
    plain = headers.get("retry-after", "")
    seconds: float | None = None
    try:
        if milliseconds:
            seconds = float(milliseconds) / 1000
        elif plain:
            seconds = float(plain)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(plain).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if seconds is not None and 0 <= seconds < 86_400 * 7 else None


def _translate(provider: str, status: int, payload: Any, message: str, wait: float | None) -> APIError:
    kind = _kind(payload)
    details = {"provider": provider, "status": status, "type": kind[0] if kind else None, "code": _code(payload)}
    said = f"The provider {provider!r} says: {message}" if message else f"The provider {provider!r} answered {status}."
    if "API_KEY_INVALID" in kind:
        status = 401  # Google says 400
    if _NO_QUOTA.intersection(kind) or (status == 402 and wait is None):
        # Waiting does not help, so no Retry-After; 429 is what callers of such an account know.
        return failed(TooManyRequests(said, code="INSUFFICIENT_QUOTA", retry_after=None, details=details))
    if status in (400, 413, 422) and (_TOO_LONG.intersection(kind) or _SAYS_TOO_LONG.search(message)):
        return failed(BadRequest(said, code=CONTEXT_LENGTH, details=details))
    match status:
        case 400 | 409 | 422:
            return failed(BadRequest(said, details=details))
        case 401 | 403:
            # Ours, not the caller's: their own key is fine. The provider's words may quote a part of the key.
            return failed(
                UpstreamError(
                    f"The provider {provider!r} refuses the API key it was given; check its settings.",
                    code="PROVIDER_REFUSED_KEY",
                    details=details,
                )
            )
        case 404:
            return failed(NotFound(said, code="MODEL_NOT_FOUND", details=details))
        case 408 | 504:
            return failed(DeadlineExceeded(said, code="UPSTREAM_TIMEOUT", details=details))
        case 413:
            return failed(PayloadTooLarge(said, details=details))
        case 402 | 429:
            return failed(TooManyRequests(said, retry_after=wait, details=details))
        case 503 | 529:
            return failed(Unavailable(said, code="PROVIDER_OVERLOADED", retry_after=wait, details=details))
        case _ if 400 <= status < 500:
            return failed(BadRequest(said, details=details))
        case _:
            return failed(UpstreamError(said, details=details))


def _json(body: bytes) -> Any:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    # Gemini's compatible layer wraps its error in a list of one.
    return payload[0] if isinstance(payload, list) and payload else payload


def _kind(payload: Any) -> tuple[str, ...]:
    """The provider's own words for the kind of error: type, then code, then what Google puts beside them."""
    error = payload.get("error") if isinstance(payload, dict) else None
    if not isinstance(error, dict):
        return ()
    words = [error.get("type"), error.get("code"), error.get("status")]
    for detail in _details(error):
        words.append(detail.get("reason"))
        violations = detail.get("violations")
        if isinstance(violations, list) and any(map(_lasts, violations)):
            words.append("insufficient_quota")
    return tuple(word[:MESSAGE_CHARACTERS] for word in words if isinstance(word, str) and word)


def _code(payload: Any) -> Any:
    """The error's own code: a word, a number, or None."""
    error = payload.get("error") if isinstance(payload, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str):
        return code[:MESSAGE_CHARACTERS]
    return code if isinstance(code, int) else None


def _lasts(violation: Any) -> bool:
    """Whether a violated quota of Google's is a daily one, or none at all: waiting a minute does not help."""
    if not isinstance(violation, dict):
        return False
    return "PerDay" in str(violation.get("quotaId")) or str(violation.get("quotaValue", "")) == "0"


def _delay(payload: Any) -> float | None:
    """Seconds to wait as Google says it: `RetryInfo` among an error's details, "46s"."""
    error = payload.get("error") if isinstance(payload, dict) else None
    for detail in _details(error) if isinstance(error, dict) else ():
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"\d{1,5}(\.\d{1,9})?s", delay, re.ASCII):
            return float(delay[:-1])
    return None


def _details(error: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _message(payload: Any, body: bytes) -> str:
    """The provider's sentence, from whichever of the usual places it stands in; "" where there is none a person could read."""
    found: Any = None
    if isinstance(payload, dict):
        error = payload.get("error")
        found = error.get("message") if isinstance(error, dict) else error
        found = found or payload.get("message") or payload.get("detail")
    elif payload is None and body and not body.lstrip().startswith(b"<"):
        found = body[: 4 * MESSAGE_CHARACTERS].decode("utf-8", "replace")
    if isinstance(found, list | dict):
        found = orjson.dumps(found).decode()
    return " ".join(found.split())[:MESSAGE_CHARACTERS] if isinstance(found, str) else ""
