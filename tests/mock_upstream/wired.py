"""The scenarios of the native dialects: one function for all of them, under the names that Chat Completions' have in `scenarios.py`."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, TypeAlias

import trio

from mock_upstream.scenarios import TEXT, Body, Options
from mock_upstream.wires import Call, Gemini, Ollama, Wire

if TYPE_CHECKING:
    from mock_upstream.server import Connection

Wired: TypeAlias = "Callable[[Connection, Wire, Body, Options, bool], Awaitable[None]]"

WIRED: dict[str, Wired] = {}
CALLS = (
    Call("call_a", "weather", ('{"city"', ': "Oslo"}')),
    Call("call_b", "time", ('{"zone": ', '"CET"}')),
)


def wired(function: Wired) -> Wired:
    WIRED[function.__name__.replace("_", "-")] = function
    return function


def words(w: Wire, text: str = TEXT) -> list[bytes]:
    return [w.text(word) for word in text.replace(" ", "\x00 ").split("\x00")]


def good(w: Wire, text: str = TEXT) -> bytes:
    return w.begin() + b"".join(words(w, text)) + w.finish() + w.done()


async def _stream(c: Connection, w: Wire, *pieces: bytes, end: bool = True) -> None:
    await c.start({"content-type": w.media_type})
    for piece in pieces:
        await c.data(piece)
    if end:
        await c.end()
    else:
        c.cut()


@wired
async def tokens(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    """A good answer of `count` tokens, `delay` seconds apart."""
    count, delay = int(options.get("count", 5)), float(options.get("delay", 0))
    if not streaming:
        await trio.sleep(delay * count)
        await c.json(200, w.whole("".join(f"tok{n} " for n in range(count))))
        return
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() or w.ping())
    for n in range(count):
        await c.data(w.text(f"tok{n} "))
        await trio.sleep(delay)
    await c.data(w.finish() + w.done())
    await c.end()


@wired
async def whole(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    """A good answer; `reason` it ended for."""
    reason = options.get("reason", "stop")
    if streaming:
        await _stream(c, w, w.begin(), *words(w), w.finish(reason) + w.done())
    else:
        await c.json(200, w.whole(TEXT, reason=reason))


@wired
async def cut_after_headers(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 1
    await _stream(c, w, end=False)


@wired
async def cut_after_role(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 2
    await _stream(c, w, w.begin() or w.ping(), end=False)


@wired
async def cut_mid_content(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 3
    if streaming:
        await _stream(c, w, w.begin(), *words(w)[:3], end=False)
    else:
        data = json.dumps(w.whole(TEXT)).encode()
        await c.start({"content-type": "application/json"})
        await c.data(data[: len(data) // 2])
        c.cut()


@wired
async def reset_mid_content(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 3
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() + words(w)[0])
    await trio.sleep(0.05)
    c.reset()


@wired
async def end_mid_content(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 3
    await _stream(c, w, w.begin(), *words(w)[:3])


@wired
async def finish_then_cut(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 4
    """Everything is said, and the connection ends in a disorderly way."""
    await _stream(c, w, good(w), end=False)


@wired
async def finish_then_silence(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 4
    await c.start({"content-type": w.media_type})
    await c.data(good(w))
    await trio.sleep_forever()


@wired
async def last_line_unended(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    await _stream(c, w, good(w).rstrip(b"\n"))


@wired
async def error_frame_first(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 6
    if streaming:
        await _stream(c, w, w.error("The model is overloaded."))
    else:
        await c.json(200, w.error_body(w.status_overloaded, "The model is overloaded."))


@wired
async def error_frame_later(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 7
    await _stream(c, w, w.begin(), *words(w)[:2], w.error("The model is overloaded."))


@wired
async def http_error(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 8
    """`status`, and `body`: html, empty, or the dialect's own."""
    status = int(options.get("status", 502))
    shapes = {"html": b"<html>/srv/secret</html>", "empty": b""}
    own = json.dumps(w.error_body(status, "It is broken.")).encode()
    await c.whole(status, shapes.get(options.get("body", "own"), own), {"content-type": "text/html"})


@wired
async def rate_limited(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 9
    """`wait`: seconds, date, ms, google, daily, or absent."""
    wait = options.get("wait", "")
    headers = {
        "seconds": {"retry-after": "7"},
        "date": {"retry-after": formatdate(time.time() + 30, usegmt=True)},
        "ms": {"retry-after-ms": "2500"},
    }.get(wait, {})
    answer = w.error_body(429, "Slow down.")
    if wait == "google":
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        answer[0]["error"]["details"] = [{"@type": kind, "retryDelay": "46.5s"}]
    elif wait == "daily":
        violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"}
        kind = "type.googleapis.com/google.rpc.QuotaFailure"
        answer[0]["error"]["details"] = [{"@type": kind, "violations": [violation]}]
    await c.json(429, answer, headers)


@wired
async def limited_key(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    """Slow down, for the key `key`; the others are told their own name."""
    if c.key() == options["key"]:
        await c.json(429, w.error_body(429, "Slow down."), {"retry-after": "20"})
    elif streaming:
        await _stream(c, w, good(w, c.key()))
    else:
        await c.json(200, w.whole(c.key()))


@wired
async def overloaded(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 10
    await c.json(w.status_overloaded, w.error_body(w.status_overloaded, "Overloaded"))


@wired
async def silent(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    await trio.sleep_forever()


@wired
async def silent_after_headers(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 11
    await c.start({"content-type": w.media_type if streaming else "application/json"})
    await trio.sleep_forever()


@wired
async def stall(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 12
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() + words(w)[0])
    await trio.sleep_forever()


@wired
async def byte_per_segment(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 13
    await c.start({"content-type": w.media_type}, chunked=False)
    for byte in good(w, "Grüße 👋"):
        await c.data(bytes([byte]))
    await c.end()


@wired
async def one_segment(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 14
    await _stream(c, w, good(w, " ".join(["word"] * 500)))


@wired
async def split_utf8(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 15
    data = good(w).replace(b"Hello", "Grüße 👋 \u2028".encode())
    at = data.index("👋".encode()) + 2
    await c.start({"content-type": w.media_type})
    await c.data(data[:at])
    await trio.sleep(0.02)
    await c.data(data[at:])
    await c.end()


@wired
async def crlf(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 16
    data = good(w).replace(b"\n", b"\r\n")
    at = data.index(b"\r\n", 40) + 1
    await c.start({"content-type": w.media_type})
    await c.data(data[:at])
    await trio.sleep(0.02)
    await c.data(data[at:])
    await c.end()


@wired
async def pings(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 17
    """Signs of life only for `seconds`, then the answer."""
    await c.start({"content-type": w.media_type})
    for _ in range(int(float(options.get("seconds", 1)) / 0.05)):
        await c.data(w.ping())
        await trio.sleep(0.05)
    await c.data(good(w))
    await c.end()


@wired
async def no_usage(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    await _stream(c, w, w.begin(), *words(w), w.finish(usage=False) + w.done())


@wired
async def parallel_tools(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 19, 22
    if streaming:
        await _stream(c, w, w.begin(), w.thought("Hm."), w.calls(CALLS), w.finish("tool_calls") + w.done())
    else:
        await c.json(200, w.whole("", "Hm.", CALLS, "tool_calls"))


@wired
async def tool_args_empty(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 20
    calls = (Call("call_a", "now"),)
    if streaming:
        await _stream(c, w, w.begin(), w.calls(calls), w.finish("tool_calls") + w.done())
    else:
        await c.json(200, w.whole("", "", calls, "tool_calls"))


@wired
async def big_event(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 23
    await _stream(c, w, good(w, "x" * int(options.get("bytes", 1_000_000))))


@wired
async def flood(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 26
    """`count` tokens of `bytes` each, as fast as they are taken."""
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() or w.ping())
    for _ in range(int(options["count"])):
        await c.data(w.text("x" * int(options["bytes"])))
    await c.data(w.finish() + w.done())
    await c.end()


@wired
async def together(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 32
    """Begins at the same moment as the others of its `group`."""
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() or w.ping())
    await c.upstream.gather(options["group"])
    for word in words(w):
        await c.data(word)
        await trio.sleep(0.01)
    await c.data(w.finish() + w.done())
    await c.end()


@wired
async def sore_loser(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 33
    """Fails as soon as another one of its `group` has begun."""
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() or w.ping())
    await c.upstream.gather(options["group"])
    await trio.sleep(0.002)
    await c.data(w.error("Too late."))
    c.reset()


@wired
async def endless_event(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 23
    """An event that never ends."""
    await c.start({"content-type": w.media_type})
    await c.data(w.begin() or w.ping())
    while True:
        await c.data(b"data: " if not isinstance(w, Ollama) else b"{")
        await c.data(b"x" * 1_000_000)


@wired
async def gzipped(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 25
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    await c.start({"content-encoding": "gzip", "content-type": w.media_type})
    for piece in (w.begin(), *words(w), w.finish() + w.done()):
        await c.data((packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)) or b"")
    await c.data(packer.flush())
    await c.end()


@wired
async def ignores_stream(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    answer = w.whole(TEXT)
    await c.json(200, [answer] if isinstance(w, Gemini) else answer)


@wired
async def not_json(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    oops = b"{oops\n" if isinstance(w, Ollama) else b"data: {oops\n\n"
    await _stream(c, w, w.begin(), oops, w.finish() + w.done())


@wired
async def reasoning(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:
    if streaming:
        await _stream(c, w, w.begin(), w.thought("Let me "), w.thought("think. "), *words(w), w.finish() + w.done())
    else:
        await c.json(200, w.whole(TEXT, "Let me think. "))


@wired
async def close_idle(c: Connection, w: Wire, body: Body, options: Options, streaming: bool) -> None:  # 36
    """Answers well, and resets the connection when the next question arrives on it."""
    c.close_on_next = True
    if streaming:
        await _stream(c, w, good(w))
    else:
        await c.json(200, w.whole(TEXT))
