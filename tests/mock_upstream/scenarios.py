"""What the mock model server can answer: each function is one model's name, with hyphens. The numbers are those of WIRE 8.8."""

from __future__ import annotations

import base64
import json
import struct
import time
import zlib
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

if TYPE_CHECKING:
    from mock_upstream.server import Connection

Body: TypeAlias = dict[str, Any]
Options: TypeAlias = dict[str, str]
Scenario: TypeAlias = "Callable[[Connection, Body, Options], Awaitable[None]]"

SCENARIOS: dict[str, Scenario] = {}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
TEXT = "Hello from the mock model."
DONE = b"data: [DONE]\n\n"

_rendered: dict[tuple[int, bool, bool], bytes] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


def frame(delta: Body | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock", "choices": choices}
    return b"data: " + json.dumps(value | more).encode() + b"\n\n"


def completion(message: Body, finish: str = "stop", **more: Any) -> Body:
    """An answer in one piece."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock", "choices": [choice]}
    return value | {"usage": USAGE} | more


ROLE = frame({"role": "assistant", "content": ""})
STOP = frame({}, "stop")
USED = frame(None, usage=USAGE)


def words(text: str = TEXT) -> list[bytes]:
    return [frame({"content": word}) for word in text.replace(" ", "\x00 ").split("\x00")]


def good(text: str = TEXT) -> bytes:
    return ROLE + b"".join(words(text)) + STOP + USED + DONE


async def embed(c: Connection, body: Body, options: Options) -> None:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    vectors: list[Any] = [[len(text), 0.5, -1.0] for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack("<3f", *vector)).decode() for vector in vectors]
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
    await c.json(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})


@scenario
async def tokens(c: Connection, body: Body, options: Options) -> None:
    """A good answer of `count` tokens, `delay` seconds apart, the first after `first` seconds."""
    count, delay = int(options.get("count", 5)), float(options.get("delay", 0))
    streaming = bool(body.get("stream"))
    used = bool((body.get("stream_options") or {}).get("include_usage"))
    usage = {"prompt_tokens": 11, "completion_tokens": count, "total_tokens": 11 + count}
    if streaming and delay:
        await c.start()
        await c.data(ROLE)
        await trio.sleep(float(options.get("first", 0)))
        for n in range(count):
            await c.data(frame({"content": f"tok{n} "}))
            await trio.sleep(delay)
        await c.data(STOP + (frame(None, usage=usage) if used else b"") + DONE)
        await c.end()
        return
    if delay:
        await trio.sleep(delay * count)
    key = (count, streaming, used)
    if key not in _rendered:
        from mock_upstream.server import render_head

        if streaming:
            frames = [ROLE, *(frame({"content": f"tok{n} "}) for n in range(count)), STOP]
            frames += [frame(None, usage=usage)] if used else []
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in [*frames, DONE])
            head = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
            _rendered[key] = render_head(200, head) + chunks + b"0\r\n\r\n"
        else:
            text = "".join(f"tok{n} " for n in range(count))
            answer = json.dumps(completion({"content": text}, usage=usage)).encode()
            head = {"content-type": "application/json", "content-length": str(len(answer))}
            _rendered[key] = render_head(200, head) + answer
    await c.send(_rendered[key])


async def _stream(c: Connection, *pieces: bytes, end: bool = True) -> None:
    await c.start()
    for piece in pieces:
        await c.data(piece)
    if end:
        await c.end()
    else:
        c.cut()


@scenario
async def echo(c: Connection, body: Body, options: Options) -> None:
    """The last message's text, or with `all` the whole conversation as JSON."""
    messages = body["messages"]
    text = json.dumps(messages) if "all" in options else str(messages[-1]["content"])
    if body.get("stream"):
        await _stream(c, good(text))
    else:
        await c.json(200, completion({"content": text}))


@scenario
async def cut_after_headers(c: Connection, body: Body, options: Options) -> None:  # 1
    await _stream(c, end=False)


@scenario
async def cut_after_role(c: Connection, body: Body, options: Options) -> None:  # 2
    await _stream(c, ROLE, end=False)


@scenario
async def cut_mid_content(c: Connection, body: Body, options: Options) -> None:  # 3
    await _stream(c, ROLE, *words()[:3], end=False)


@scenario
async def reset_mid_content(c: Connection, body: Body, options: Options) -> None:  # 3, with RST
    await c.start()
    await c.data(ROLE + words()[0])
    await trio.sleep(0.05)
    c.reset()


@scenario
async def end_mid_content(c: Connection, body: Body, options: Options) -> None:  # 3, orderly: as Ollama's /v1 does
    await _stream(c, ROLE, *words()[:3])


@scenario
async def finish_without_done(c: Connection, body: Body, options: Options) -> None:  # 4
    await _stream(c, ROLE, *words(), STOP)


@scenario
async def finish_then_cut(c: Connection, body: Body, options: Options) -> None:  # 4, without even an end
    await _stream(c, ROLE, *words(), STOP, end=False)


@scenario
async def finish_then_silence(c: Connection, body: Body, options: Options) -> None:  # 4, and the connection stays open
    await c.start()
    await c.data(ROLE + b"".join(words()) + STOP)
    await trio.sleep_forever()


@scenario
async def done_without_finish(c: Connection, body: Body, options: Options) -> None:  # 5
    await _stream(c, ROLE, *words(), DONE)


@scenario
async def late_end(c: Connection, body: Body, options: Options) -> None:
    """A good answer whose body ends a moment after `[DONE]`."""
    await c.start()
    await c.data(good())
    await trio.sleep(0.02)
    await c.end()


@scenario
async def done_without_newline(c: Connection, body: Body, options: Options) -> None:
    await _stream(c, ROLE, *words(), b"data: [DONE]")


ERROR = b'data: {"error": {"message": "The model is overloaded.", "type": "overloaded_error"}}\n\n'


@scenario
async def error_frame_first(c: Connection, body: Body, options: Options) -> None:  # 6
    if not body.get("stream"):
        await c.whole(200, ERROR.removeprefix(b"data: "), {"content-type": "application/json"})
        return
    await _stream(c, ERROR)


@scenario
async def error_frame_later(c: Connection, body: Body, options: Options) -> None:  # 7
    await _stream(c, ROLE, *words()[:2], ERROR, DONE)


@scenario
async def error_with_choices(c: Connection, body: Body, options: Options) -> None:  # 7, as OpenRouter does
    error = {"code": 429, "message": "Slow down."}
    await _stream(c, ROLE, words()[0], frame({"content": ""}, "error", error=error), DONE)


@scenario
async def error_bare(c: Connection, body: Body, options: Options) -> None:  # 7, not even an event, as Gemini does
    await _stream(c, ROLE, words()[0], b'{\n "error": {"code": 503,\n "message": "gone"}}\n')


@scenario
async def http_error(c: Connection, body: Body, options: Options) -> None:  # 8
    """`status`, and `body`: html, empty, text, json, detail, message."""
    shapes = {
        "html": b"<html><body>Bad gateway /srv/secret</body></html>",
        "empty": b"",
        "text": b"upstream connect error",
        "json": b'{"error": {"message": "It is broken.", "type": "api_error"}}',
        "string": b'{"error": "model not loaded"}',
        "detail": b'{"detail": [{"msg": "field required"}]}',
        "message": b'{"message": "no such thing"}',
        "quota": b'{"error": {"message": "Pay first.", "type": "insufficient_quota", "code": "insufficient_quota"}}',
        "key": b'{"error": {"message": "Incorrect API key provided: sk-abcdef", "code": "invalid_api_key"}}',
    }
    await c.whole(int(options.get("status", 502)), shapes[options.get("body", "html")], {"content-type": "text/html"})


@scenario
async def rate_limited(c: Connection, body: Body, options: Options) -> None:  # 9
    """`wait`: seconds, date, ms, or absent."""
    headers = {
        "seconds": {"retry-after": "7"},
        "date": {"retry-after": formatdate(time.time() + 30, usegmt=True)},
        "ms": {"retry-after-ms": "2500"},
        "nonsense": {"retry-after": "soon"},
    }.get(options.get("wait", ""), {})
    await c.json(429, {"error": {"message": "Slow down.", "type": "rate_limit_error"}}, headers)


@scenario
async def limited_key(c: Connection, body: Body, options: Options) -> None:
    """Slow down, for the key `key`; the others are told their own name."""
    if c.key() == options["key"]:
        error = {"message": "Slow down.", "type": "rate_limit_error"}
        await c.json(429, {"error": error}, {"retry-after": "20"})
    elif body.get("stream"):
        await _stream(c, good(c.key()))
    else:
        await c.json(200, completion({"content": c.key()}))


@scenario
async def too_long(c: Connection, body: Body, options: Options) -> None:
    said = "This model's maximum context length is 4096 tokens."
    await c.json(400, {"error": {"message": said, "type": "invalid_request_error", "code": "context_length_exceeded"}})


@scenario
async def overloaded(c: Connection, body: Body, options: Options) -> None:  # 10
    await c.json(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})


@scenario
async def silent(c: Connection, body: Body, options: Options) -> None:
    await trio.sleep_forever()


@scenario
async def silent_after_headers(c: Connection, body: Body, options: Options) -> None:  # 11
    await c.start()
    await trio.sleep_forever()


@scenario
async def stall(c: Connection, body: Body, options: Options) -> None:  # 12
    await c.start()
    await c.data(ROLE + words()[0])
    await trio.sleep_forever()


@scenario
async def byte_per_segment(c: Connection, body: Body, options: Options) -> None:  # 13
    await c.start(chunked=False)
    for byte in good("Grüße 👋"):
        await c.data(bytes([byte]))
    await c.end()


@scenario
async def one_segment(c: Connection, body: Body, options: Options) -> None:  # 14
    await _stream(c, good(" ".join(["word"] * 500)))


@scenario
async def split_utf8(c: Connection, body: Body, options: Options) -> None:  # 15
    data = good().replace(b"Hello", "Grüße 👋 \u2028".encode())
    at = data.index("👋".encode()) + 2
    await c.start()
    await c.data(data[:at])
    await trio.sleep(0.02)
    await c.data(data[at:])
    await c.end()


@scenario
async def crlf(c: Connection, body: Body, options: Options) -> None:  # 16
    data = good().replace(b"\n", b"\r\n")
    at = data.index(b"\r\n", 40) + 1
    await c.start()
    await c.data(data[:at])
    await trio.sleep(0.02)
    await c.data(data[at:])
    await c.end()


@scenario
async def pings(c: Connection, body: Body, options: Options) -> None:  # 17
    """Comments only for `seconds`, then the answer; with `forever` no answer."""
    await c.start()
    for _ in range(int(float(options.get("seconds", 1)) / 0.05)):
        await c.data(b": OPENROUTER PROCESSING\n\n")
        await trio.sleep(0.05)
    await c.data(good())
    await c.end()


@scenario
async def usage_everywhere(c: Connection, body: Body, options: Options) -> None:  # 18 and its relatives
    frames = [frame({"content": word}, usage={**USAGE, "completion_tokens": n}) for n, word in enumerate("abc")]
    await _stream(c, ROLE, *frames, frame({}, "stop", usage=USAGE), DONE)


@scenario
async def no_usage(c: Connection, body: Body, options: Options) -> None:
    await _stream(c, ROLE, *words(), STOP, DONE)


def call(index: int | None, id: str | None, name: str | None, arguments: Any) -> Body:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    value: Body = {"function": function}
    if index is not None:
        value["index"] = index
    if id is not None:
        value |= {"id": id, "type": "function"}
    return value


def tools(*fragments: Body, finish: str = "tool_calls") -> bytes:
    return ROLE + b"".join(frame({"tool_calls": [one]}) for one in fragments) + frame({}, finish) + USED + DONE


@scenario
async def parallel_tools(c: Connection, body: Body, options: Options) -> None:  # 19
    if not body.get("stream"):
        calls = [call(None, "call_a", "weather", '{"city": "Oslo"}'), call(None, "call_b", "time", '{"zone": "CET"}')]
        await c.json(200, completion({"content": None, "tool_calls": calls}, "tool_calls"))
        return
    fragments = [
        call(0, "call_a", "weather", ""),
        call(1, "call_b", "time", ""),
        call(0, None, None, '{"city"'),
        call(1, None, None, '{"zone": '),
        call(0, None, None, ': "Oslo"}'),
        call(1, None, None, '"CET"}'),
    ]
    await _stream(c, tools(*fragments))


@scenario
async def tool_args_empty(c: Connection, body: Body, options: Options) -> None:  # 20
    if not body.get("stream"):
        await c.json(200, completion({"content": None, "tool_calls": [call(None, "call_a", "now", "")]}, "tool_calls"))
        return
    await _stream(c, tools(call(0, "call_a", "now", "")))


@scenario
async def tool_args_object(c: Connection, body: Body, options: Options) -> None:  # 21
    if not body.get("stream"):
        calls = [call(None, "call_a", "weather", {"city": "Oslo"})]
        await c.json(200, completion({"content": None, "tool_calls": calls}, "tool_calls"))
        return
    await _stream(c, tools(call(0, "call_a", "weather", {"city": "Oslo"})))


@scenario
async def tools_finish_stop(c: Connection, body: Body, options: Options) -> None:  # 22
    if not body.get("stream"):
        await c.json(200, completion({"content": None, "tool_calls": [call(None, "call_a", "now", "{}")]}))
        return
    await _stream(c, tools(call(0, "call_a", "now", "{}"), finish="stop"))


@scenario
async def tools_all_zero(c: Connection, body: Body, options: Options) -> None:
    """Two calls, both numbered 0 (`ids`), without index (`unnumbered`), or with nothing at all but names."""
    first, second = ("call_a", "call_b") if "ids" in options or "unnumbered" in options else (None, None)
    index = None if "unnumbered" in options else 0
    await _stream(c, tools(call(index, first, "weather", '{"a": 1}'), call(index, second, "time", '{"b": 2}')))


@scenario
async def big_event(c: Connection, body: Body, options: Options) -> None:  # 23
    await _stream(c, good("x" * int(options.get("bytes", 1_000_000))))


@scenario
async def flood(c: Connection, body: Body, options: Options) -> None:  # 26
    """`count` tokens of `bytes` each, as fast as they are taken."""
    await c.start()
    await c.data(ROLE)
    data = frame({"content": "x" * int(options["bytes"])})
    for _ in range(int(options["count"])):
        await c.data(data)
    await c.data(STOP + DONE)
    await c.end()


@scenario
async def together(c: Connection, body: Body, options: Options) -> None:  # 32
    """Begins at the same moment as the others of its `group`."""
    await c.start()
    await c.data(ROLE)
    await c.upstream.gather(options["group"])
    for word in words():
        await c.data(word)
        await trio.sleep(0.01)
    await c.data(STOP + DONE)
    await c.end()


@scenario
async def sore_loser(c: Connection, body: Body, options: Options) -> None:  # 33
    """Fails as soon as another one of its `group` has begun."""
    await c.start()
    await c.data(ROLE)
    await c.upstream.gather(options["group"])
    await trio.sleep(0.002)
    await c.data(ERROR)
    c.reset()


@scenario
async def gzipped(c: Connection, body: Body, options: Options) -> None:  # 25
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    await c.start({"content-encoding": options.get("encoding", "gzip")})
    for piece in (ROLE, *words(), STOP, DONE):
        await c.data(packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH))
    await c.data(packer.flush())
    await c.end()


@scenario
async def ignores_stream(c: Connection, body: Body, options: Options) -> None:
    await c.json(200, completion({"content": TEXT}))


@scenario
async def error_200(c: Connection, body: Body, options: Options) -> None:
    await c.json(200, {"error": {"message": "No capacity.", "code": 503}})


@scenario
async def no_choices(c: Connection, body: Body, options: Options) -> None:
    await c.json(200, completion({}) | {"choices": []})


@scenario
async def not_json(c: Connection, body: Body, options: Options) -> None:
    await _stream(c, ROLE, b"data: {oops\n\n", DONE)


@scenario
async def reasoning(c: Connection, body: Body, options: Options) -> None:
    """`field`: reasoning_content or reasoning; the content as a list."""
    thought = frame({options.get("field", "reasoning_content"): "Let me think. "})
    await _stream(c, ROLE, thought, frame({"content": [{"type": "text", "text": TEXT}]}), STOP, USED, DONE)


@scenario
async def close_idle(c: Connection, body: Body, options: Options) -> None:  # 36
    """Answers well, and resets the connection when the next question arrives on it."""
    c.close_on_next = True
    if body.get("stream"):
        await _stream(c, good())
    else:
        await c.json(200, completion({"content": TEXT}))
