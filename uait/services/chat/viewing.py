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
from uait.web.codec import to_json
from uait.web.sse import encode

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
    """One viewer of an answer, as an async iterator of events ready for the wire. It counts as a viewer from its making until `aclose`, also where it is never iterated."""

    def __init__(self, generation: Generation, after: int = 0) -> None:
        self.generation = generation
        self._pieces = generation.pieces(after)
        self._viewed = generation.viewed()
        self._viewed.__enter__()
        self._open = True
        self._ended = False

    def __aiter__(self) -> View:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        generation = self.generation
        async for piece, characters in self._pieces:
            data = _piece_event(generation.message_id, piece, characters)
            # What has come together goes on together.
            for more, characters in self._pieces.ready():
                data += _piece_event(generation.message_id, more, characters)
            return data
        self._ended = True
        return _last_events(await generation.finished())

    async def aclose(self) -> None:
        """Leave. Where this was the last viewer, see `Generation.viewed`. Never waits; idempotent."""
        if self._open:
            self._open = False
            self._viewed.__exit__(None, None, None)


async def resume(generations: Generations, store: ChatStore, user_id: str, last_event_id: str) -> AsyncIterator[bytes]:
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


async def _replay(answer: ChatAnswer, position: Position) -> AsyncIterator[bytes]:
    rest = answer.response[position.characters :]
    if rest:
        yield _piece_event(answer.message_id, rest, len(answer.response))
    yield _last_events(answer)


def _piece_event(message_id: str, piece: str, characters: int) -> bytes:
    """What `encode` makes of it, in a fraction of the time: there is one for every token."""
    return b'id: %s:%d\ndata: {"chunk":%s}\n\n' % (message_id.encode(), characters, to_json(piece))


def _last_events(answer: ChatAnswer) -> bytes:
    position = str(Position(answer.message_id, len(answer.response)))
    return encode(Event(answer, id=position)) + encode(Event(DONE, id=position))


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
