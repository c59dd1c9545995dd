"""What one request carries with it from service to service: who asks, under which id and trace."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import attrs


@attrs.frozen
class Identity:
    """Who a request is from. `authenticated` is False in local mode, where the name is taken on trust."""

    user_id: str = "local"
    authenticated: bool = False


@attrs.frozen
class CallContext:
    """One request's identity, ids and trace. The remaining time is not here: trio's cancel scopes carry it.

    Attributes:
        request_id: the same at every hop.
        identity: who asks.
        traceparent: the W3C header value of this hop's span.
        tracestate: passed on as it came.
    """

    request_id: str
    identity: Identity = Identity()
    traceparent: str = ""
    tracestate: str = ""

    def child(self) -> CallContext:
        """The context for a call made on behalf of this one: the same in everything, with a span of its own."""
        return CallContext(self.request_id, self.identity, child_traceparent(self.traceparent), self.tracestate)


_current: ContextVar[CallContext | None] = ContextVar("uait_call", default=None)

SCOPE_KEY = "uait.call"
"""Where an in-process call puts its CallContext in the ASGI scope. A server on a socket never sets it, so what is found there is trusted."""


def current_call() -> CallContext | None:
    """The request that this task works for, or None in background work."""
    return _current.get()


@contextmanager
def bind_call(call: CallContext) -> Iterator[CallContext]:
    """Make `call` the current one inside the block, in this task and in those it starts."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)


def outgoing_call() -> CallContext:
    """The context for a call made now: the current request's child, or a new one in background work."""
    current = _current.get()
    return CallContext(str(uuid.uuid4()), traceparent=child_traceparent("")) if current is None else current.child()


_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")


def child_traceparent(parent: str) -> str:
    """A `traceparent` for a new span under `parent`; the first span of a new trace where `parent` is empty or invalid.

    See https://www.w3.org/TR/trace-context/#traceparent-header.
    """
    match = _TRACEPARENT.fullmatch(parent)
    trace, flags = (match[1], match[2]) if match else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"
