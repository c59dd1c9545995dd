"""Where conversations are kept: rows, not documents, so that a long conversation costs no more than a short one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import apsw
import attrs
import orjson

from uait.errors import NotFound
from uait.services.chat.model import (
    MESSAGES_SHOWN,
    ChatAnswer,
    Conversation,
    ConversationChange,
    ConversationList,
    FullConversation,
    ListQuery,
    NewConversation,
    StoredMessage,
    title_of,
)
from uait.storage import Database, new_id, utc_now
from uait.web import decode_cursor, encode_cursor

_CONVERSATION = "id, user_id, title, model, system, metadata, created_at, updated_at"
_MESSAGE = "id, role, content, model, timestamp, metadata"

NO_CONVERSATION = "There is no conversation with this id."


@attrs.frozen(kw_only=True)
class Turn:
    """A user's message as stored, with what was said before it, oldest first."""

    conversation_id: str
    message_id: str
    system: str | None
    history: list[tuple[str, str]]


@attrs.frozen(kw_only=True)
class Opening:
    """The question that a new conversation begins with, not yet stored. It can be stored twice: the second time nothing happens."""

    user_id: str
    turn: Turn
    content: str
    model: str | None
    timestamp: str
    metadata: Mapping[str, Any]


def make_opening(
    user_id: str,
    content: str,
    *,
    model: str | None = None,
    system: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Opening:
    """Begin a conversation with a user's message. For the arguments see `ChatStore.add_question`."""
    turn = Turn(conversation_id=new_id(), message_id=new_id(), system=system, history=[])
    return Opening(
        user_id=user_id, turn=turn, content=content, model=model, timestamp=utc_now(), metadata=metadata or {}
    )


class ChatStore:
    """Conversations and messages in SQLite. Another user's conversation is as one that does not exist."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chosen_model(self, user_id: str, conversation_id: str) -> str | None:
        """The model that the user chose for a conversation.

        Raises:
            NotFound: there is no such conversation.
        """
        row = await self._database.fetch_one(
            "SELECT chosen_model FROM conversation WHERE id = ? AND user_id = ?", (conversation_id, user_id)
        )
        if row is None:
            raise NotFound(NO_CONVERSATION)
        return row[0]  # type: ignore[no-any-return]

    async def add_question(
        self,
        user_id: str,
        content: str,
        *,
        conversation_id: str,
        model: str | None = None,
        system: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        history: int = 100,
    ) -> Turn:
        """Store a user's message in a conversation that there is.

        Args:
            model: the model that the user chose, if they did.
            system: instructions from now on, if there are others than before.
            history: how many earlier messages to give back.

        Raises:
            NotFound: there is no such conversation.
        """
        now, message_id = utc_now(), new_id()

        def add(connection: apsw.Connection) -> Turn:
            row = connection.execute(
                "UPDATE conversation SET updated_at = max(updated_at, ?), chosen_model = coalesce(?, chosen_model), "
                "system = coalesce(?, system) WHERE id = ? AND user_id = ? RETURNING system",
                (now, model, system, conversation_id, user_id),
            ).fetchone()
            if row is None:
                raise NotFound(NO_CONVERSATION)
            earlier: list[Any] = connection.execute(
                "SELECT role, content FROM message WHERE conversation_id = ? ORDER BY id DESC LIMIT ?",
                (conversation_id, history),
            ).fetchall()
            _insert_message(connection, message_id, conversation_id, "user", content, None, now, metadata or {})
            return Turn(conversation_id=conversation_id, message_id=message_id, system=row[0], history=earlier[::-1])

        return await self._database.write(add)

    async def add_opening(self, opening: Opening) -> None:
        """Store a new conversation with its first message."""

        def add(connection: apsw.Connection) -> None:
            _insert_opening(connection, opening, model=None, updated_at=opening.timestamp)

        await self._database.write(add)

    async def add_answer(self, answer: ChatAnswer, metadata: Mapping[str, Any], opening: Opening | None = None) -> None:
        """Store an answer, and with it what it answers, where that is not stored yet. Nothing is stored where the conversation has been deleted meanwhile."""

        def add(connection: apsw.Connection) -> None:
            there = opening is not None and _insert_opening(
                connection, opening, model=answer.model, updated_at=answer.timestamp
            )
            there = there or bool(
                connection.execute(
                    "UPDATE conversation SET updated_at = max(updated_at, ?), model = ? WHERE id = ? RETURNING id",
                    (answer.timestamp, answer.model, answer.conversation_id),
                ).fetchall()
            )
            if there:
                _insert_message(
                    connection,
                    answer.message_id,
                    answer.conversation_id,
                    "assistant",
                    answer.response,
                    answer.model,
                    answer.timestamp,
                    metadata,
                )

        await self._database.write(add)

    async def find_message(self, user_id: str, message_id: str) -> tuple[str, StoredMessage]:
        """A message, and the id of its conversation.

        Raises:
            NotFound: there is no such message.
        """
        row = await self._database.fetch_one(
            f"SELECT conversation_id, {', '.join(f'message.{name}' for name in _MESSAGE.split(', '))} FROM message "
            "JOIN conversation ON conversation.id = conversation_id WHERE message.id = ? AND user_id = ?",
            (message_id, user_id),
        )
        if row is None:
            raise NotFound("There is no message with this id.")
        return row[0], _message(row[1:], user_id)

    async def create(self, user_id: str, new: NewConversation) -> Conversation:
        """Begin a conversation without messages."""
        now = utc_now()
        conversation = Conversation(
            id=new_id(),
            user_id=user_id,
            title=new.title,
            model=new.model,
            system=new.system,
            metadata=new.metadata,
            created_at=now,
            updated_at=now,
        )
        await self._database.execute(
            f"INSERT INTO conversation (chosen_model, {_CONVERSATION}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                new.model,
                conversation.id,
                user_id,
                new.title,
                new.model,
                new.system,
                orjson.dumps(new.metadata).decode(),
                now,
                now,
            ),
        )
        return conversation

    async def get(
        self, user_id: str, conversation_id: str, *, limit: int = 1000, cursor: str | None = None
    ) -> FullConversation:
        """A conversation with its newest `limit` messages, or those before the cursor, oldest first.

        Raises:
            NotFound: there is no such conversation.
            ValidationFailed: the cursor is not one of ours.
        """
        before = None if cursor is None else str(decode_cursor(cursor))

        def read(connection: apsw.Connection) -> FullConversation:
            conversation = _find(connection, user_id, conversation_id)
            return _with_messages(connection, conversation, limit, before)

        return await self._database.read(read)

    async def page(self, user_id: str, query: ListQuery) -> ConversationList:
        """A page of the user's conversations, newest first.

        Raises:
            ValidationFailed: the cursor is not one of ours.
        """
        key = "updated_at" if query.order == "updated" else "id"
        position = query.after()
        after = [str(part) for part in position] if isinstance(position, list) and len(position) == 2 else None

        def read(connection: apsw.Connection) -> ConversationList:
            condition = f"AND ({key}, id) < (?, ?)" if after else ""
            rows = connection.execute(
                f"SELECT {_CONVERSATION} FROM conversation WHERE user_id = ? {condition} "
                f"ORDER BY {key} DESC, id DESC LIMIT ?",
                (user_id, *(after or ()), query.limit + 1),
            ).fetchall()
            count: Any = connection.execute(
                "SELECT count(*) FROM conversation WHERE user_id = ?", (user_id,)
            ).fetchone()
            found: list[Conversation | FullConversation] = [_conversation(row) for row in rows[: query.limit]]
            next_cursor = None
            if len(rows) > query.limit:
                next_cursor = encode_cursor([getattr(found[-1], key), found[-1].id])
            if query.messages:
                found = [_with_messages(connection, each, MESSAGES_SHOWN) for each in found]
            return ConversationList(conversations=found, total=count[0], next_cursor=next_cursor)

        return await self._database.read(read)

    async def change(self, user_id: str, conversation_id: str, change: ConversationChange) -> Conversation:
        """Change what `change` names.

        Raises:
            NotFound: there is no such conversation.
        """
        values: dict[str, Any] = {}
        if change.title is not None:
            values["title"] = change.title
        if change.model is not None:
            values["chosen_model"] = None if change.model in ("", "auto", "default") else change.model
            if values["chosen_model"] is not None:
                values["model"] = change.model
        if change.system is not None:
            values["system"] = change.system or None
        if change.metadata is not None:
            values["metadata"] = orjson.dumps(change.metadata).decode()

        def write(connection: apsw.Connection) -> Conversation:
            assignments = "".join(f"{name} = ?, " for name in values)
            connection.execute(
                f"UPDATE conversation SET {assignments} updated_at = max(updated_at, ?) WHERE id = ? AND user_id = ?",
                (*values.values(), utc_now(), conversation_id, user_id),
            )
            return _find(connection, user_id, conversation_id)

        return await self._database.write(write)

    async def delete(self, user_id: str, conversation_id: str) -> None:
        """Delete a conversation with its messages.

        Raises:
            NotFound: there is no such conversation.
        """
        # `execute` counts the messages that go with it, too.
        if not await self._database.execute(
            "DELETE FROM conversation WHERE id = ? AND user_id = ?", (conversation_id, user_id)
        ):
            raise NotFound(NO_CONVERSATION)


def _insert_opening(connection: apsw.Connection, opening: Opening, *, model: str | None, updated_at: str) -> bool:
    """Whether it was not there yet."""
    turn, now = opening.turn, opening.timestamp
    inserted = connection.execute(
        f"INSERT INTO conversation (chosen_model, {_CONVERSATION}) VALUES (?, ?, ?, ?, ?, ?, '{{}}', ?, ?) "
        "ON CONFLICT DO NOTHING RETURNING id",
        (
            opening.model,
            turn.conversation_id,
            opening.user_id,
            title_of(opening.content),
            model,
            turn.system,
            now,
            updated_at,
        ),
    ).fetchall()
    if inserted:
        _insert_message(
            connection, turn.message_id, turn.conversation_id, "user", opening.content, None, now, opening.metadata
        )
    return bool(inserted)


def _insert_message(
    connection: apsw.Connection,
    message_id: str,
    conversation_id: str,
    role: str,
    content: str,
    model: str | None,
    now: str,
    metadata: Mapping[str, Any],
) -> None:
    connection.execute(
        f"INSERT INTO message (conversation_id, {_MESSAGE}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (conversation_id, message_id, role, content, model, now, orjson.dumps(metadata).decode()),
    )


def _find(connection: apsw.Connection, user_id: str, conversation_id: str) -> Conversation:
    row = connection.execute(
        f"SELECT {_CONVERSATION} FROM conversation WHERE id = ? AND user_id = ?", (conversation_id, user_id)
    ).fetchone()
    if row is None:
        raise NotFound(NO_CONVERSATION)
    return _conversation(row)


def _conversation(row: Any) -> Conversation:
    return Conversation(
        id=row[0],
        user_id=row[1],
        title=row[2],
        model=row[3],
        system=row[4],
        metadata=orjson.loads(row[5]),
        created_at=row[6],
        updated_at=row[7],
    )


def _with_messages(
    connection: apsw.Connection, conversation: Conversation, limit: int, before: str | None = None
) -> FullConversation:
    rows = connection.execute(
        f"SELECT {_MESSAGE} FROM message WHERE conversation_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
        (conversation.id, before or "~", limit + 1),
    ).fetchall()
    found = [_message(row, conversation.user_id) for row in rows[:limit]][::-1]
    next_cursor = encode_cursor(found[0].id) if len(rows) > limit else None
    fields = attrs.asdict(conversation, recurse=False)
    return FullConversation(**fields, messages=found, next_cursor=next_cursor)


def _message(row: Any, user_id: str) -> StoredMessage:
    return StoredMessage(
        id=row[0],
        user_id=user_id,
        role=row[1],
        content=row[2],
        model=row[3],
        timestamp=row[4],
        metadata=orjson.loads(row[5]),
    )
