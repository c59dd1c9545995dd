"""What belongs to a conversation: its summary, and memories by reference, so that a deleted one is gone from here too."""

from __future__ import annotations

from typing import Any

import apsw

from uait.errors import NotFound
from uait.services.memory.model import ConversationContext, NewContext
from uait.services.memory.rows import memories_by_seq, seq_of
from uait.storage import Database, new_id, utc_now

NO_CONTEXT = "There is no context of this conversation."


class ContextStore:
    """Conversation contexts in SQLite, one for each conversation of a user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, user_id: str, new: NewContext) -> tuple[ConversationContext, bool]:
        """Make a conversation's context, or change what `new` names of it.

        Returns:
            the context, and whether it is a new one.

        Raises:
            NotFound: the user has no memory of one of these ids; nothing is changed then.
        """
        now = utc_now()
        key = (user_id, new.conversation_id)

        def write(connection: apsw.Connection) -> tuple[ConversationContext, bool]:
            rows: list[Any] = connection.execute(
                "UPDATE context SET updated_at = ?, summary = coalesce(?, summary) "
                "WHERE user_id = ? AND conversation_id = ? RETURNING seq",
                (now, new.summary, *key),
            ).fetchall()
            made = not rows
            if made:
                rows = connection.execute(
                    "INSERT INTO context (id, user_id, conversation_id, created_at, updated_at, summary) "
                    "VALUES (?, ?, ?, ?, ?, ?) RETURNING seq",
                    (new_id(), *key, now, now, new.summary or ""),
                ).fetchall()
            if new.memories is not None:
                seq = rows[0][0]
                connection.execute("DELETE FROM context_memory WHERE context = ?", (seq,))
                ids = [each if isinstance(each, str) else each.id for each in new.memories]
                connection.executemany(
                    "INSERT INTO context_memory (context, position, memory) VALUES (?, ?, ?)",
                    [(seq, place, seq_of(connection, user_id, each)) for place, each in enumerate(ids)],
                )
            return _read(connection, *key), made

        return await self._database.write(write)

    async def get(self, user_id: str, conversation_id: str) -> ConversationContext:
        """A conversation's context.

        Raises:
            NotFound: the user has none of this conversation.
        """
        return await self._database.read(lambda connection: _read(connection, user_id, conversation_id))

    async def delete(self, user_id: str, conversation_id: str) -> None:
        """Delete a conversation's context; its memories stay.

        Raises:
            NotFound: the user has none of this conversation.
        """
        if not await self._database.execute(
            "DELETE FROM context WHERE user_id = ? AND conversation_id = ?", (user_id, conversation_id)
        ):
            raise NotFound(NO_CONTEXT)


def _read(connection: apsw.Connection, user_id: str, conversation_id: str) -> ConversationContext:
    rows: list[Any] = connection.execute(
        "SELECT seq, id, summary, created_at, updated_at FROM context WHERE user_id = ? AND conversation_id = ?",
        (user_id, conversation_id),
    ).fetchall()
    if not rows:
        raise NotFound(NO_CONTEXT)
    seq, context_id, summary, created_at, updated_at = rows[0]
    memories: list[Any] = connection.execute(
        "SELECT memory FROM context_memory WHERE context = ? ORDER BY position", (seq,)
    ).fetchall()
    return ConversationContext(
        id=context_id,
        user_id=user_id,
        conversation_id=conversation_id,
        summary=summary,
        memories=memories_by_seq(connection, user_id, [memory for (memory,) in memories]),
        created_at=created_at,
        updated_at=updated_at,
    )
