"""One answer being made: it belongs to its conversation, and viewers come and go.

The text so far is the log, and how many characters of it a viewer has is the cursor. So a viewer can come in anywhere, also after the end or a restart, where the stored text serves instead; one that is slow gets
bigger pieces; and the answer never waits for a viewer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import trio

from uait.errors import APIError, DeadlineExceeded
from uait.llm.messages import Chunk, Collected, GenerateRequest
from uait.llm.routing import Asked
from uait.services.chat.model import ChatAnswer
from uait.services.chat.store import Opening, Turn

BEHIND = 256
"""Pieces that a viewer may be behind and still get one by one."""


class Generation:
    """One answer on its way. `Generations` makes it and runs it.

    Args:
        message_id: the answer's.
        deadline: when it ends at the latest, on trio's clock.
        grace: seconds that it goes on without a viewer.
        background: it goes on without viewers until its deadline.

    Attributes:
        opening: the question, as long as it is not known to be stored.
        answer: the outcome, once it is stored.
        failure: why the answer is not complete, where that is an error.
    """

    def __init__(
        self,
        user_id: str,
        turn: Turn,
        message_id: str,
        asked: Asked,
        question: GenerateRequest,
        *,
        deadline: float,
        grace: float = 0.0,
        background: bool = False,
        opening: Opening | None = None,
    ) -> None:
        self.opening = opening
        self.user_id = user_id
        self.turn = turn
        self.message_id = message_id
        self.routed = asked
        self.question = question
        self.collected = Collected()
        self.answer: ChatAnswer | None = None
        self.failure: APIError | None = None
        self._deadline = deadline
        self._grace = grace
        self._background = background
        self._scope = trio.CancelScope(deadline=deadline)
        self._pieces: list[str] = []
        self._viewers = 0
        self._outcome: str | None = None
        self._accepted = False
        self._changed = trio.lowlevel.ParkingLot()
        self._settled = trio.lowlevel.ParkingLot()  # those who do not care for every piece

    # For who makes it

    async def run(self) -> None:
        """Ask the provider and take in the answer, up to its end, its deadline, or `stop`. Never raises but when cancelled from outside."""
        try:
            with self._scope:
                try:
                    await self.routed.open()
                    self._accepted = True
                    self._announce()
                    async for chunk in self.routed:
                        self._take(chunk)
                        # What came in one piece is taken in one step.
                        for more in self.routed.ready():
                            self._take(more)
                        self._announce()
                finally:
                    await self.routed.aclose()
                self._outcome = self.collected.finish or "stop"
        except APIError as error:
            self._outcome, self.failure = "error", error
        except trio.Cancelled:
            self._outcome = self._outcome or "interrupted"
            raise
        if self._outcome is None:
            # The scope's deadline: either the whole one, or the grace time after the last viewer.
            if trio.current_time() >= self._deadline:
                self._outcome, self.failure = "error", DeadlineExceeded("The answer was not complete in time.")
            else:
                self._outcome = "cancelled"

    def settle(self, answer: ChatAnswer) -> None:
        """The outcome is stored: let everybody know."""
        self.answer = answer
        self._announce()
        self._settled.unpark_all()

    def fail(self, error: APIError) -> None:
        """It failed in a way of our own."""
        self._outcome, self.failure = "error", error

    @property
    def outcome(self) -> str:
        """The finish reason; "interrupted" where the service stopped in the middle."""
        return self._outcome or "interrupted"

    # For everybody

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._pieces)

    def stop(self, outcome: str = "stopped") -> None:
        """End it now. What there is of it is kept as the answer."""
        if self._outcome is None:
            self._outcome = outcome
            self._scope.cancel(reason=f"the answer was {outcome}")

    async def accepted(self) -> None:
        """Wait until the provider has taken the question.

        Raises:
            APIError: it has not, or something failed before it could.
        """
        while not self._accepted and self.answer is None:
            await self._changed.park()
        if self.failure is not None and not self._accepted:
            raise self.failure

    async def settled(self) -> ChatAnswer:
        """Wait for the outcome, whatever it is."""
        while self.answer is None:
            await self._settled.park()
        return self.answer

    async def finished(self) -> ChatAnswer:
        """Wait for the answer.

        Raises:
            APIError: it is not complete.
        """
        answer = await self.settled()
        if self.failure is not None:
            raise self.failure
        return answer

    def viewed(self) -> Viewing:
        """Be a viewer inside the block. Where the last one leaves before the end, the answer ends after the grace time, unless it goes on in the background."""
        return Viewing(self)

    def pieces(self, after: int = 0) -> Pieces:
        """What comes after the first `after` characters, as it comes. For a viewer inside `viewed`."""
        return Pieces(self, after)

    def _take(self, chunk: Chunk) -> None:
        self.collected.add(chunk)
        if text := chunk.text or chunk.refusal:
            self._pieces.append(text)

    def _announce(self) -> None:
        if self._changed:
            self._changed.unpark_all()


class Viewing:
    """A context manager; see `Generation.viewed`."""

    __slots__ = ("_generation",)

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __enter__(self) -> None:
        generation = self._generation
        generation._viewers += 1
        if generation._scope.deadline != generation._deadline:  # to set one costs as much as a system call
            generation._scope.deadline = generation._deadline

    def __exit__(self, *_: object) -> None:
        generation = self._generation
        generation._viewers -= 1
        if generation._viewers or generation._background or generation._outcome is not None:
            return
        if generation._grace:
            generation._scope.deadline = min(generation._deadline, trio.current_time() + generation._grace)
        else:
            generation.stop("cancelled")


class Pieces:
    """An async iterator of (piece, characters up to its end). It ends with the answer; a failure is not raised here but by `finished`."""

    def __init__(self, generation: Generation, after: int) -> None:
        self._generation = generation
        self._after = after
        self._read = 0
        self._characters = 0
        self._caught_up = after == 0

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> tuple[str, int]:
        generation = self._generation
        waited = False
        while not (piece := self._next()):
            if generation.answer is not None:
                raise StopAsyncIteration
            await generation._changed.park()
            waited = True
        if not waited:
            await trio.lowlevel.checkpoint()
        return piece, self._characters

    def ready(self) -> Iterator[tuple[str, int]]:
        """What comes next and need not be waited for."""
        while piece := self._next():
            yield piece, self._characters

    def _next(self) -> str:
        pieces = self._generation._pieces
        if self._caught_up and len(pieces) - self._read <= BEHIND:
            if self._read == len(pieces):
                return ""
            piece = pieces[self._read]
            self._read += 1
        else:
            piece = "".join(islice(pieces, self._read, None))
            self._read = len(pieces)
        start = self._characters
        self._characters += len(piece)
        if not self._caught_up:
            if self._characters < self._after:
                return ""
            piece = piece[self._after - start :]
            self._caught_up = True
        return piece
