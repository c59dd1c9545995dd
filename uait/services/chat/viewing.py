"""An answer as server-sent events: pieces, the whole, `[DONE]`; each with an id that says how far it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs

from uait.errors import BadRequest, NotFound
from uait.services.chat.generation import Generation
from uait.services.chat.generations import Generations
from uait.services.chat.model import ChatAnswer, StoredMessage, TokenUsage
from uait.services.chat.store import ChatStore
from uait.web import Event

DONE = "[DONE]"


@attrs.frozen
class Position:
    """What an event's id says: which answer, and how many of its characters have been sent."""

    message_id: str
    characters: int

    def __str__(self) -> str:
        return f"{self.message_id}:{self.characters}"

    @classmethod
    def read(cls, last_event_id: str) -> Position:
        """The position that a `Last-Event-ID` holds.

        Raises:
            BadRequest: it is none of ours.
        """
        message_id, colon, characters = last_event_id.rpartition(":")
        if not colon or not characters.isascii() or not characters.isdigit() or len(characters) > 12:
            raise BadRequest("This Last-Event-ID is not one that this service gave.")
        return cls(message_id, int(characters))


class View:
    """One viewer of an answer, as an async iterator of events. It counts as a viewer from its making until `aclose`, also where it is never iterated."""

    def __init__(self, generation: Generation, after: int = 0) -> None:
        self.generation = generation
        self._pieces = generation.pieces(after)
        self._viewed = generation.viewed()
        self._viewed.__enter__()
        self._open = True
        self._last: list[Event] | None = None

    def __aiter__(self) -> View:
        return self

    async def __anext__(self) -> Event:
        generation = self.generation
        if self._last is None:
            async for piece, characters in self._pieces:
                return Event({"chunk": piece}, id=str(Position(generation.message_id, characters)))
            self._last = _last_events(await generation.finished())
        if not self._last:
            raise StopAsyncIteration
        return self._last.pop(0)

    async def aclose(self) -> None:
        """Leave. Where this was the last viewer, see `Generation.viewed`. Never waits; idempotent."""
        if self._open:
            self._open = False
            self._viewed.__exit__(None, None, None)


async def resume(generations: Generations, store: ChatStore, user_id: str, last_event_id: str) -> AsyncIterator[Event]:
    """What comes after the event of this id: live where the answer is being made, from what is stored where it is complete.

    Raises:
        BadRequest: it is no event's id.
        NotFound: there is no such answer.
    """
    position = Position.read(last_event_id)
    generation = generations.find(user_id, position.message_id)
    if generation is not None:
        return View(generation, position.characters)
    conversation_id, found = await store.find_message(user_id, position.message_id)
    if found.role != "assistant":
        raise NotFound("There is no answer with this id.")
    return _replay(_stored_answer(conversation_id, found), position)


async def _replay(answer: ChatAnswer, position: Position) -> AsyncIterator[Event]:
    rest = answer.response[position.characters :]
    if rest:
        yield Event({"chunk": rest}, id=str(Position(answer.message_id, len(answer.response))))
    for event in _last_events(answer):
        yield event


def _last_events(answer: ChatAnswer) -> list[Event]:
    position = str(Position(answer.message_id, len(answer.response)))
    return [Event(answer, id=position), Event(DONE, id=position)]


def _stored_answer(conversation_id: str, found: StoredMessage) -> ChatAnswer:
    metadata: dict[str, Any] = found.metadata
    return ChatAnswer(
        conversation_id=conversation_id,
        message_id=found.id,
        response=found.content,
        model=found.model or "",
        usage=TokenUsage(**metadata["usage"]),
        user_message_id=metadata["user_message_id"],
        finish_reason=metadata["finish_reason"],
        timestamp=found.timestamp,
    )
