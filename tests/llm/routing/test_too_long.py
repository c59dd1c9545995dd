"""A question that is too long for a model goes to one that reads more, however its provider says so."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import trio
from scripted import Script, Scripted

from uait.errors import APIError
from uait.llm import upstream
from uait.llm.provider import Model
from uait.llm.routing import RoutingSettings

OPENAI = {"message": "Your input exceeds it.", "type": "invalid_request_error", "code": "context_length_exceeded"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, OPENAI),
        (400, {"type": "invalid_request_error", "message": "prompt is too long: 213462 tokens > 200000 maximum"}),
        (
            400,
            {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 1 + 2"},
        ),
        (400, {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count (2) exceeds the maximum"}),
        (400, {"code": 400, "type": "exceed_context_size_error", "message": "too big", "n_ctx": 4096}),
        (
            400,
            {"message": "This model's maximum context length is 8192 tokens.", "type": "BadRequestError", "code": 400},
        ),
        (400, {"message": "This model's maximum prompt length is 131072 but the request contains 200000 tokens."}),
        (422, {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097"}),
        (400, {"message": "Range of input length should be [1, 30720]"}),
        (400, "the input length exceeds the context length"),
    ],
)
def test_every_spelling_is_one_code(status: int, error: Any) -> None:
    found = upstream.from_status("p", status, orjson.dumps({"error": error}), {})
    assert (found.error_code, found.http_status) == ("CONTEXT_LENGTH_EXCEEDED", 400)
    assert found.headers["x-should-retry"] == "false"


def test_also_inside_a_stream_and_with_the_providers_own_code() -> None:
    found = upstream.from_frame("p", OPENAI)
    assert found.error_code == "CONTEXT_LENGTH_EXCEEDED"
    assert isinstance(found.details, dict)
    assert found.details["code"] == "context_length_exceeded"


@pytest.mark.parametrize("message", ["The model is wrong.", "max_tokens is too large: 5 > 4", "tokens must be a list"])
def test_other_bad_requests_stay_what_they_are(message: str) -> None:
    found = upstream.from_status("p", 400, orjson.dumps({"error": {"message": message}}), {})
    assert found.error_code == "INVALID_REQUEST"


def too_long(name: str, reads: int | None) -> Scripted:
    refuse = upstream.from_status(name, 400, orjson.dumps({"error": OPENAI}), {})
    return Scripted(name, Script(refuse=refuse), models=[Model("m", context_length=reads)])


def good(name: str, reads: int | None) -> Scripted:
    return Scripted(name, models=[Model("m", context_length=reads)])


async def ask(r: Any, **options: Any) -> Any:
    await trio.testing.wait_all_tasks_blocked()  # the lists are known
    return (await r.ask(**options))[1]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("hedge", [False, True])
async def test_it_goes_to_the_next_model_that_reads_more(
    rig: Any, autojump_clock: Any, whole: bool, hedge: bool
) -> None:
    providers = [too_long("a", 4096), good("b", 2048), good("c", 4096), good("d", 128_000)]
    async with rig(*providers, route={"hedge": hedge}, settings=RoutingSettings(breaker_failures=1)) as r:
        for _ in range(3):  # it speaks neither against the provider nor its key
            trace = (await ask(r, whole=whole)).trace
            assert [(each.model, each.why, each.outcome, each.error) for each in trace.attempts] == [
                ("a/m", "first choice", "failed", "CONTEXT_LENGTH_EXCEEDED"),
                ("d/m", "fallback", "answered", None),
            ]
            assert [(each.model, "too long for 4096" in each.why) for each in trace.skipped] == [
                ("b/m", True),
                ("c/m", True),
            ]


@pytest.mark.parametrize(("first", "second"), [(None, 1024), (4096, None), (None, None)])
async def test_where_it_is_not_known_what_they_read_it_simply_goes_on(
    rig: Any, autojump_clock: Any, first: int | None, second: int | None
) -> None:
    async with rig(too_long("a", first), good("b", second)) as r:
        assert (await ask(r)).address == "b/m"


async def test_where_nobody_reads_more_the_error_says_so(rig: Any, autojump_clock: Any) -> None:
    providers = [too_long("a", 4096), good("b", 2048)]
    async with rig(*providers) as r:
        await trio.testing.wait_all_tasks_blocked()
        error: APIError = await r.fails()
        assert (error.error_code, error.http_status) == ("CONTEXT_LENGTH_EXCEEDED", 400)
        assert providers[1].asked == []
