"""What memory takes and gives, as data."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Any

import attrs
import orjson
from attrs import validators

from uait.storage import format_time
from uait.web import Paging, identifier

CONTENT_CHARACTERS = 1024 * 1024
METADATA_BYTES = 64 * 1024
TAGS = 64
QUERY_CHARACTERS = 8192
MAX_OFFSET = 2**31 - 1

_TEXT = re.compile(r"\S")

content_validator: Any = validators.and_(
    validators.max_len(CONTENT_CHARACTERS), validators.matches_re(_TEXT, func=re.search)
)
_type: Any = validators.and_(validators.min_len(1), validators.max_len(64))
_tags: Any = validators.and_(
    validators.max_len(TAGS),
    validators.deep_iterable(validators.and_(validators.min_len(1), validators.max_len(128))),
)

_scope: Any = validators.optional(identifier())
_share: Any = validators.optional(validators.and_(validators.ge(0), validators.le(1)))


def small_metadata(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A validator for metadata, also where there may be none."""
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
    agent_id: str | None = None
    session_id: str | None = None
    source: str | None = None
    occurred_at: str | None = None
    importance: float | None = None
    valid_from: str | None = None
    valid_until: str | None = None
    expires_at: str | None = None


@attrs.frozen(kw_only=True)
class NewMemory:
    """Something to remember.

    Attributes:
        agent_id, session_id: further scopes; `run_id` is another name of `session_id`.
        source: where it comes from, in the client's own words.
        occurred_at: when it was said or done; where it is left out, the metadata may tell (`date`, `timestamp`, ...).
        importance: from 0 to 1.
        valid_from, valid_until: since when, and until when, it holds. Outside of that it is only found by asking for that time (`as_of`).
        expires_at: when it is to be forgotten.
    """

    content: str = attrs.field(validator=content_validator)
    type: str = attrs.field(default="general", validator=_type)
    tags: list[str] = attrs.field(factory=list, validator=_tags)
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=small_metadata)
    agent_id: str | None = attrs.field(default=None, validator=_scope)
    session_id: str | None = attrs.field(default=None, validator=_scope)
    run_id: str | None = attrs.field(default=None, validator=_scope)
    source: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(256)))
    occurred_at: datetime | None = None
    importance: float | None = attrs.field(default=None, validator=_share)
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    expires_at: datetime | None = None


@attrs.frozen(kw_only=True)
class SimilarMemory:
    """A memory that is nearly the same as another one; `similarity` is what their words share, up to 1."""

    id: str
    content: str
    similarity: float


@attrs.frozen(kw_only=True)
class StoredMemory(Memory):
    """A memory as it was stored.

    Attributes:
        deduped: the very same was there already, and is given here; nothing was stored.
        similar: the user's memories that are nearly the same. Nothing was done about them.
    """

    deduped: bool = False
    similar: list[SimilarMemory] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class MemoryChange:
    """What to change; what is left out stays. See `NewMemory`."""

    content: str | None = attrs.field(default=None, validator=validators.optional(content_validator))
    type: str | None = attrs.field(default=None, validator=validators.optional(_type))
    tags: list[str] | None = attrs.field(default=None, validator=validators.optional(_tags))
    metadata: dict[str, Any] | None = attrs.field(default=None, validator=small_metadata)
    importance: float | None = attrs.field(default=None, validator=_share)
    occurred_at: datetime | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    expires_at: datetime | None = None


@attrs.frozen(kw_only=True)
class MemoryQuery(Paging):
    """Which memories: those that fit all of it.

    Attributes:
        query: plain words or a question; the best fitting come first. Without it: the newest first.
        tags: those that have every one of these.
        start_date, end_date: made in this span of time; a date alone means the whole day (UTC).
        offset: how many to leave out; better use the cursor, which stays right while memories come and go.
        agent_id, session_id: those of this scope; `run_id` is another name of `session_id`.
        as_of: those that were there and valid then, as they were then. The words of a query are looked for in what they are now.
        explain: tell what each signal had to do with it.
        budget_ms: answer after so many milliseconds with what the signals have found by then.
        now: what "last May" in a query is counted from, where that is not the present.
        half_life_days: of two equally good memories, one older by so many days counts half, but never less than 0.3; 0 leaves age out.
    """

    query: str = attrs.field(default="", validator=validators.max_len(QUERY_CHARACTERS))
    type: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(64)))
    tags: list[str] = attrs.field(factory=list, validator=validators.max_len(TAGS))
    start_date: datetime | date | None = None
    end_date: datetime | date | None = None
    offset: int = attrs.field(default=0, validator=validators.and_(validators.ge(0), validators.le(MAX_OFFSET)))
    agent_id: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(128)))
    session_id: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(128)))
    run_id: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(128)))
    as_of: datetime | date | None = None
    explain: bool = False
    budget_ms: int | None = attrs.field(
        default=None, validator=validators.optional(validators.and_(validators.ge(1), validators.le(600_000)))
    )
    now: datetime | None = None
    half_life_days: float = attrs.field(
        default=0.0, validator=validators.and_(validators.ge(0), validators.le(100_000))
    )

    @property
    def session(self) -> str | None:
        """The session asked for, under either name."""
        return self.session_id if self.session_id is not None else self.run_id


@attrs.frozen(kw_only=True)
class MemorySearch(MemoryQuery):
    """As the list's parameters, and a filter: keys of memories, `metadata.NAME`, `AND`, `OR`, `NOT`, as in `{"importance": {"gte": 0.5}}`. See `filters.py`."""

    filters: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Explanation:
    """Why a memory stands where it does: its score, and each signal's part of it."""

    id: str
    score: float
    signals: dict[str, float]


@attrs.frozen
class AsOf:
    """`as_of`: how it was then."""

    as_of: datetime | date | None = None

    def moment(self) -> str | None:
        """The moment as it stands in rows; the end of a day that is named."""
        return None if self.as_of is None else format_time(end_of(self.as_of))


def begin_of(moment: datetime | date) -> datetime:
    """A moment, or the beginning of a day (UTC)."""
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time.min, UTC)


def end_of(moment: datetime | date) -> datetime:
    """A moment, or the end of a day (UTC)."""
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time.max, UTC)


@attrs.frozen(kw_only=True)
class MemoryList:
    """The memories found. `count` is how many are here, `total` how many there are; `next_cursor`, where there are more, leads to them.

    Attributes:
        total: for a query, how many memories have something of it; of very common words only the newest 5,000 are looked at.
        explanations: one for each memory, where that was asked for.
        signals: where it was asked to explain or given a budget, which signals took part: `complete`, `late`, `failed`, or `off`.
    """

    memories: list[Memory]
    count: int
    total: int
    query: str
    next_cursor: str | None = None
    explanations: list[Explanation] | None = None
    signals: dict[str, str] | None = None


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
