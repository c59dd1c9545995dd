"""What memory takes and gives, as data."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

import attrs
import orjson
from attrs import validators

from uait.web import Paging, identifier

CONTENT_CHARACTERS = 1024 * 1024
METADATA_BYTES = 64 * 1024
TAGS = 64
QUERY_CHARACTERS = 8192
MAX_OFFSET = 2**31 - 1

_TEXT = re.compile(r"\S")

_content: Any = validators.and_(validators.max_len(CONTENT_CHARACTERS), validators.matches_re(_TEXT, func=re.search))
_type: Any = validators.and_(validators.min_len(1), validators.max_len(64))
_tags: Any = validators.and_(
    validators.max_len(TAGS),
    validators.deep_iterable(validators.and_(validators.min_len(1), validators.max_len(128))),
)


def _small(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value and len(orjson.dumps(value)) > METADATA_BYTES:
        raise ValueError(f"{attribute.name} must be at most {METADATA_BYTES} bytes of JSON")


@attrs.frozen(kw_only=True)
class Memory:
    """One thing that a user told.

    Attributes:
        type: what kind of thing it is, in the client's own words; "general" where it named none.
        content: as it was told, to the letter.
        access_count: how often it was asked for by its id; `last_access` when that was last, its creation until then.
    """

    id: str
    user_id: str
    type: str
    content: str
    metadata: dict[str, Any]
    tags: list[str]
    created_at: str
    updated_at: str
    access_count: int
    last_access: str


@attrs.frozen(kw_only=True)
class NewMemory:
    """Something to remember."""

    content: str = attrs.field(validator=_content)
    type: str = attrs.field(default="general", validator=_type)
    tags: list[str] = attrs.field(factory=list, validator=_tags)
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=_small)


@attrs.frozen(kw_only=True)
class MemoryChange:
    """What to change; what is left out stays."""

    content: str | None = attrs.field(default=None, validator=validators.optional(_content))
    type: str | None = attrs.field(default=None, validator=validators.optional(_type))
    tags: list[str] | None = attrs.field(default=None, validator=validators.optional(_tags))
    metadata: dict[str, Any] | None = attrs.field(default=None, validator=_small)


@attrs.frozen(kw_only=True)
class MemoryQuery(Paging):
    """Which memories: those that fit all of it.

    Attributes:
        query: plain words or a question; the best fitting come first. Without it: the newest first.
        tags: those that have every one of these.
        start_date, end_date: made in this span of time; a date alone means the whole day (UTC).
        offset: how many to leave out; better use the cursor, which stays right while memories come and go.
    """

    query: str = attrs.field(default="", validator=validators.max_len(QUERY_CHARACTERS))
    type: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(64)))
    tags: list[str] = attrs.field(factory=list, validator=validators.max_len(TAGS))
    start_date: datetime | date | None = None
    end_date: datetime | date | None = None
    offset: int = attrs.field(default=0, validator=validators.and_(validators.ge(0), validators.le(MAX_OFFSET)))


@attrs.frozen(kw_only=True)
class MemoryList:
    """The memories found. `count` is how many are here, `total` how many there are; `next_cursor`, where there are more, leads to them."""

    memories: list[Memory]
    count: int
    total: int
    query: str
    next_cursor: str | None = None


@attrs.frozen(kw_only=True)
class MemoryStatistics:
    """What a user has stored. `first` and `last` tell when the oldest and the newest memory were made."""

    total: int
    characters: int
    types: dict[str, int]
    first: str | None
    last: str | None


@attrs.frozen
class MemoryReference:
    """A memory by its id; everything else of it is ignored."""

    id: str = attrs.field(validator=validators.max_len(128))


@attrs.frozen(kw_only=True)
class NewContext:
    """What belongs to a conversation; what is left out stays as it was.

    Attributes:
        memories: the user's memories that belong to it, in this order: their ids, or memories as they were given.
    """

    conversation_id: str = attrs.field(validator=identifier())
    summary: str | None = attrs.field(
        default=None, validator=validators.optional(validators.max_len(CONTENT_CHARACTERS))
    )
    memories: list[str | MemoryReference] | None = attrs.field(
        default=None, validator=validators.optional(validators.max_len(200))
    )


@attrs.frozen(kw_only=True)
class ConversationContext:
    """What belongs to a conversation: its summary, and those of its memories that there still are (as many as come to 8 million characters)."""

    id: str
    user_id: str
    conversation_id: str
    summary: str
    memories: list[Memory]
    created_at: str
    updated_at: str
