"""Request ids, and W3C trace context (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re

from uait.storage.ids import new_id, random8

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")


def request_id(given: bytes | None) -> str:
    """The caller's request id where it is sane (1 to 128 visible ASCII characters), else a new one."""
    return given.decode("ascii") if given and _REQUEST_ID.fullmatch(given) else new_id()


def child_span(traceparent: str | None) -> tuple[str, bool]:
    """A `traceparent` for a new span below the given one, or of a new trace where that is missing or broken.

    Returns the header value, and whether it goes on with the given trace: only then is a `tracestate` passed on.
    """
    span = random8().hex()
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    # Version 00 has exactly four parts; later versions may have more, which we do not understand and therefore drop.
    if match is not None and traceparent is not None and (traceparent[:2] != "00" or match[3] is None):
        return f"00-{match[1]}-{span}-{int(match[2], 16) & 1:02x}", True
    return f"00-{random8().hex()}{random8().hex()}-{span}-00", False
