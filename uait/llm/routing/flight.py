"""Identical questions at one time, asked once: everybody who waits reads the same answer, and it ends when the last one leaves."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import trio

from uait.errors import APIError, Unavailable
from uait.llm.messages import Chunk, Collected, GenerateRequest, Usage
from uait.llm.routing.routed import Routed


class Flight:
    """An answer that several wait for. It runs in a task of the router's, since none of those who wait is the last for certain."""

    def __init__(self, routed: Routed, question: GenerateRequest) -> None:
        self.routed = routed
        self.chunks: list[Chunk] = []
        self.failure: APIError | None = None
        self.opened = self.over = False
        self.waiting = 0
        self._question = question
        self._scope = trio.CancelScope()
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        collected = Collected()
        try:
            with self._scope:
                await self.routed.open()
                self.opened = True
                self._announce()
                async for chunk in self.routed:
                    more = [chunk, *self.routed.ready()]
                    self.chunks += more
                    for each in more:
                        collected.add(each)
                    self._announce()
        except APIError as error:
            self.failure = error
        except BaseException:
            self.failure = Unavailable("The service is restarting; try again.")
            raise
        finally:
            self.routed.used(collected.counted(self._question))
            await self.routed.aclose()
            self.over = True
            self._announce()

    def leave(self) -> None:
        """One fewer waits."""
        self.waiting -= 1
        if not self.waiting:
            self._scope.cancel(reason="the last one who waited has left")

    async def change(self) -> None:
        """Wait until there is more, or an end."""
        await self._changed.park()

    def _announce(self) -> None:
        self._changed.unpark_all()


class Shared:
    """One who waits for a flight's answer, from its beginning. To be used as a `Routed` is."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._read = 0
        self._left = False
        flight.waiting += 1
        self.trace = flight.routed.trace

    @property
    def address(self) -> str:
        return self._flight.routed.address

    @property
    def upstream_seconds(self) -> float:
        return self._flight.routed.upstream_seconds

    async def open(self) -> None:
        flight = self._flight
        while not (flight.opened or flight.over):
            await flight.change()
        if flight.failure is not None and not flight.chunks:
            raise flight.failure

    def __aiter__(self) -> Shared:
        return self

    async def __anext__(self) -> Chunk:
        flight = self._flight
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._read == len(flight.chunks):
            if flight.over:
                if flight.failure is not None:
                    raise flight.failure
                raise StopAsyncIteration
            await flight.change()
        self._read += 1
        return flight.chunks[self._read - 1]

    def ready(self) -> list[Chunk]:
        found = self._flight.chunks[self._read :]
        self._read += len(found)
        return found

    def used(self, usage: Usage) -> None:
        """Counted once, where the answer is made."""

    async def aclose(self) -> None:
        if not self._left:
            self._left = True
            self._flight.leave()
        await trio.lowlevel.checkpoint_if_cancelled()


class Flights:
    """Those under way. Each lives in `nursery` until its end."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[Hashable, Flight] = {}

    def join(self, key: Hashable, begin: Callable[[], Routed], question: GenerateRequest) -> Shared:
        """Wait with the others for the answer to the question that `key` stands for, or begin it."""
        flight = self._flights.get(key)
        if flight is None or not flight.waiting:
            flight = self._flights[key] = Flight(begin(), question)
            self._nursery.start_soon(self._run, key, flight, name="answer for several")
        return Shared(flight)

    async def _run(self, key: Hashable, flight: Flight) -> None:
        try:
            await flight.run()
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
