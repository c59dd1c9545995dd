"""All answers being made: begun, found again, stopped, and stored whatever becomes of them."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import attrs
import trio

from uait.calls import ServiceClient
from uait.calls.standing import Standing
from uait.errors import APIError, InternalError, TooManyRequests, UaitError
from uait.llm.routing import Router
from uait.services.chat.context import build_question
from uait.services.chat.generation import Generation
from uait.services.chat.model import ChatAnswer, ChatRequest, ChatSettings, TokenUsage
from uait.services.chat.store import ChatStore, make_opening
from uait.storage import new_id, utc_now

BOOKKEEPING_TIMEOUT = 5.0
"""Seconds that storing an answer may take where nobody waits for it any more."""

TOGETHER = 0.2
"""Seconds that a new conversation's question may wait for its answer, so that both are stored at once, where somebody waits for the whole answer: until then nobody has been told of it."""

MEMORY_CHARACTERS = 1000
"""Of one memory that a model is given."""

USERS = 10_000
"""Of so many users it is remembered that they have no memories."""

QUERY_CHARACTERS = 500
"""Of a message that memories are looked up with."""

_BROKEN_OFF = frozenset({"stopped", "cancelled", "interrupted", "error"})


class Generations:
    """Makes answers, each in a task of the service's nursery.

    Args:
        nursery: where they are made; when it is cancelled, what there is of them is stored.
        memory: a client for the service that knows what the user told.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        store: ChatStore,
        router: Router,
        memory: ServiceClient,
        settings: ChatSettings,
        log: logging.Logger,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._router = router
        self._memory = memory
        self._settings = settings
        self._log = log
        self._nothing: OrderedDict[str, Standing] = OrderedDict()  # who had no memories when they were asked for
        self._running: dict[str, Generation] = {}
        self._begun = 0

    @property
    def running(self) -> int:
        """How many answers are being made."""
        return len(self._running)

    def find(self, user_id: str, message_id: str) -> Generation | None:
        """The answer of this id, while it is being made."""
        found = self._running.get(message_id)
        return found if found is not None and found.user_id == user_id else None

    def of_conversation(self, user_id: str, conversation_id: str) -> list[Generation]:
        """What is being made in a conversation, the newest first."""
        return [
            each
            for each in reversed(self._running.values())
            if each.turn.conversation_id == conversation_id and each.user_id == user_id
        ]

    async def begin(self, user_id: str, request: ChatRequest) -> Generation:
        """Begin to answer the user's message. The caller becomes a viewer at once, and then calls `store_question` before anybody is told of the answer.

        Raises:
            NotFound: there is no such conversation or model.
            TooManyRequests: too many answers are being made.
        """
        if self._begun >= self._settings.generations:
            raise TooManyRequests("Too many answers are being made now; try again later.")
        self._begun += 1
        try:
            generation = await self._prepare(user_id, request)
        except BaseException:
            self._begun -= 1
            raise
        self._running[generation.message_id] = generation
        self._nursery.start_soon(self._run, generation, name=f"answer {generation.message_id}")
        return generation

    async def store_question(self, generation: Generation, *, patience: float = 0.0) -> None:
        """Have the question stored, if it is not: that of a new conversation is asked while it is being stored.

        Args:
            patience: seconds for which the answer is waited for, to be stored with it.

        Raises:
            UaitError: it cannot be stored.
        """
        if generation.opening is None:
            return
        if patience:
            with trio.move_on_after(patience):
                await generation.settled()
        opening = generation.opening
        if opening is not None and generation.answer is None:
            await self._store.add_opening(opening)
            generation.opening = None

    async def _prepare(self, user_id: str, request: ChatRequest) -> Generation:
        settings = self._settings
        chosen = request.model
        if chosen is None and request.conversation_id is not None:
            chosen = await self._store.chosen_model(user_id, request.conversation_id)
        plan = await self._router.plan(chosen)
        said: dict[str, Any] = {"model": request.model, "system": request.system, "metadata": request.metadata}
        opening = None
        if request.conversation_id is None:
            opening = make_opening(user_id, request.message, **said)
            turn = opening.turn
            if request.background:
                # It goes on when its client has left at once: who looks for it then shall see the question.
                await self._store.add_opening(opening)
                opening = None
        else:
            turn = await self._store.add_question(
                user_id,
                request.message,
                conversation_id=request.conversation_id,
                history=settings.history,
                **said,
            )
        use_memory = settings.memory if request.memory is None else request.memory
        memories = await self._recall(user_id, request.message) if use_memory else ()
        deadline = trio.current_time() + (settings.background_timeout if request.background else settings.total_timeout)
        question = build_question(request, turn, memories)
        if request.background:
            question = attrs.evolve(question, total=settings.background_timeout)
        conversation = turn.conversation_id
        return Generation(
            user_id,
            turn,
            new_id(),
            self._router.ask(plan, question, user_id, new_id(), conversation=conversation),
            question,
            deadline=deadline if request.background else min(deadline, trio.current_effective_deadline()),
            grace=settings.resume_grace,
            background=request.background,
            opening=opening,
        )

    async def stop(self, user_id: str, conversation_id: str) -> int:
        """Stop what is being made in a conversation, and wait until it is stored. Returns how many answers that were."""
        found = self.of_conversation(user_id, conversation_id)
        for generation in found:
            generation.stop()
        for generation in found:
            await generation.settled()
        return len(found)

    async def _recall(self, user_id: str, text: str) -> tuple[str, ...]:
        """What the user once told that has to do with `text`. Memory is a help: without it the answer is made all the same."""
        limit = self._settings.memories
        nothing = self._nothing.get(user_id)
        if not limit or (nothing is not None and nothing.holds):
            return ()
        params = {"query": text[:QUERY_CHARACTERS], "limit": str(limit)}
        try:
            with trio.move_on_after(self._settings.memory_timeout):
                found, nothing = await self._memory.get_standing("/memory", params)
                self._remember_nothing(user_id, nothing)
                return tuple(str(each["content"])[:MEMORY_CHARACTERS] for each in found["memories"][:limit])
        except (APIError, LookupError, TypeError) as error:
            self._log.debug("no memories: %s", error)
        return ()

    def _remember_nothing(self, user_id: str, nothing: Standing | None) -> None:
        self._nothing.pop(user_id, None)
        if nothing is not None:
            self._nothing[user_id] = nothing
            if len(self._nothing) > USERS:
                self._nothing.popitem(last=False)

    async def _run(self, generation: Generation) -> None:
        try:
            await generation.run()
        except Exception:
            self._log.exception("answer %s failed", generation.message_id)
            generation.fail(InternalError())
        finally:
            # Also where the service stops: what there is of an answer is kept.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + BOOKKEEPING_TIMEOUT) as bookkeeping:
                answer = await self._keep(generation)
            if bookkeeping.cancelled_caught:
                self._log.error("answer %s could not be stored in time", generation.message_id)
                generation.fail(InternalError("The answer could not be stored."))
                answer = _outcome(generation)
            self._begun -= 1
            del self._running[generation.message_id]
            generation.settle(answer)

    async def _keep(self, generation: Generation) -> ChatAnswer:
        """Count and store what came of it."""
        answer = _outcome(generation)
        generation.routed.used(generation.collected.counted(generation.question))
        opening = generation.opening
        try:
            if answer.response or answer.finish_reason not in _BROKEN_OFF:
                await self._store.add_answer(answer, _metadata(generation, answer), opening)
            elif opening is not None:
                await self._store.add_opening(opening)
            generation.opening = None
        except UaitError as error:
            self._log.error("answer %s could not be stored: %s", generation.message_id, error)
            generation.fail(error if isinstance(error, APIError) else InternalError())
        return answer


def _metadata(generation: Generation, answer: ChatAnswer) -> dict[str, Any]:
    """What is kept of an answer besides its text."""
    metadata: dict[str, Any] = {
        "finish_reason": answer.finish_reason,
        "usage": attrs.asdict(answer.usage),
        "user_message_id": answer.user_message_id,
    }
    if generation.collected.reasoning:
        metadata["reasoning"] = generation.collected.reasoning
    if generation.failure is not None:
        metadata["error"] = {"code": generation.failure.error_code, "message": generation.failure.text}
    return metadata


def _outcome(generation: Generation) -> ChatAnswer:
    usage = generation.collected.counted(generation.question)
    return ChatAnswer(
        conversation_id=generation.turn.conversation_id,
        message_id=generation.message_id,
        response=generation.text,
        model=generation.routed.address,
        usage=TokenUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.estimated),
        user_message_id=generation.turn.message_id,
        finish_reason=generation.outcome,
        timestamp=utc_now(),
    )
