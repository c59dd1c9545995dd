"""What OpenAPI should say of a route and cannot be derived from its handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

Handler = TypeVar("Handler", bound=Callable[..., Any])

_ATTRIBUTE = "__uait_description__"


@attrs.frozen(kw_only=True)
class Description:
    """See `describe`."""

    body: Any = None
    body_optional: bool = False
    query: Any = None
    returns: Any = None
    status: int | None = None
    media_type: str | None = None
    responses: Mapping[int, Any] = attrs.field(factory=dict)
    streams: bool = False
    tags: Sequence[str] = ()
    deprecated: bool = False
    hidden: bool = False


def describe(
    *,
    body: Any = None,
    body_optional: bool = False,
    query: Any = None,
    returns: Any = None,
    status: int | None = None,
    media_type: str | None = None,
    responses: Mapping[int, Any] | None = None,
    streams: bool = False,
    tags: Sequence[str] = (),
    deprecated: bool = False,
    hidden: bool = False,
) -> Callable[[Handler], Handler]:
    """Complete what `/openapi.json` says of a handler. It stands below the route's decorator. What is left out is derived.

    Args:
        body: type of the JSON body, where the handler does not call `body(...)` itself.
        body_optional: it may be left out.
        query: class of the query parameters, where it does not call `query(...)` itself.
        returns: type of the answer, instead of the return annotation.
        status: of success; else 204 for None, the Literal of a `tuple[X, Literal[201]]`, or 200, also for a `tuple[X, int]`, which does not tell.
        media_type: of the answer, where it is not JSON.
        responses: further statuses, each with the type of its body, or None for our error body.
        streams: the answer may be an event stream instead, where the handler does not call `event_stream(...)` itself.
        tags: for grouping.
        deprecated: still answers, and should not be used any more.
        hidden: leave it out.
    """
    description = Description(
        body=body,
        body_optional=body_optional,
        query=query,
        returns=returns,
        status=status,
        media_type=media_type,
        responses=dict(responses or {}),
        streams=streams,
        tags=tuple(tags),
        deprecated=deprecated,
        hidden=hidden,
    )

    def attach(handler: Handler) -> Handler:
        setattr(handler, _ATTRIBUTE, description)
        return handler

    return attach


def description_of(handler: Any) -> Description:
    """What `describe` said of `handler`, or nothing."""
    found: Description = getattr(handler, _ATTRIBUTE, _NOTHING)
    return found


_NOTHING = Description()
