"""Traces, failures, content negotiation."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import BadGateway, ImATeapot, MethodNotAllowed, RequestEntityTooLarge

from uait.errors import Conflict, NotFound
from uait.web import accepts
from uait.web.failure import to_api_error
from uait.web.trace import child_span, request_id

SPAN = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")
T, S = "1" * 32, "2" * 16


@pytest.mark.parametrize(
    ("given_value", "goes_on"),
    [
        (f"00-{T}-{S}-01", True),
        (f"00-{T}-{S}-00", True),
        (f"01-{T}-{S}-01-more", True),
        (f"00-{T}-{S}-01-more", False),
        (f"ff-{T}-{S}-01", False),
        (f"00-{'0' * 32}-{S}-01", False),
        (f"00-{T}-{'0' * 16}-01", False),
        (f"00-{T.upper()}A-{S}-01", False),
        ("", False),
        (None, False),
    ],
)
def test_trace_parents(given_value: str | None, goes_on: bool) -> None:
    child, same = child_span(given_value)
    assert SPAN.fullmatch(child)
    assert same == goes_on
    assert (T in child) == goes_on
    assert S not in child


@given(st.text(max_size=80))
def test_any_trace_parent_gives_a_span(text: str) -> None:
    assert SPAN.fullmatch(child_span(text)[0])


@given(st.binary(max_size=140))
def test_any_request_id_is_taken_or_replaced(raw: bytes) -> None:
    found = request_id(raw)
    assert 1 <= len(found) <= 128
    assert found.isascii()
    assert found.isprintable()
    assert " " not in found


def test_the_first_designed_error_of_a_group_wins() -> None:
    conflict = Conflict()
    nested = ExceptionGroup("", [ValueError(), ExceptionGroup("", [conflict, NotFound()])])
    assert to_api_error(nested) is conflict


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("x"), 500, "INTERNAL_ERROR"),
        (ExceptionGroup("", [ValueError(), KeyError()]), 500, "INTERNAL_ERROR"),
        (trio.TooSlowError(), 504, "DEADLINE_EXCEEDED"),
        (ExceptionGroup("", [trio.TooSlowError(), ValueError()]), 504, "DEADLINE_EXCEEDED"),
        (RequestEntityTooLarge(), 413, "PAYLOAD_TOO_LARGE"),
        (ImATeapot("short and stout"), 418, "I_M_A_TEAPOT"),
        (BadGateway(), 502, "BAD_GATEWAY"),
    ],
)
def test_foreign_errors_are_translated(error: Exception, status: int, code: str) -> None:
    made = to_api_error(error)
    assert (made.http_status, made.error_code) == (status, code)


def test_a_wrong_method_says_which_are_right() -> None:
    assert to_api_error(MethodNotAllowed(["PUT", "GET"])).headers == {"Allow": "GET, PUT"}


@pytest.mark.parametrize(
    ("accept", "html", "events"),
    [
        (None, False, False),
        ("*/*", False, False),
        ("application/json", False, False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True, False),
        ("text/event-stream", False, True),
        ("application/json, text/event-stream", False, True),
        ("application/json, text/event-stream;q=0.5", False, False),
        ("text/event-stream;q=0", False, False),
        ("text/*", True, True),
        ("TEXT/HTML", True, False),
        ("garbage;;q=x,,", False, False),
    ],
)
async def test_what_the_client_prefers(make_app: Any, ask: Any, accept: str | None, html: bool, events: bool) -> None:
    app = make_app()

    @app.get("/x")
    async def handler() -> Any:
        return {"html": accepts("text/html"), "events": accepts("text/event-stream")}

    answer = await ask(app, "/x", headers={"Accept": accept} if accept is not None else {})
    assert answer.json == {"html": html, "events": events}
