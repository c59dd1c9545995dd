"""Our transport beside httpx's own, over the same answers, good and broken: what comes out is the same, but for the differences that are meant.

| answer | httpx | ours | why |
| --- | --- | --- | --- |
| two Content-Lengths, equal ones or "5, 5" | taken as one | refused | RFC 9110 section 8.6 allows either; nobody sends this who means well |
| Content-Length beside Transfer-Encoding | the coding counts | refused | RFC 9112 section 6.3: "ought to be handled as an error" |
| folded headers, bare line feeds, control characters in headers | taken | refused | the old ways to smuggle (RFC 9112 sections 2.2 and 5.2) |
| HTTP/9.9 | taken | refused | nobody knows what it means |
| chunk extensions without a name, blanks around the size of a chunk | taken | refused | RFC 9112 section 7.1 |
| trailers that frame a message | dropped | refused | RFC 9110 section 6.5.1 forbids them |
| line breaks before the status line | refused | passed over | llhttp does as RFC 9112 section 2.2 has servers do |
| `Transfer-Encoding: Chunked` | shown in small letters | shown as it came | |
| a request that was not taken to its end, and no answer | ReadError or RemoteProtocolError | WriteError | it says what happened; see test_transport.py |
| a kept connection that turns out to be closed | the error | asked once more, where that is safe | see test_transport.py |
| the write timeout | for each part of the body | for each 256 KiB | a long body in one part may take its time |
| no certificates given | certifi's authorities | the system's | |
| the extensions `trace` and `sni_hostname`, and `network_stream` of the answer | | not there | |
"""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial

import httpx
import pytest
import trio
from calls.generated_answers import Generated, generate, outcome

from uait.calls.transport import TrioTransport

REFUSED = frozenset(
    {
        "HTTP/9.9",
        "a byte changed",
        "a chunk extension that is none",
        "a chunk that is none",
        "a header that is none",
        "a length that is none",
        "a second length",
        "a trailer that is none",
    }
)
"""What is wrong with an answer that we may refuse where httpx takes it."""

TAKEN = frozenset({"a byte changed", "a break before the status line"})
"""What is wrong with an answer that we may take where httpx refuses it."""

TIMES = dict.fromkeys(("connect", "read", "write", "pool"), 20.0)


async def differences(seed: int, count: int) -> list[str]:
    """Ask both transports for `count` answers, and tell where they differ."""
    source, found = random.Random(seed), []
    current: Generated

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some()
            with suppress(trio.BrokenResourceError):  # whoever has heard enough leaves
                for part in current.parts:
                    await stream.send_all(part)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = httpx.URL(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/")
        ours, theirs = TrioTransport(), httpx.AsyncHTTPTransport(trust_env=False)
        async with ours, theirs:
            for _ in range(count):
                current = generate(source)
                request = partial(httpx.Request, current.method, url, extensions={"timeout": TIMES})
                expected, seen = await outcome(theirs, request()), await outcome(ours, request())
                if expected != seen and not is_meant(current, expected, seen):
                    found.append(f"{current}\n  httpx: {expected}\n  ours:  {seen}")
        nursery.cancel_scope.cancel(reason="all answers are given")
    return found


def is_meant(answer: Generated, expected: tuple[object, ...], seen: tuple[object, ...]) -> bool:
    if len(seen) == 1 and len(expected) > 1:
        return seen == ("RemoteProtocolError",) and bool(answer.flaws & REFUSED)
    return len(seen) > 1 and len(expected) == 1 and bool(answer.flaws & TAKEN)


@pytest.mark.parametrize("seed", range(2))
async def test_the_same_comes_of_the_same_answer(seed: int) -> None:
    assert await differences(seed, 200) == []


@pytest.mark.hostile
@pytest.mark.shared
@pytest.mark.parametrize("seed", range(100, 104))
async def test_the_same_comes_of_thousands(seed: int) -> None:
    assert await differences(seed, 2000) == []
