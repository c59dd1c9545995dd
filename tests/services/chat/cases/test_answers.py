"""Cases 1 to 23 and 25: what a model server does wrong in one answer. Each is asked in every dialect before every kind of provider at once, streamed and not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from faces import FACES, Said
from mock_upstream import KINDS

TEXT = "Hello from the mock model."
NATIVE = tuple(kind for kind in KINDS if kind != "openai")


@attrs.frozen
class Good:
    """The answer is complete."""

    text: str = TEXT
    calls: tuple[tuple[str, Any], ...] = ()

    def problem(self, face: str, said: Said) -> str:
        calls = () if face == "chat" else self.calls  # that face tells only that there were some
        wanted = Said(self.text, list(calls), "tool_calls" if self.calls else "stop", ended=True)
        return "" if said == wanted else repr(said)[:500]


@attrs.frozen
class Bad:
    """The answer is an error with one of these codes, also where something of it had come."""

    codes: tuple[str, ...]

    def problem(self, face: str, said: Said) -> str:
        return "" if said.error in self.codes and said.ended and not (said.finish or said.after) else repr(said)[:500]


CUT, LIMITED = Bad(("UPSTREAM_ERROR",)), Bad(("RATE_LIMITED",))
SLOW = Bad(("UPSTREAM_TIMEOUT", "DEADLINE_EXCEEDED"))
OVERLOADED = Bad(("UPSTREAM_ERROR", "PROVIDER_OVERLOADED"))  # not every dialect can say so in the middle of a stream
WEATHER = (("weather", {"city": "Oslo"}), ("time", {"zone": "CET"}))

CASES: list[tuple[int, str, Good | Bad, tuple[str, ...]]] = [
    (1, "cut-after-headers", CUT, ()),
    (2, "cut-after-role", CUT, ()),
    (3, "cut-mid-content", CUT, ()),
    (3, "reset-mid-content", CUT, ()),
    (3, "end-mid-content", CUT, ()),
    (4, "finish-then-cut", Good(), ()),
    (4, "finish-then-silence", Good(), ()),
    (4, "finish-without-done", Good(), NATIVE),
    (5, "done-without-finish", Good(), NATIVE),
    (5, "last-line-unended", Good(), ("openai",)),
    (6, "error-frame-first", OVERLOADED, ()),
    (7, "error-frame-later", OVERLOADED, ()),
    (7, "error-with-choices", LIMITED, NATIVE),
    (7, "error-bare", Bad(("PROVIDER_OVERLOADED",)), NATIVE),
    (8, "http-error?status=502&body=html", CUT, ()),
    (8, "http-error?status=500&body=empty", CUT, ()),
    (9, "rate-limited?wait=seconds", LIMITED, ()),
    (9, "rate-limited?wait=date", LIMITED, ()),
    (9, "rate-limited?wait=ms", LIMITED, ()),
    (9, "rate-limited", LIMITED, ()),
    (10, "overloaded", Bad(("PROVIDER_OVERLOADED",)), ()),
    (11, "silent-after-headers", SLOW, ()),
    (12, "stall", SLOW, ()),
    (13, "byte-per-segment", Good("Grüße 👋"), ()),
    (14, "one-segment", Good(" ".join(["word"] * 500)), ()),
    (15, "split-utf8", Good("Grüße 👋 \u2028 from the mock model."), ()),
    (16, "crlf", Good(), ()),
    (17, "pings?seconds=60", SLOW, ()),
    (17, "pings?seconds=0.3", Good(), ()),
    (18, "usage-everywhere", Good("abc"), NATIVE),
    (19, "parallel-tools", Good("", WEATHER), ()),
    (20, "tool-args-empty", Good("", (("now", {}),)), ()),
    (21, "tool-args-object", Good("", WEATHER[:1]), NATIVE),
    (22, "tools-finish-stop", Good("", (("now", {}),)), NATIVE),
    (23, "big-event", Good("x" * 1_000_000), ()),
    (25, "gzipped", Good(), ()),
]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("number", "scenario", "outcome", "without"), CASES, ids=[f"{n}-{name}" for n, name, *_ in CASES]
)
async def test_case(
    run: Any,
    number: int,
    scenario: str,
    outcome: Good | Bad,
    without: tuple[str, ...],
    stream: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("uait.llm.stream.TAIL_TIMEOUT", 0.1)
    times = {}
    if outcome is SLOW:
        # Of an answer in one piece nothing tells the first token; only the whole has a limit.
        times = {"first_token_timeout": 0.5, "idle_timeout": 0.5, "total_timeout": 20 if stream else 0.7}
    problems: dict[str, str] = {}

    async def ask(front: Any, face: str, kind: str) -> None:
        said = await front.ask(face, f"{face}-{kind}/{scenario}", stream=stream)
        if problem := outcome.problem(face, said):
            problems[f"{face} before {kind}"] = problem

    async with run(**times) as front, trio.open_nursery() as nursery:
        for face in FACES:
            for kind in KINDS:
                if kind not in without:
                    nursery.start_soon(ask, front, face, kind)
    assert problems == {}
