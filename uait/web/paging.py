"""Paging by cursor: a page says where the next one begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs

from uait.errors import InvalidJSON, NotFound
from uait.web.codec import from_json, to_json

T = TypeVar("T")

MAX_CURSOR = 1024


@attrs.frozen
class Paging:
    """The query parameters of a paged list: use it, or a class derived from it, with `query`.

    Attributes:
        limit: at most so many items, 1 to 200.
        cursor: the `next_cursor` of the page before.
    """

    limit: int = attrs.field(
        default=50, validator=attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(200))
    )
    cursor: str | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.max_len(MAX_CURSOR))
    )

    def after(self) -> Any:
        """What the cursor holds, or None for the first page.

        Raises:
            NotFound: it is not one of ours.
        """
        return None if self.cursor is None else decode_cursor(self.cursor)


def encode_cursor(position: Any) -> str:
    """A position as an opaque text. Anything that JSON can hold; the ids and times that the list is sorted by."""
    return base64.urlsafe_b64encode(to_json(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> Any:
    """The position that `encode_cursor` was given.

    Raises:
        NotFound: 404, it is not one of ours. (Not 422: no schema can say which texts are right, so the request is not invalid.)
    """
    try:
        return from_json(base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, binascii.Error, InvalidJSON):
        raise NotFound(
            "This list has no page with this cursor; begin again without one.",
            details=[{"path": "$.cursor", "message": "is not a cursor that this list gave"}],
        ) from None


@attrs.frozen
class Page(Generic[T]):
    """One page, and the cursor of the next; None on the last."""

    items: Sequence[T]
    next_cursor: str | None = None


def page(found: Sequence[T], limit: int, position: Callable[[T], Any]) -> Page[T]:
    """Make a page of what a query with `LIMIT limit + 1` found: one item too many means that there is a next page.

    Args:
        found: at most `limit + 1` items.
        limit: of the page.
        position: what the cursor must hold to go on after an item.
    """
    if len(found) <= limit:
        return Page(found)
    items = found[:limit]
    return Page(items, encode_cursor(position(items[-1])))
