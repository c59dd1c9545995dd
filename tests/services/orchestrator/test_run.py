from __future__ import annotations

import logging

import pytest
import trio

from uait.errors import DeadlineExceeded, MethodNotAllowed, NotFound, Unavailable
from uait.services.orchestrator.adapters import Ask
from uait.services.orchestrator.model import Outcome, Status
from uait.services.orchestrator.run import run_all, run_one, time_for

LOG = logging.getLogger("test")
ASKS = (Ask("POST", "/orchestrate"), Ask("GET", "/", described=True))


@pytest.mark.parametrize(
    ("own", "left", "reserve", "expected"),
    [
        (60, None, 0.2, 60),
        (60, 600, 0.2, 60),
        (60, 10, 0.2, 9.8),
        (60, 0.5, 0.2, 0.4),
        (1, 10, 0.2, 1),
        (60, 0, 0.2, 0),
    ],
)
def test_the_time_that_each_has(own, left, reserve, expected):
    assert time_for(own, left, reserve) == pytest.approx(expected)


class Services:
    """What each service does when it is asked: an answer, an error, or seconds to wait before answering."""

    def __init__(self, **behaviour):
        self.behaviour = behaviour
        self.asked = []
        self.stopped = []

    async def call(self, name, ask):
        self.asked.append((name, ask.path))
        what = self.behaviour[name]
        what = what.get(ask.path) if isinstance(what, dict) and ask.path in what else what
        if isinstance(what, int | float):
            try:
                await trio.sleep(what)
            finally:
                self.stopped.append((name, trio.current_time()))
            return f"after {what}"
        await trio.lowlevel.checkpoint()
        if isinstance(what, BaseException):
            raise what
        return what


async def run(services, *, timeout=10.0, report=None):
    asks = [(name, ASKS) for name in services.behaviour]
    outcomes = await run_all(asks, services.call, timeout=timeout, log=LOG, report=report)
    return {outcome.name: outcome for outcome in outcomes}


async def test_all_run_at_once(autojump_clock):
    began = trio.current_time()
    outcomes = await run(Services(a=3, b=3, c=3))

    assert trio.current_time() - began == pytest.approx(3)
    assert [outcome.status for outcome in outcomes.values()] == [Status.COMPLETED] * 3


async def test_one_that_fails_costs_the_others_nothing(autojump_clock):
    outcomes = await run(
        Services(good=1, dead=Unavailable("It is failed."), buggy=RuntimeError("/secret/path"), late=DeadlineExceeded())
    )

    assert {name: outcome.status.value for name, outcome in outcomes.items()} == {
        "good": "completed",
        "dead": "failed",
        "buggy": "failed",
        "late": "timed_out",
    }
    assert outcomes["good"].as_json() == "after 1"
    assert outcomes["dead"].as_json() == {"status": "failed", "error": "It is failed."}
    assert "secret" not in outcomes["buggy"].error


async def test_one_that_hangs_is_cut_off_at_its_time_and_the_others_are_kept(autojump_clock):
    services = Services(good=1, hung=1000)
    began = trio.current_time()
    outcomes = await run(services, timeout=5)

    assert trio.current_time() - began == pytest.approx(5)
    assert outcomes["good"].status is Status.COMPLETED
    assert outcomes["hung"].as_json() == {"status": "timed_out", "error": "hung did not answer within 5.00 s."}
    assert ("hung", began + 5) in services.stopped


async def test_it_reads_the_same_where_the_service_sees_the_deadline_pass_first(autojump_clock):
    async def late_by_itself(name, ask):
        await trio.sleep(4.9991)  # a deadline goes out in whole milliseconds, so it may pass a little earlier there
        raise DeadlineExceeded()

    outcome = await run_one("slow", [Ask("GET", "/")], late_by_itself, timeout=5, log=LOG)

    assert outcome.as_json() == {"status": "timed_out", "error": "slow did not answer within 5.00 s."}


async def test_each_result_is_told_as_it_comes(autojump_clock):
    told = []

    async def report(outcome):
        told.append((outcome.name, round(trio.current_time() - began)))

    began = trio.current_time()
    await run(Services(slow=5, fast=1, middle=3), report=report)

    assert told == [("fast", 1), ("middle", 3), ("slow", 5)]


async def test_a_listener_that_does_not_listen_holds_no_service_up(autojump_clock):
    services = Services(fast=1, slow=3)

    async def report(outcome):
        await trio.sleep(100)

    began = trio.current_time()
    await run(services, report=report)

    assert services.stopped == [("fast", began + 1), ("slow", began + 3)]


@pytest.mark.parametrize("error", [NotFound(), MethodNotAllowed()])
async def test_one_without_the_path_is_asked_what_it_is(error):
    services = Services(plain={"/orchestrate": error, "/": {"description": "Does things"}})

    outcome = (await run(services))["plain"]

    assert services.asked == [("plain", "/orchestrate"), ("plain", "/")]
    assert outcome.as_json() == {
        "status": "described",
        "note": "plain does not take requests here; this is what it is.",
        "information": {"description": "Does things"},
    }


async def test_one_that_is_not_there_is_asked_once():
    services = Services(gone=NotFound("There is no service named 'gone'.", code="SERVICE_NOT_FOUND"))

    outcome = (await run(services))["gone"]

    assert len(services.asked) == 1
    assert outcome.status is Status.FAILED


async def test_when_the_caller_leaves_everything_stops(autojump_clock):
    services = Services(a=100, b=200)
    began = trio.current_time()
    with trio.move_on_after(7) as scope:
        await run(services, timeout=1000)

    assert scope.cancelled_caught
    assert sorted(services.stopped) == [("a", began + 7), ("b", began + 7)]


def test_outcomes_know_whether_they_came_back():
    came_back = {status for status in Status if Outcome(name="x", status=status).came_back}

    assert came_back == {Status.COMPLETED, Status.DESCRIBED}
