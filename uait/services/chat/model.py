"""What chat takes and gives, as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import date
from typing import Any, Literal

import attrs
from attrs import validators

from uait.llm.catalog import ListedModel, ProviderStatus
from uait.llm.kinds import ProviderSettings
from uait.llm.routing import Price, RouteSettings, RoutingSettings, Trace
from uait.web import Paging, decode_cursor

MESSAGES_SHOWN = 100
"""How many messages of each conversation a list shows where it is asked for messages: the newest."""


@attrs.frozen(kw_only=True)
class ChatSettings:
    """The section `[chat]`. All times are in seconds.

    Attributes:
        default_model: for requests that name none, as `provider/model`; without it the first model of the first provider there is.
        memory: whether answers use what the user once told.
        memories: how many memories at most; `memory_timeout` how long they are waited for.
        history: how many earlier messages of a conversation a model is given.
        resume_grace: how long a streamed answer goes on without a viewer, so that one can come back.
        background_timeout: the deadline of an answer asked for with `background: true`.
        connect_timeout, first_token_timeout, idle_timeout, total_timeout: see `uait.llm.upstream.Timeouts`.
        generations: answers being made at once; `socket_generations` those of one WebSocket.
        local: whether to look for model servers on their usual ports of this machine.
        providers: further model servers by name, `[chat.providers.NAME]`.
        aliases: further names of models and routes.
        routes: names that stand for several models, `[chat.routes.NAME]`; `default` is what requests get that name none.
        routing: how models are asked, `[chat.routing]`.
        prices: what a million tokens cost, by `provider/model` or a pattern of it, `[chat.prices."PATTERN"]`.
        operators: users who may see what others have used.
    """

    default_model: str = ""
    memory: bool = True
    memories: int = attrs.field(default=5, validator=validators.ge(0))
    memory_timeout: float = attrs.field(default=0.5, validator=validators.gt(0))
    history: int = attrs.field(default=100, validator=validators.ge(0))
    resume_grace: float = attrs.field(default=0.0, validator=validators.ge(0))
    background_timeout: float = attrs.field(default=3600.0, validator=validators.gt(0))
    connect_timeout: float = attrs.field(default=10.0, validator=validators.gt(0))
    first_token_timeout: float = attrs.field(default=300.0, validator=validators.gt(0))
    idle_timeout: float = attrs.field(default=90.0, validator=validators.gt(0))
    total_timeout: float = attrs.field(default=600.0, validator=validators.gt(0))
    generations: int = attrs.field(default=1000, validator=validators.ge(1))
    socket_generations: int = attrs.field(default=16, validator=validators.ge(1))
    local: bool = True
    providers: Mapping[str, ProviderSettings] = attrs.field(factory=dict)
    aliases: Mapping[str, str] = attrs.field(factory=dict)
    routes: Mapping[str, RouteSettings] = attrs.field(factory=dict)
    routing: RoutingSettings = RoutingSettings()
    prices: Mapping[str, Price] = attrs.field(factory=dict)
    operators: tuple[str, ...] = ()


def _optional(validator: Any) -> Any:
    return validators.optional(validator)


@attrs.frozen(kw_only=True)
class ContextMessage:
    """A message that stands before the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@attrs.frozen(kw_only=True)
class ChatRequest:
    """A message, and how it is to be answered.

    Attributes:
        conversation_id: an existing conversation; without it a new one begins.
        model: `provider/model`, a model's name, or a provider's name; also kept for the conversation's next messages.
        context: what the model shall know besides: text, an object, or messages `{role, content}` that stand before the conversation.
        system: instructions, for this conversation from now on.
        memory: whether to use the user's memories; the settings decide where it is left out.
        stream: answer with server-sent events.
        background: go on when nobody listens any more.
        metadata: kept with the user's message.
    """

    message: str = attrs.field(validator=validators.min_len(1))
    conversation_id: str | None = attrs.field(default=None, validator=_optional(validators.max_len(128)))
    model: str | None = attrs.field(default=None, validator=_optional(validators.max_len(512)))
    temperature: float | None = attrs.field(
        default=None, validator=_optional(validators.and_(validators.ge(0), validators.le(2)))
    )
    top_p: float | None = attrs.field(
        default=None, validator=_optional(validators.and_(validators.ge(0), validators.le(1)))
    )
    max_tokens: int | None = attrs.field(
        default=None, validator=_optional(validators.and_(validators.ge(1), validators.le(2**31 - 1)))
    )
    stop: list[str] = attrs.field(factory=list, validator=validators.max_len(16))
    context: str | dict[str, Any] | list[ContextMessage] | None = None
    system: str | None = None
    memory: bool | None = None
    stream: bool = False
    background: bool = False
    metadata: dict[str, Any] | None = None


@attrs.frozen
class TokenUsage:
    """Tokens used. `estimated`: the provider did not count, this is a guess from the length."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool = False


@attrs.frozen(kw_only=True)
class ChatAnswer:
    """An answer, complete or as far as it came.

    Attributes:
        message_id: of the answer; `user_message_id` that of the question.
        finish_reason: stop, length, tool_calls or content_filter as the model says; stopped: by request; cancelled: nobody listened; error.
    """

    conversation_id: str
    message_id: str
    response: str
    model: str
    usage: TokenUsage
    user_message_id: str
    finish_reason: str
    timestamp: str


@attrs.frozen(kw_only=True)
class StoredMessage:
    """One message of a conversation. An answer's metadata holds `finish_reason`, `usage`, `user_message_id`, and `reasoning` where there was some."""

    id: str
    user_id: str
    role: Literal["user", "assistant", "system"]
    content: str
    model: str | None
    timestamp: str
    metadata: dict[str, Any]


@attrs.frozen(kw_only=True)
class Conversation:
    """One conversation. `model` is the one that answered last, or was chosen since."""

    id: str
    user_id: str
    title: str
    model: str | None
    system: str | None
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


@attrs.frozen(kw_only=True)
class FullConversation(Conversation):
    """One conversation with its newest messages, oldest first. `next_cursor`, where there are earlier ones, leads to them."""

    messages: list[StoredMessage]
    next_cursor: str | None = None


@attrs.frozen(kw_only=True)
class ConversationList:
    """A page of the user's conversations; `total` counts all of them."""

    conversations: list[Conversation | FullConversation]
    total: int
    next_cursor: str | None = None


@attrs.frozen(kw_only=True)
class ListQuery(Paging):
    """Which conversations. `order`: by the last message, or by their beginning."""

    messages: bool = False
    order: Literal["updated", "created"] = "updated"


@attrs.frozen(kw_only=True)
class MessagesQuery:
    """Which messages: the newest `limit`, or those before the cursor."""

    limit: int = attrs.field(default=1000, validator=validators.and_(validators.ge(1), validators.le(1000)))
    cursor: str | None = attrs.field(default=None, validator=_optional(validators.max_len(1024)))


@attrs.frozen(kw_only=True)
class NewConversation:
    """A conversation without messages."""

    title: str = attrs.field(default="New conversation", validator=[validators.min_len(1), validators.max_len(200)])
    model: str | None = attrs.field(default=None, validator=_optional(validators.max_len(512)))
    system: str | None = None
    metadata: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ConversationChange:
    """What to change; what is left out stays. The model "auto" means the default one again."""

    title: str | None = attrs.field(
        default=None, validator=_optional(validators.and_(validators.min_len(1), validators.max_len(200)))
    )
    model: str | None = attrs.field(default=None, validator=_optional(validators.max_len(512)))
    system: str | None = None
    metadata: dict[str, Any] | None = None


@attrs.frozen
class Done:
    """It is done."""

    success: bool = True


@attrs.frozen
class Stopped:
    """How many answers were being made, and are not any more."""

    success: bool
    stopped: int


@attrs.frozen
class ModelList:
    """All models, and who has them."""

    models: list[ListedModel]
    total: int
    providers: dict[str, ProviderStatus]


class Grouping(enum.StrEnum):
    """What usage is added up by."""

    USER = "user"
    MODEL = "model"
    DAY = "day"


@attrs.frozen(kw_only=True)
class UsageQuery:
    """Which usage.

    Attributes:
        group: added up by these, `day,model` where left out.
        start, end: the first and the last day (UTC); without either the last 31 days with any.
        model: only of this one, as `provider/model`.
        user: of whom, for operators; `*` for everybody. Others see their own.
        limit, cursor: a page of rows; the totals are always of all.
    """

    group: list[Grouping] = attrs.field(factory=lambda: [Grouping.DAY, Grouping.MODEL])
    start: date | None = None
    end: date | None = None
    model: str | None = attrs.field(default=None, validator=_optional(validators.max_len(512)))
    user: str | None = attrs.field(default=None, validator=_optional(validators.max_len(256)))
    limit: int = attrs.field(default=1000, validator=validators.and_(validators.ge(1), validators.le(1000)))
    cursor: str | None = attrs.field(default=None, validator=_optional(validators.max_len(1024)))

    def after(self) -> Any:
        """What the cursor holds, or None for the first page."""
        return None if self.cursor is None else decode_cursor(self.cursor)


@attrs.frozen(kw_only=True)
class UsageRow:
    """What was used, for one day (UTC), model and user; what it is not grouped by is null. `estimated` of the requests had no count from the provider.

    Attributes:
        cost: in the currency of the price table, of what has a price there; null where nothing has.
    """

    day: str | None
    user_id: str | None
    model: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    estimated: int
    cost: float | None


@attrs.frozen(kw_only=True)
class UsageReport:
    """What was used, the newest day first, and the sum of all pages."""

    usage: list[UsageRow]
    total: TokenUsage
    cost: float | None
    next_cursor: str | None = None


@attrs.frozen(kw_only=True)
class ExplainRequest:
    """A question, as it would be sent to `/v1/chat/completions`. Only what routing looks at is read.

    Attributes:
        model: a model, a route, an alias, or several separated by commas; the default one where left out.
        messages: the conversation, whose length costs are estimated from.
        conversation_id: for routes that are sticky.
    """

    model: str = attrs.field(default="auto", validator=validators.max_len(512))
    messages: list[dict[str, Any]] = attrs.field(factory=list)
    max_tokens: int | None = attrs.field(
        default=None, validator=_optional(validators.and_(validators.ge(1), validators.le(2**31 - 1)))
    )
    conversation_id: str | None = attrs.field(default=None, validator=_optional(validators.max_len(128)))


@attrs.frozen(kw_only=True)
class TracesQuery:
    """How many traces."""

    limit: int = attrs.field(default=20, validator=validators.and_(validators.ge(1), validators.le(200)))


@attrs.frozen
class TraceList:
    """The newest traces of the user's questions, the newest first."""

    traces: list[Trace]


def title_of(message: str) -> str:
    """A conversation's title from its first message."""
    words = " ".join(message.split())
    return words if len(words) <= 80 else f"{words[:79].rstrip()}…"
