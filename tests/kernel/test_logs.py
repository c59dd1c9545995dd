"""Log lines for people and for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from uait.calls.context import CallContext, bind_call
from uait.kernel.logs import JSONFormatter, TextFormatter, log_to


def record(message: str, *arguments: Any, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("uait.chat").makeRecord(
        "uait.chat", logging.WARNING, "x.py", 1, message, arguments, None, extra=extra or None
    )
    made.created, made.msecs = 1700000000.25, 250.0
    return made


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("uait")
    before = root.handlers[:], root.level, ours.level
    yield root
    root.handlers[:], root.level = before[:2]
    ours.setLevel(before[2])


def test_text_says_when_how_bad_who_and_what() -> None:
    line = TextFormatter().format(record("%s is slow", "it"))

    assert line.endswith(".250 warning chat: it is slow")


def test_nobody_can_write_a_line_of_their_own() -> None:
    line = TextFormatter().format(record("GET %s", "/a\n10:00:00 error chat: fake\r\x1b[31m\u2028"))

    assert len(line.splitlines()) == 1
    assert "/a\\n10:00:00 error chat: fake\\r\\x1b[31m\\u2028" in line


def test_json_is_one_object_a_line_with_everything_in_it() -> None:
    line = JSONFormatter().format(record("hello\n%s", "world", path="/x", status=200, thing=object))

    entry = json.loads(line)
    assert "\n" not in line
    assert entry == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "uait.chat",
        "message": "hello\nworld",
        "path": "/x",
        "status": 200,
        "thing": "<class 'object'>",
    }


@pytest.mark.parametrize("odd", [{("a", "b"): 1}, "itself"])
def test_json_loses_no_line_for_what_json_has_no_form_for(odd: Any) -> None:
    if odd == "itself":
        odd = {}
        odd["again"] = odd
    entry = json.loads(JSONFormatter().format(record("hello", odd=odd)))
    assert (entry["message"], entry["odd"]) == ("hello", repr(odd))


def test_both_tell_the_request_that_the_task_works_for() -> None:
    with bind_call(CallContext(request_id="r-1")):
        assert TextFormatter().format(record("x")).endswith("x [r-1]")
        assert json.loads(JSONFormatter().format(record("x")))["request_id"] == "r-1"
        assert json.loads(JSONFormatter().format(record("x", request_id="r-2")))["request_id"] == "r-2"


@pytest.mark.parametrize("formatter", [TextFormatter(), JSONFormatter()])
def test_a_crash_comes_with_its_traceback(formatter: logging.Formatter) -> None:
    made = record("it crashed")
    try:
        raise RuntimeError("deep reason")
    except RuntimeError as error:
        made.exc_info = (type(error), error, error.__traceback__)

    line = formatter.format(made)

    assert "deep reason" in line
    assert "Traceback" in line


def test_nobody_can_write_a_line_of_their_own_by_an_exception() -> None:
    made = record("it crashed")
    try:
        raise RuntimeError("no such city:\n10:00:00 error chat: fake\r\x1b[31m")
    except RuntimeError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    made.stack_info = "Stack:\r\nhere"

    first, *below = TextFormatter().format(made).splitlines()

    assert first.endswith("it crashed")
    assert all(line.startswith("  ") and line.isprintable() for line in below)
    assert below[-4:] == [
        "  RuntimeError: no such city:",
        "  10:00:00 error chat: fake\\r\\x1b[31m",
        "  Stack:\\r",
        "  here",
    ]


def test_others_are_heard_from_warnings_on_and_uait_from_its_level_on(root: logging.Logger) -> None:
    stream = io.StringIO()
    before = root.handlers[:], root.level
    with log_to(stream, format="json", level="debug"):
        logging.getLogger("httpx").info("no")
        logging.getLogger("httpx").warning("theirs")
        logging.getLogger("uait.chat").debug("ours")
    logging.getLogger("httpx").warning("the program's own again")

    assert (root.handlers, root.level) == before
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["theirs", "ours"]
