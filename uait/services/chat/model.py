"""What chat takes and gives, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
from attrs import validators

from uait.llm.catalog import ListedModel, ProviderStatus
from uait.llm.find import ProviderSettings
from uait.web import Paging

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


@attrs.frozen(kw_only=True)
class UsageRow:
    """What one model used on one day (UTC). `estimated` of the requests had no count from the provider."""

    day: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    estimated: int


@attrs.frozen
class UsageReport:
    """What the user has used, the newest day first."""

    usage: list[UsageRow]
    total: TokenUsage


def title_of(message: str) -> str:
    """A conversation's title from its first message."""
    words = " ".join(message.split())
    return words if len(words) <= 80 else f"{words[:79].rstrip()}…"


def report_usage(rows: list[UsageRow]) -> UsageReport:
    """The rows and their sum."""
    prompt, completion = sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows)
    estimated = any(row.estimated for row in rows)
    return UsageReport(rows, TokenUsage(prompt, completion, prompt + completion, estimated))
