"""Chat over a WebSocket: several answers at once, each with the id of its request, each cancellable.

In: the body of `POST /chat` with an `id` of the client's own (made where there is none), `{"type": "cancel", "id"}`, `{"type": "ping"}`.
Out: `{"type": "start" | "chunk" | "done" | "cancelled" | "error" | "pong", "id", ...}`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from uait.errors import APIError, BadRequest, Conflict, InternalError, NotFound, TooManyRequests
from uait.services.chat.generation import Generation
from uait.services.chat.generations import Generations
from uait.services.chat.model import ChatRequest
from uait.storage import new_id
from uait.web import from_json, structure, to_json

MAX_ID = 128


class Socket:
    """One WebSocket.

    Args:
        send: sends one text; may wait as long as the client does not read.
        concurrent: how many answers may be made at once.
        queue: how many events wait to be sent; then answers' viewers wait, and get bigger pieces.
    """

    def __init__(
        self,
        generations: Generations,
        user_id: str,
        send: Callable[[str], Awaitable[None]],
        *,
        concurrent: int,
        queue: int,
    ) -> None:
        self._generations = generations
        self._user_id = user_id
        self._send = send
        self._concurrent = concurrent
        self._events, self._outbox = trio.open_memory_channel[dict[str, Any]](queue)
        self._running: dict[str, Generation | None] = {}
        self._cancelled: set[str] = set()

    async def serve(self, receive: Callable[[], Awaitable[str | bytes]]) -> None:
        """Take requests until cancelled, which is what happens when the client leaves; then its answers lose their viewer."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            while True:
                raw = await receive()
                request_id: str | None = None
                try:
                    message = from_json(raw.encode() if isinstance(raw, str) else raw)
                    if not isinstance(message, dict):
                        raise BadRequest("Send a JSON object.")
                    request_id = _read_id(message)
                    match message.get("type", "chat"):
                        case "chat":
                            request_id = request_id or new_id()
                            request = self._admit(request_id, message)
                            nursery.start_soon(self._answer, request_id, request)
                        case "cancel":
                            self._cancel(request_id)
                        case "ping":
                            await self._tell("pong", request_id)
                        case _:
                            raise BadRequest("The type is chat, cancel or ping.")
                except APIError as error:
                    await self._tell_error(request_id, error)

    def _admit(self, request_id: str, message: dict[str, Any]) -> ChatRequest:
        if request_id in self._running:
            raise Conflict("A request with this id is being answered; give each its own.")
        if len(self._running) >= self._concurrent:
            raise TooManyRequests(f"At most {self._concurrent} answers at once on one WebSocket.")
        request = structure(message, ChatRequest)
        self._running[request_id] = None
        return request

    def _cancel(self, request_id: str | None) -> None:
        if request_id is None or request_id not in self._running:
            raise NotFound("No request with this id is being answered.")
        self._cancelled.add(request_id)
        generation = self._running[request_id]
        if generation is not None:
            generation.stop()

    async def _answer(self, request_id: str, request: ChatRequest) -> None:
        try:
            generation = await self._generations.begin(self._user_id, request)
            self._running[request_id] = generation
            with generation.viewed():
                if request_id in self._cancelled:
                    generation.stop()
                await self._generations.store_question(generation)
                turn, model = generation.turn, generation.routed.address
                await self._tell(
                    "start",
                    request_id,
                    conversation_id=turn.conversation_id,
                    message_id=generation.message_id,
                    model=model,
                )
                async for piece, _ in generation.pieces():
                    await self._tell("chunk", request_id, chunk=piece)
                answer = await generation.finished()
            kind = "cancelled" if answer.finish_reason in ("stopped", "cancelled") else "done"
            await self._tell(kind, request_id, **attrs.asdict(answer))
        except APIError as error:
            await self._tell_error(request_id, error)
        except Exception as error:
            # Told, and then raised: a bug ends this WebSocket, as anywhere.
            await self._tell_error(request_id, InternalError())
            raise error from None
        finally:
            self._running.pop(request_id, None)
            self._cancelled.discard(request_id)

    async def _tell(self, kind: str, request_id: str | None, **fields: Any) -> None:
        await self._events.send({"type": kind, "id": request_id, **fields})

    async def _tell_error(self, request_id: str | None, error: APIError) -> None:
        body = {"code": error.error_code, "message": error.text, "details": error.details}
        await self._tell("error", request_id, error=body)

    async def _write(self) -> None:
        async for event in self._outbox:
            await self._send(to_json(event).decode())


def _read_id(message: dict[str, Any]) -> str | None:
    request_id = message.get("id")
    if request_id is None:
        return None
    if not isinstance(request_id, str) or not 0 < len(request_id) <= MAX_ID:
        raise BadRequest(f"The id is a text of 1 to {MAX_ID} characters.")
    return request_id
