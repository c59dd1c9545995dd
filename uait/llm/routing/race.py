"""Asking a second model where the first is slow: whoever begins to answer first wins, the other one is closed before the winner goes on."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from uait.errors import APIError
from uait.llm.routing.leg import Leg, Stage


@attrs.frozen
class Result:
    """How a race ended.

    Attributes:
        winner: still open; None where all have failed.
        losers: closed and ended.
        failed: closed, and still to be ended.
    """

    winner: Leg | None
    losers: list[Leg]
    failed: list[tuple[Leg, APIError]]


async def race(
    first: Leg,
    another: Callable[[], Leg | None],
    *,
    hedge_at: float,
    patience: Callable[[Leg], float],
) -> Result:
    """Let `first` run, and from `hedge_at` on another one beside it, until one has begun to answer.

    When this returns or raises, every leg but the one returned has left its provider: the nursery does not end before. What is cancelled from outside leaves none.

    Args:
        another: makes the second leg; None where there is to be none.
        patience: until when a leg may take, on trio's clock.
    """
    legs = [first]
    failed: list[tuple[Leg, APIError]] = []
    winner: Leg | None = None
    ended = trio.Event()

    async def run(leg: Leg) -> None:
        nonlocal winner
        try:
            await leg.reach(Stage.BEGUN, patience(leg))
            # No checkpoint between here and the cancel: of two that arrive at once one wins.
            if winner is None:
                winner = leg
                nursery.cancel_scope.cancel(reason="another model began to answer first")
        except APIError as error:
            failed.append((leg, error))
            ended.set()
        finally:
            if leg is not winner:
                await leg.close()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, first)
            with trio.move_on_at(hedge_at):
                await ended.wait()
            if not failed and (second := another()) is not None:
                legs.append(second)
                nursery.start_soon(run, second)
    except BaseException:
        for leg in legs:
            await leg.left()
        raise
    losers = [leg for leg in legs if leg is not winner and all(leg is not each for each, _ in failed)]
    for leg in losers:
        await leg.lost()
    return Result(winner, losers, failed)
