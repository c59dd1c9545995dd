"""A question finds somebody who answers it: at once elsewhere, again after a pause, within one deadline and one budget."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from scripted import Script, Scripted, Words, leave

from uait.errors import APIError, BadRequest
from uait.llm import upstream
from uait.llm.catalog import Entry
from uait.llm.kinds import BrokenProvider
from uait.llm.messages import Chunk, GenerateRequest
from uait.llm.provider import Capability
from uait.llm.routing import RoutingSettings


def status(name: str, code: int, **headers: str) -> APIError:
    """What a provider's answer with this status is to us."""
    return upstream.from_status(name, code, b"{}", {key.replace("_", "-"): value for key, value in headers.items()})


def outcomes(routed: Any) -> list[tuple[str, str, str]]:
    return [(attempt.model, attempt.why, attempt.outcome) for attempt in routed.trace.attempts]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        Script(refuse=status("a", 500)),
        Script(refuse=status("a", 503)),
        Script(refuse=status("a", 529)),
        Script(refuse=status("a", 429)),
        Script(refuse=status("a", 401)),
        Script(refuse=status("a", 402)),
        Script(refuse=status("a", 404)),
        Script(refuse=status("a", 413)),
        Script(refuse=upstream.unreachable("a")),
        Script(refuse=BadRequest("It cannot see.", code="UNSUPPORTED_BY_PROVIDER")),
        Script(fail=upstream.from_frame("a", {"type": "overloaded_error"})),
        Script(fail=RuntimeError("a bug of the provider's")),
    ],
)
async def test_where_one_fails_the_next_is_asked_at_once(
    rig: Any, autojump_clock: Any, script: Script, whole: bool
) -> None:
    async with rig(Scripted("a", script), Scripted("b")) as r:
        began = trio.current_time()
        text, routed = await r.ask(whole=whole)
        assert text == "Hello there"
        assert trio.current_time() == began
        assert outcomes(routed) == [("a/m", "first choice", "failed"), ("b/m", "fallback", "answered")]
        assert (routed.address, routed.trace.outcome) == ("b/m", "answered")


async def test_what_is_wrong_with_the_question_is_not_asked_anywhere_else(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(refuse=status("a", 400))), Scripted("b")) as r:
        error = await r.fails()
        assert error.http_status == 400
        assert r.providers["b"].asked == []


@pytest.mark.parametrize("whole", [False, True])
async def test_a_slow_first_token_falls_back(rig: Any, autojump_clock: Any, whole: bool) -> None:
    async with rig(
        Scripted("a", Script(first=60)), Scripted("b", Script(first=1)), route={"first_token_timeout": 5}
    ) as r:
        began = trio.current_time()
        text, routed = await r.ask(whole=whole)
        assert text == "Hello there"
        assert trio.current_time() - began == pytest.approx(6)
        assert routed.trace.attempts[0].error == "UPSTREAM_TIMEOUT"


async def test_slow_acceptance_counts_as_well(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(accept=60)), Scripted("b"), route={"first_token_timeout": 5}) as r:
        began = trio.current_time()
        await r.ask()
        assert trio.current_time() - began == pytest.approx(5)


async def test_with_nobody_else_to_ask_a_slow_first_token_is_waited_for(rig: Any, autojump_clock: Any) -> None:
    async with rig(Scripted("a", Script(first=200)), route={"first_token_timeout": 5}) as r:
        assert (await r.ask())[0] == "Hello there"


async def test_one_model_is_asked_again_after_a_pause_with_full_jitter(rig: Any, autojump_clock: Any) -> None:
    for seed in range(10):
        scripts = [Script(refuse=status("a", 500)), Script(refuse=status("a", 503)), Script()]
        async with rig(Scripted("a", *scripts), seed=seed) as r:
            _, routed = await r.ask()
            assert outcomes(routed)[1:] == [("a/m", "retry", "failed"), ("a/m", "retry", "answered")]
            first, second = routed.trace.pauses
            assert 0 <= first <= 0.25
            assert 0 <= second <= 0.5
            assert trio.current_time() >= first + second


async def test_attempts_are_bounded_and_all_told(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(refuse=status("a", 500))), Scripted("b", Script(refuse=upstream.unreachable("b")))
    async with rig(a, b, settings=RoutingSettings(attempts=5)) as r:
        error = await r.fails(id="t1")
        assert len(a.asked) + len(b.asked) == 5
        assert error.http_status == 502  # that of the preferred one
        assert error.headers["x-should-retry"] == "false"
        assert "a/m (UPSTREAM_ERROR after 0.00 s), b/m (PROVIDER_UNREACHABLE after 0.00 s)" in error.text
        assert [each["model"] for each in error.details["attempts"]] == ["a/m", "b/m", "a/m", "b/m", "a/m"]
        assert r.router.traces.find("ann", "t1").outcome == "failed"
        assert r.router.traces.find("bob", "t1") is None


async def test_what_cannot_change_is_not_asked_again(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(refuse=status("a", 404)))
    async with rig(a) as r:
        assert (await r.fails()).http_status == 404
        assert len(a.asked) == 1


@pytest.mark.parametrize("headers", [{"retry_after": "3"}, {"retry_after_ms": "3000"}])
async def test_retry_after_is_honoured(rig: Any, autojump_clock: Any, headers: dict[str, str]) -> None:
    async with rig(Scripted("a", Script(refuse=status("a", 503, **headers)), Script())) as r:
        began = trio.current_time()
        await r.ask()
        assert 3 <= trio.current_time() - began <= 3.25


async def test_a_retry_after_beyond_the_longest_pause_is_told_and_not_waited_for(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(refuse=status("a", 429, retry_after="120")))
    async with rig(a) as r:
        began = trio.current_time()
        error = await r.fails()
        assert trio.current_time() == began
        assert (error.http_status, error.headers["Retry-After"]) == (429, "120")
        await trio.sleep(50)
        error = await r.fails()  # not asked meanwhile, and still the true reason
        assert (error.http_status, error.headers["Retry-After"]) == (429, "70")
        assert len(a.asked) == 1


async def test_a_429_cools_the_key_and_not_the_provider(rig: Any, autojump_clock: Any) -> None:
    limited = Scripted("a", Script(refuse=status("a", 429, retry_after="30")), Script())
    other = Scripted("a")
    async with rig(Entry(limited, others=(other,))) as r:
        began = trio.current_time()
        text, routed = await r.ask()
        assert text == "Hello there"
        assert trio.current_time() == began
        assert outcomes(routed) == [("a/m", "first choice", "failed"), ("a/m", "retry", "answered")]
        await r.ask()
        assert (len(limited.asked), len(other.asked)) == (1, 2)
        await trio.sleep(31)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(r.ask)
        assert (len(limited.asked), len(other.asked)) == (2, 3)  # the less busy one


async def test_a_refused_key_is_left_alone_and_another_one_used(rig: Any, autojump_clock: Any) -> None:
    refused, other = Scripted("a", Script(refuse=status("a", 401))), Scripted("a")
    async with rig(Entry(refused, others=(other,))) as r:
        for _ in range(5):
            await r.ask()
        assert (len(refused.asked), len(other.asked)) == (1, 5)


async def test_who_cannot_work_at_all_is_asked_once_and_says_so_every_time(rig: Any, autojump_clock: Any) -> None:
    broken = Entry(BrokenProvider("a", "cannot be made from its settings"))
    async with rig(broken) as r:
        began = trio.current_time()
        for _ in range(10):
            error = await r.fails()
            assert (error.http_status, len(error.details["attempts"])) == (503, 1)
            assert "'a' cannot be made from its settings" in error.text
            assert error.headers == {"x-should-retry": "false"}
        assert trio.current_time() == began
    async with rig(broken, Scripted("b")) as r:
        text, routed = await r.ask()
        assert text == "Hello there"
        assert outcomes(routed) == [("a/m", "first choice", "failed"), ("b/m", "fallback", "answered")]


class Undecorated(Scripted):
    """Its author forgot `@asynccontextmanager`."""

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Chunk]:  # type: ignore[override]
        yield Chunk("Hello")


class Plain(Scripted):
    """Its author took text for chunks."""

    @asynccontextmanager
    async def stream(self, request: GenerateRequest) -> AsyncIterator[Any]:
        async def words() -> AsyncIterator[str]:
            yield "Hello"

        yield words()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(Undecorated, "gave a async_generator, not an asynchronous"), (Plain, "gave a str, not a Chunk")],
)
async def test_a_provider_that_is_wrongly_written_hears_how(
    rig: Any, autojump_clock: Any, caplog: pytest.LogCaptureFixture, kind: type[Scripted], wrong: str, whole: bool
) -> None:
    async with rig(kind("a")) as r:
        error = await r.fails(whole=whole)
        assert (error.http_status, len(error.details["attempts"])) == (502, 1)
        assert error.text.startswith("The provider 'a' is wrongly written: ")
        assert wrong in error.text
        assert error.headers == {"x-should-retry": "false"}
    (record,) = caplog.records
    assert "'a'" in record.message
    assert wrong in record.message
    async with rig(kind("a"), Scripted("b")) as r:
        assert (await r.ask(whole=whole))[0] == "Hello there"


async def test_three_that_hang_and_two_seconds_are_a_504_at_two_seconds(rig: Any, autojump_clock: Any) -> None:
    providers = [Scripted(name, Script(first=100)) for name in "abc"]
    for whole in (False, True):
        async with rig(*providers, route={"total_timeout": 2.0}) as r:
            began = trio.current_time()
            error = await r.fails(whole=whole)
            assert trio.current_time() - began == 2.0
            assert error.http_status == 504
            assert error.headers["x-should-retry"] == "false"
            assert "Tried: a/m" in error.text


async def test_three_that_fail_slowly_and_two_seconds_are_a_504_at_two_seconds(rig: Any, autojump_clock: Any) -> None:
    providers = [Scripted(name, Script(accept=0.8, refuse=status(name, 503))) for name in "abc"]
    async with rig(*providers, route={"total_timeout": 2.0}) as r:
        began = trio.current_time()
        error = await r.fails()
        assert trio.current_time() - began == 2.0
        assert error.http_status == 504
        assert [len(provider.asked) for provider in providers] == [1, 1, 1]


async def test_the_callers_own_deadline_is_kept_and_what_was_tried_told(rig: Any, autojump_clock: Any) -> None:
    async with rig(*(Scripted(name, Script(first=100)) for name in "ab")) as r:
        began = trio.current_time()
        with trio.fail_after(2.0):
            error = await r.fails()
        assert 1.95 <= trio.current_time() - began < 2.0
        assert error.http_status == 504
        assert "a/m" in error.text


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("silent", [Script(accept=100), Script(first=100)], ids=["head", "token"])
async def test_what_is_given_up_at_the_deadline_is_paid_for_as_what_is_left(
    rig: Any, autojump_clock: Any, silent: Script, whole: bool
) -> None:
    async with rig(Scripted("a", silent)) as r:
        await leave(2.0, r.ask, whole=whole)
        with trio.fail_after(2.0):
            await r.fails(whole=whole)
        assert [(address, requests) for _, address, _, requests, _ in r.used] == [("a/m", 1)] * 2


async def test_no_attempt_is_begun_with_no_time_left_for_it(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(accept=1.97, refuse=status("a", 503))), Scripted("b")
    async with rig(a, b, route={"total_timeout": 2.0, "first_token_timeout": 10}) as r:
        a.scripts = [Script(accept=0.99, refuse=status("a", 503))]
        b.scripts = [Script(accept=0.97, refuse=status("b", 503))]
        await r.fails()
        assert len(a.asked) + len(b.asked) == 2


async def test_after_content_a_failure_is_a_failure(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(fail=status("a", 500), fail_after=1)), Scripted("b")
    async with rig(a, b) as r:
        error = await r.fails()
        assert error.http_status == 502
        assert b.asked == []
        assert r.used == [("ann", "a/m", r.used[0][2], 1, None)]


async def test_in_one_piece_a_failure_after_content_is_made_good_and_paid_for(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(fail=status("a", 500), fail_after=1)), Scripted("b")
    async with rig(a, b) as r:
        text, _ = await r.ask(whole=True)
        assert text == "Hello there"
        assert [(address, requests) for _, address, _, requests, _ in r.used] == [("a/m", 0), ("b/m", 1)]
        assert r.used[0][2].completion_tokens == 2
        assert r.used[0][2].estimated


async def test_an_answer_that_breaks_off_can_be_gone_on_with(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(words=("One", " two", " three"), fail=status("a", 500), fail_after=2))
    b = Scripted("b", Script(words=(" three", " four")))
    async with rig(a, b, route={"continuation": True}) as r:
        text, routed = await r.ask()
        assert text == "One two three four"
        assert [turn.text for turn in b.asked[0].messages[:2]] == ["Hi", "One two"]
        assert outcomes(routed)[1] == ("b/m", "continuation", "answered")
        assert [address for _, address, *_ in r.used] == ["a/m", "b/m"]


@pytest.mark.parametrize("whole", [True, False])
async def test_an_answer_that_nobody_goes_on_with_is_still_a_request(
    rig: Any, autojump_clock: Any, whole: bool
) -> None:
    a = Scripted("a", Script(words=("One", " two"), fail=status("a", 500), fail_after=1))
    b = Scripted("b", Script(refuse=status("b", 400)))
    async with rig(a, b, route={"continuation": True}) as r:
        await r.fails(whole=whole)
        assert sum(requests for *_, requests, _ in r.used) == 1
        assert {address for _, address, *_ in r.used} == {"a/m"}


async def test_an_answer_that_breaks_off_twice_is_told_to_the_third_once(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(words=("One", " two", " three"), fail=status("a", 500), fail_after=2))
    b = Scripted("b", Script(words=(" three", " four"), fail=status("b", 500), fail_after=1))
    c = Scripted("c", Script(words=(" four",)))
    async with rig(a, b, c, route={"continuation": True}) as r:
        text, _ = await r.ask(max_tokens=100)
        assert text == "One two three four"
        told = [turn.text for turn in c.asked[0].messages if turn.role == "assistant"]
        assert told == ["One two", " three"]
        assert (b.asked[0].max_tokens, c.asked[0].max_tokens) == (95, 90)
        assert [usage.completion_tokens for _, _, usage, *_ in r.used] == [2, 2, 2]  # each its own part


async def test_an_answer_that_has_ended_is_not_gone_on_with(rig: Any, autojump_clock: Any) -> None:
    class FailsAfterItsEnd(Words):
        async def __anext__(self) -> Chunk:
            try:
                return await super().__anext__()
            except StopAsyncIteration:
                raise upstream.broken("a", "ended its answer before it was complete") from None

    class Late(Scripted):
        @asynccontextmanager
        async def stream(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Chunk]]:
            async with super().stream(request):
                yield FailsAfterItsEnd(Script())

    b = Scripted("b")
    async with rig(Late("a"), b, route={"continuation": True}) as r:
        assert (await r.fails()).http_status == 502
        assert b.asked == []


async def test_tools_and_formats_are_not_gone_on_with(rig: Any, autojump_clock: Any) -> None:
    from uait.llm.messages import Tool

    a = Scripted("a", Script(fail=status("a", 500), fail_after=1))
    async with rig(a, Scripted("b"), route={"continuation": True}) as r:
        assert (await r.fails(tools=(Tool("t"),))).http_status == 502


async def test_a_provider_that_keeps_failing_is_left_alone(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(refuse=status("a", 500))), Scripted("b")
    async with rig(a, b) as r:
        for _ in range(20):
            await r.ask()
        assert len(a.asked) == 5
        _, routed = await r.ask()
        assert "failed 5 times in a row" in routed.trace.skipped[0].why
        a.scripts = [Script()]
        await trio.sleep(1.1)
        await r.ask()  # one is let through
        await r.ask()
        assert len(a.asked) == 7


async def test_while_a_provider_is_tried_others_go_elsewhere(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(refuse=status("a", 500))), Scripted("b")
    async with rig(a, b) as r:
        for _ in range(5):
            await r.ask()
        await trio.sleep(1.1)
        a.scripts = [Script(first=3)]
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(r.ask)
        assert len(a.asked) == 6
        assert len(b.asked) == 5 + 9


async def test_retries_have_a_budget(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(refuse=status("a", 500)))
    settings = RoutingSettings(breaker_failures=10_000, retry_ratio=0.1)
    async with rig(a, settings=settings) as r:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(r.fails)
        took = trio.current_time() - began
        assert len(a.asked) <= 200 + 10 + 20 + took + 1  # saved up, a tenth, and one a second


async def test_a_model_that_is_not_known_any_more_has_the_list_asked_for_again(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(refuse=status("a", 404)))
    async with rig(a) as r:
        await trio.sleep(10)
        lists = a.lists
        await r.fails()
        await r.fails()
        await trio.testing.wait_all_tasks_blocked()
        assert a.lists == lists + 1


async def test_embeddings_are_tried_again_with_the_same_model_only(rig: Any, autojump_clock: Any) -> None:
    a, b = Scripted("a", Script(refuse=status("a", 503)), Script()), Scripted("b", models=("other",))
    async with rig(a, b) as r:
        plan = await r.router.plan("a/m,b/other", Capability.EMBEDDINGS)
        answer, routed = await r.router.embed(plan, ["x", "y"], None, "ann", "t")
        assert len(answer.vectors) == 2
        assert outcomes(routed) == [("a/m", "first choice", "failed"), ("a/m", "retry", "answered")]
        assert b.times == []
        assert [(address, requests) for _, address, _, requests, _ in r.used] == [("a/m", 1)]


@pytest.mark.parametrize("first", [0.0, 5.0])
async def test_leaving_is_nobodys_failure_and_closes_what_is_open(rig: Any, autojump_clock: Any, first: float) -> None:
    a = Scripted("a", Script(first=first, between=5))
    async with rig(a, settings=RoutingSettings(breaker_failures=1)) as r:
        await leave(2, r.ask, id="left")
        assert a.open == 0
        assert r.router.traces.find("ann", "left").outcome == "left"
        a.scripts = [Script()]
        await r.ask()


async def test_leaving_in_a_pause(rig: Any, autojump_clock: Any) -> None:
    a = Scripted("a", Script(refuse=status("a", 503, retry_after="5")))
    async with rig(a) as r:
        await leave(2, r.ask)
        assert (a.open, len(a.asked)) == (0, 1)


async def test_opened_read_and_closed_in_three_tasks(rig: Any, autojump_clock: Any) -> None:
    async with rig(
        Scripted("a", Script(refuse=status("a", 500))), Scripted("b", Script(between=1)), route={"hedge": True}
    ) as r:
        routed = await r.routed()
        read: list[str] = []

        async def read_some() -> None:
            async for chunk in routed:
                read.append(chunk.text)
                if len(read) == 2:
                    break

        for step in (routed.open, read_some, routed.aclose):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(step)
        assert r.providers["b"].open == 0
        assert read == ["", "Hello"]
