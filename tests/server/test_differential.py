"""Thousands of generated requests to both kinds of servers at once: what they answer is the same, or the difference is in one table with its reason.

What is compared is what the client gets: each answer's status, its fields, its body, which says what the app was given, and how the last one ended. What may differ anyway is left out: the date, ids of
requests, the words of an error, whether an answer's body comes by length or in chunks.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from typing import Any

import attrs
import pytest
import trio
from server.generated import Script, script
from serving import KINDS, Running, serving
from wire import Wire

AT_ONCE = 40
TRIES = 5
"""A difference that is a matter of moments, such as which of two errors is found first, does not show each time."""

LIMITS = {"header_timeout": 0.4, "idle_timeout": 0.4, "header_bytes": 16_384}


class How(enum.Enum):
    """How the two differ where they first do."""

    BOTH_REFUSE = "each refuses the request, with the error that it finds first"
    ONE_REFUSES = "one refuses the request, and the other does not"
    OTHERWISE = "in another way"


@attrs.frozen
class Difference:
    """Where the two may differ, and why that is right.

    Attributes:
        sent: what the client sends in such a case.
    """

    reason: str
    how: How
    sent: re.Pattern[bytes]


def _sent(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL | re.IGNORECASE)


METHODS = rb"GET|POST|HEAD|PUT|PATCH|DELETE|OPTIONS|TRACE|PROPFIND|M-SEARCH|CONNECT"

DIFFERENCES = (
    Difference("What is wrong in two ways may be refused for either.", How.BOTH_REFUSE, _sent(b"")),
    Difference(
        "An app that answers without reading the body may be quicker than the error in it, or not.",
        How.ONE_REFUSES,
        _sent(rb"/early .*chunked"),
    ),
    Difference(
        "What follows a request that was to be the last is nothing to llhttp (RFC 9112 section 9.6), and an error to h11, which may come before the answer.",
        How.ONE_REFUSES,
        _sent(rb"(connection:[^\n]*close|HTTP/1\.0).*\r\n\r\n."),
    ),
    Difference(
        "llhttp takes Proxy-Connection, which is no field of HTTP, for Connection, and so ends a connection more than needed.",
        How.OTHERWISE,
        _sent(rb"proxy-connection:[^\n]*close"),
    ),
    Difference(
        "Where the app answers without asking for the body that the client holds back, ours ends the connection, and hypercorn's waits for the body for a moment (RFC 9110 section 10.1.1).",
        How.OTHERWISE,
        _sent(rb"/early .*expect: 100-continue"),
    ),
    Difference("llhttp knows no HTTP/1.2, which does not exist.", How.ONE_REFUSES, _sent(rb" HTTP/1\.[2-9]")),
    Difference(
        "llhttp knows the methods that are registered with IANA, and answers 501 to others (RFC 9110 section 15.6.2).",
        How.ONE_REFUSES,
        _sent(rb"(?:^|\n|\w)(?!(?:" + METHODS + rb") )[^ \n]+ [^ \n]* HTTP/1"),
    ),
    Difference(
        "llhttp refuses lengths that repeat in one field, which RFC 9110 section 8.6 allows; h11 takes them where they agree.",
        How.ONE_REFUSES,
        _sent(rb"content-length:[^\n]*,"),
    ),
    Difference(
        "llhttp refuses control characters in values, of which RFC 9110 section 5.5 has only three refused.",
        How.ONE_REFUSES,
        _sent(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]"),
    ),
    Difference(
        "llhttp refuses bare line feeds and carriage returns but between requests; h11 takes line feeds for line ends (RFC 9112 section 2.2 allows both).",
        How.ONE_REFUSES,
        _sent(rb"(?<!\r)\n|\r(?!\n)"),
    ),
    Difference(
        "llhttp takes more than one space between a method and its target (RFC 9112 section 3 allows both).",
        How.ONE_REFUSES,
        _sent(rb"(?:" + METHODS + rb")  "),
    ),
    Difference(
        "llhttp refuses folded lines; h11 joins them (RFC 9112 section 5.2 allows both).",
        How.ONE_REFUSES,
        _sent(rb"\n[ \t]"),
    ),
)


class Witness:
    """An app that answers with what it was given."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            return
        path = scope["path"]
        body = b"" if path == "/early" else await _body(receive)
        seen = {
            "method": scope["method"],
            "version": scope["http_version"],
            "scheme": scope["scheme"],
            "path": path,
            "raw path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "root": scope.get("root_path", ""),
            "headers": [_shown(name, value) for name, value in scope["headers"]],
            "body": [len(body), hashlib.sha256(body).hexdigest()],
        }
        answer = json.dumps(seen).encode()
        headers = [(b"X-Method", scope["method"].encode()), (b"x-two", b"a"), (b"x-two", b"b")]
        if path == "/refuse":
            await send({"type": "http.response.start", "status": 418, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        elif path == "/nothing":
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})
        elif path == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for start in range(0, len(answer), 100):
                await send({"type": "http.response.body", "body": answer[start : start + 100], "more_body": True})
            await send({"type": "http.response.body"})
        else:
            headers.append((b"content-length", b"%d" % len(answer)))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})


def _shown(name: bytes, value: bytes) -> list[str]:
    # h11 hands the coding over in small letters.
    return [name.decode("latin-1"), (value.lower() if name == b"transfer-encoding" else value).decode("latin-1")]


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        body += message["body"]
        if not message["more_body"]:
            return body


_LEFT_OUT = {"date", "server", "content-length", "transfer-encoding", "x-request-id"}


async def _answers(wire: Wire) -> list[Any]:
    """All that the client gets, without what may differ."""
    answers: list[Any] = []
    try:
        while True:
            answer = await _answer(wire)
            if answer[1] != 100:  # RFC 9110 section 10.1.1: it may be left out where the body is there already
                answers.append(answer)
    except EOFError:
        answers.append("an end in the middle of an answer" if wire.buffer else "the end")
    return answers


async def _answer(wire: Wire) -> Any:
    head = await wire.until(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    fields, status = dict(pairs), int(first.split(" ")[1])
    body: Any = b""
    if status >= 200 and status not in (204, 304) and fields.get("x-method") != "HEAD":
        if "content-length" in fields:
            size = int(fields["content-length"])
            # An answer to HEAD that the app has not made is the last one, and has no body.
            body = await wire.exactly(size) if await _more(wire) else b""
        elif fields.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in wire.chunks()])
        elif status != 101:
            body = await wire.rest()
    if status >= 400 and "x-method" not in fields:  # the server's own answer
        body = json.loads(body)["error"]["code"] if body else "without a body"
    kept = sorted((name, value) for name, value in pairs if name not in _LEFT_OUT)
    return first.split(" ")[0], status, kept, body


async def _more(wire: Wire) -> bool:
    try:
        while not wire.buffer:
            await wire._more()
    except EOFError:
        return False
    return True


async def _played(running: Running, one: Script) -> list[Any]:
    async with running.dial() as wire:
        answers: list[Any] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                try:
                    for segment in one.segments:
                        await wire.send(segment)
                        await trio.sleep(0.001)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # a server that has refused reads no more

            answers += await _answers(wire)
        return answers


@attrs.frozen
class Found:
    """A difference that is in no table."""

    script: Script
    native: list[Any]
    hypercorn: list[Any]

    def __str__(self) -> str:
        index = _first_difference(self.native, self.hypercorn)
        sent = self.script.segments if len(self.script.segments) < 10 else (self.script.data,)
        lines = [f"seed {self.script.seed}", *(f"  sent {_short(segment)}" for segment in sent)]
        lines += [f"  native answers    {_short(self.native[index : index + 1])}"]
        return "\n".join([*lines, f"  hypercorn answers {_short(self.hypercorn[index : index + 1])}"])


def _short(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= 700 else f"{text[:400]} ... {text[-300:]}"


def _first_difference(one: list[Any], other: list[Any]) -> int:
    same = [a == b for a, b in zip(one, other, strict=False)]
    return same.index(False) if False in same else len(same)


def _refuses(answers: list[Any], index: int) -> bool:
    return index >= len(answers) or isinstance(answers[index], str) or isinstance(answers[index][3], str)


def _allowed(one: Script, native: list[Any], hypercorn: list[Any]) -> bool:
    index = _first_difference(native, hypercorn)
    refuse = _refuses(native, index), _refuses(hypercorn, index)
    how = How.BOTH_REFUSE if all(refuse) else How.ONE_REFUSES if any(refuse) else How.OTHERWISE
    return any(entry.how is how and entry.sent.search(one.data) for entry in DIFFERENCES)


async def _compare(native: Running, hypercorn: Running, one: Script) -> Found | None:
    by_native: list[list[Any]] = []
    by_hypercorn: list[list[Any]] = []
    for _ in range(TRIES):
        async with trio.open_nursery() as nursery:

            async def play(running: Running, into: list[list[Any]]) -> None:
                into.append(await _played(running, one))

            nursery.start_soon(play, native, by_native)
            nursery.start_soon(play, hypercorn, by_hypercorn)
        if any(answers in by_hypercorn for answers in by_native) or _allowed(one, by_native[-1], by_hypercorn[-1]):
            return None
    return Found(one, by_native[-1], by_hypercorn[-1])


async def _compare_all(seeds: range) -> None:
    found: list[Found] = []
    limiter = trio.CapacityLimiter(AT_ONCE)
    async with (
        serving(Witness(), speak=KINDS["native"], patience=600, **LIMITS) as native,
        serving(Witness(), speak=KINDS["hypercorn"], patience=600, **LIMITS) as hypercorn,
    ):

        async def compare(seed: int) -> None:
            async with limiter:
                with trio.fail_after(60):
                    difference = await _compare(native, hypercorn, script(seed))
                if difference is not None:
                    found.append(difference)

        async with trio.open_nursery() as nursery:
            for seed in seeds:
                nursery.start_soon(compare, seed)
        for running in (native, hypercorn):
            await running.settled()
            assert running.server.statistics().failed == 0
    found.sort(key=lambda difference: len(difference.script.data))  # the simplest first
    assert not found, f"{len(found)} differences:\n" + "\n".join(map(str, found[:10]))


@pytest.mark.parametrize("seeds", [range(i, i + 100) for i in range(0, 400, 100)], ids=str)
async def test_the_answers_are_the_same(seeds: range) -> None:
    await _compare_all(seeds)


@pytest.mark.hostile
@pytest.mark.shared
@pytest.mark.parametrize("seeds", [range(i, i + 1000) for i in range(1000, 5000, 1000)], ids=str)
async def test_the_answers_to_thousands_are_the_same(seeds: range) -> None:
    await _compare_all(seeds)


def test_the_generator_makes_the_same_of_the_same_seed_and_something_of_each_kind() -> None:
    scripts = [script(seed) for seed in range(400)]
    assert scripts == [script(seed) for seed in range(400)]
    for mark in (b"POST ", b"HEAD ", b"HTTP/1.0", b"chunked", b"Content-Length", b"Expect", b"http://", b"\0", b";a=b"):
        assert any(mark in one.data for one in scripts), mark
