"""Cases 32 to 36: several models are asked at once or one after the other, and connections are used again."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from faces import FACES
from mock_upstream import KINDS

TEXT = "Hello from the mock model."
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
PAIRS = [(face, kind) for face in FACES for kind in KINDS]


async def everybody(ask: Any, *args: Any) -> None:
    """Ask for each face before each kind at once."""
    async with trio.open_nursery() as nursery:
        for face, kind in PAIRS:
            nursery.start_soon(ask, *args, face, kind)


@pytest.fixture
def racing(run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Routes `race-FACE-KIND` with two models of a provider, of which the second is asked after 10 ms."""
    monkeypatch.setattr("uait.llm.routing.health.ENOUGH", 1)  # one answer tells what is usual
    monkeypatch.setattr("uait.llm.routing.router.HEDGES_SAVED", 1000.0)

    def racing(second: str) -> Any:
        routes = {}
        for face, kind in PAIRS:
            models = [
                f"{face}-{kind}/{name}?group={face}-{kind}&leg={n}" for n, name in enumerate(("together", second))
            ]
            routes[f"race-{face}-{kind}"] = {"models": models, "hedge": True}
        more = {"hedge_ratio": 1.0, "hedge_floor": 0.01, "breaker_failures": 10_000}
        return run(routes=routes, routing=more)

    return racing


async def race(front: Any, stream: bool) -> list[dict[str, Any]]:
    """Race for each face before each kind; gives the traces."""

    async def ask(face: str, kind: str) -> None:
        said = await front.ask(face, f"race-{face}-{kind}", stream=stream)
        assert (said.text, said.finish, said.error, said.ended) == (TEXT, "stop", "", True)

    front.upstream.together = 1
    await everybody(ask)  # alone, so that it is known how long it takes
    front.upstream.together = 2
    await everybody(ask)
    traces: list[dict[str, Any]] = (await front.client.get("/v1/route/traces?limit=100")).json()["traces"]
    return traces[: len(PAIRS)]


@STREAM
async def test_case_32_a_tie(racing: Any, stream: bool) -> None:
    """One answer, of one of them; the other one's connection is closed, and it is nobody's failure."""
    async with racing("together") as front:
        for trace in await race(front, stream):
            assert sorted(attempt["outcome"] for attempt in trace["attempts"]) == ["answered", "lost"]
        await front.upstream.until(lambda server: server.left == len(PAIRS))


@STREAM
async def test_case_33_the_loser_fails_after_the_win(racing: Any, stream: bool) -> None:
    async with racing("sore-loser") as front:
        for trace in await race(front, stream):
            outcomes = [(attempt["why"], attempt["outcome"]) for attempt in trace["attempts"]]
            assert outcomes == [("first choice", "answered"), ("hedge", "lost")]


@STREAM
@pytest.mark.parametrize("hedge", [False, True], ids=["one by one", "side by side"])
async def test_case_34_all_fail(run: Any, stream: bool, hedge: bool) -> None:
    """The error is that of the preferred one, and tells of all attempts."""
    routes = {}
    for face, kind in PAIRS:
        models = [f"{face}-{kind}/{name}" for name in ("overloaded", "cut-after-headers")]
        routes[f"bad-{face}-{kind}"] = {"models": models, "hedge": hedge}

    async def ask(front: Any, face: str, kind: str) -> None:
        response = await front.response(face, f"bad-{face}-{kind}", stream=stream)
        assert response.status_code == 503, response.text
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-route-attempts"] == "2"
        for said in ("PROVIDER_OVERLOADED", "UPSTREAM_ERROR", f"{face}-{kind}/cut-after-headers"):
            assert said in response.text

    async with run(routes=routes, routing={"attempts": 2, "breaker_failures": 10_000}) as front:
        await everybody(ask, front)


@STREAM
async def test_case_35_a_cancelled_answers_connection_is_not_used_again(run: Any, stream: bool) -> None:
    async def ask(front: Any, face: str, kind: str) -> None:
        for delay in (0.0, 0.02, 0.05):
            async with front.asking(face, f"{face}-{kind}/tokens?count=1000&delay=0.01", stream=stream):
                await trio.sleep(delay)
            said = await front.ask(face, f"{face}-{kind}/tokens", stream=stream)
            assert (said.text, said.error) == ("tok0 tok1 tok2 tok3 tok4 ", "")

    async with run() as front:
        await everybody(ask, front)


@STREAM
async def test_case_36_a_pooled_connection_that_was_closed_meanwhile(run: Any, stream: bool) -> None:
    """The question is sent once more, on a new connection, and reaches the server once."""

    async def ask(front: Any, face: str, kind: str) -> None:
        for _ in range(3):
            said = await front.ask(face, f"{face}-{kind}/close-idle", stream=stream)
            assert (said.text, said.error) == (TEXT, "")

    async with run() as front:
        await everybody(ask, front)
        assert front.questions() == 3 * len(PAIRS)
