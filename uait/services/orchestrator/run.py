"""Running the chosen services: each in its own scope, so that one costs the others nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

import trio

from uait.errors import APIError, DeadlineExceeded, MethodNotAllowed, NotFound
from uait.services.orchestrator.adapters import Ask
from uait.services.orchestrator.model import Outcome, Status

Call: TypeAlias = Callable[[str, Ask], Awaitable[Any]]
"""Asks the service of that name; gives what its JSON says."""

Report: TypeAlias = Callable[[Outcome], Awaitable[None]]


def time_for(own: float, remaining: float | None, reserve: float) -> float:
    """Seconds that each service has: its own limit, within what remains of the request less the reserve, of which a fifth is the most that is kept back."""
    if remaining is None:
        return own
    return max(0.0, min(own, remaining - min(reserve, remaining / 5)))


async def run_all(
    asks: Iterable[tuple[str, Sequence[Ask]]],
    call: Call,
    *,
    timeout: float,
    log: logging.Logger,
    report: Report | None = None,
) -> list[Outcome]:
    """Run every service at once and wait for all, at most `timeout` seconds.

    Args:
        asks: of each service, its name and what it is asked: the next where the one before is answered with 404 or 405.
        report: told each outcome as soon as it is there, in any order; while it waits, the other services go on.

    Returns:
        The outcomes, in the order of `asks`.

    On cancellation everything that was started has stopped when it returns.
    """
    outcomes: dict[str, Outcome] = {}

    async def run(name: str, wanted: Sequence[Ask]) -> None:
        outcome = outcomes[name] = await run_one(name, wanted, call, timeout=timeout, log=log)
        if report is not None:
            await report(outcome)

    asks = list(asks)
    async with trio.open_nursery() as nursery:
        for name, wanted in asks:
            nursery.start_soon(run, name, wanted)
    return [outcomes[name] for name, _ in asks]


async def run_one(name: str, asks: Sequence[Ask], call: Call, *, timeout: float, log: logging.Logger) -> Outcome:
    """Run one service. Whatever it does is an outcome, never an exception."""
    started = trio.current_time()

    def outcome(status: Status, result: Any = None, error: str = "") -> Outcome:
        return Outcome(name=name, status=status, result=result, error=error, seconds=trio.current_time() - started)

    with trio.move_on_after(timeout):
        try:
            return await _first_answer(name, asks, call, outcome)
        except DeadlineExceeded:
            pass  # the service was given our deadline, in whole milliseconds, and may be the first to see it pass
        except APIError as error:
            return outcome(Status.FAILED, error=error.text)
        except Exception:
            log.exception("%s could not be run", name)
            return outcome(Status.FAILED, error=f"{name} could not be run.")
    seconds = min(timeout, trio.current_time() - started)
    return outcome(Status.TIMED_OUT, error=f"{name} did not answer within {seconds:.2f} s.")


async def _first_answer(name: str, asks: Sequence[Ask], call: Call, outcome: Callable[..., Outcome]) -> Outcome:
    for ask in asks[:-1]:
        try:
            return outcome(Status.COMPLETED, await call(name, ask))
        except (NotFound, MethodNotAllowed) as error:
            if error.error_code == "SERVICE_NOT_FOUND":
                raise
    result = await call(name, asks[-1])
    if asks[-1].described:
        return outcome(Status.DESCRIBED, result, f"{name} does not take requests here; this is what it is.")
    return outcome(Status.COMPLETED, result)
