"""What one request carries with it from service to service: who asks, under which id and trace."""

from __future__ import annotations

import uuid
from contextvars import ContextVar, Token

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


_current: ContextVar[CallContext | None] = ContextVar("uait_call", default=None)

SCOPE_KEY = "uait.call"
"""Where an in-process call puts its CallContext in the ASGI scope. A server on a socket never sets it, so what is found there is trusted."""


def current_call() -> CallContext | None:
    """The request that this task works for, or None in background work."""
    return _current.get()


class bind_call:  # noqa: N801  a context manager for `with`, and no generator: every request enters it
    """Make `call` the current one inside the block, in this task and in those it starts."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: CallContext) -> None:
        self._call = call

    def __enter__(self) -> CallContext:
        self._token: Token[CallContext | None] = _current.set(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def outgoing_call() -> CallContext:
    """The context that a call made now carries: the current request's, or a new one in background work. The callee makes its own span below it."""
    return _current.get() or CallContext(str(uuid.uuid4()))
