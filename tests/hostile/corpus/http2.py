"""HTTP/2: in plain text, where it is not spoken, and over TLS."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import hpack
from hostile.corpus.case import Case, Pause, Read, Reset
from wire import request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def http2_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


START = PREFACE + http2_frame(4, 0, 0)


def http2_in_plain_text(get: str) -> Iterator[Case]:
    """HTTP/2 is not spoken in plain text: its preface is answered in HTTP/1.1, and an upgrade to it ignored."""
    for name, steps in (
        ("the preface of HTTP/2", (PREFACE,)),
        ("the preface of HTTP/2 and frames", (START, Pause(), http2_frame(6, 0, 0, b"\0" * 8) * 100)),
        ("half a preface of HTTP/2", (PREFACE[:12], Pause(), PREFACE[12:])),
    ):
        yield Case(name, (*steps, Read()), (400, 505), quick=name == "the preface of HTTP/2")
    for name, settings in (
        ("an upgrade to h2c", "AAMAAABkAAQAAP__"),
        ("an upgrade to h2c with odd settings", "AAMAAABkAAQ"),
        ("an upgrade to h2c with settings that are none", "\xff=="),
    ):
        lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", f"HTTP2-Settings: {settings}")
        yield Case(name, (request(get, *lines), Pause(), START, Read(0.5)), None, quick=name.endswith("odd settings"))


def http2_corpus(*, get: str = "/", post: str = "/echo", websocket: str = "/ws") -> tuple[Case, ...]:
    """Cases for a TLS connection on which HTTP/2 was agreed on."""
    encode = hpack.Encoder

    def headers(path: str | bytes, method: str = "GET", *more: tuple[str, str]) -> bytes:
        raw = path if isinstance(path, bytes) else path.encode()
        fields = [(b":method", method.encode()), (b":scheme", b"https"), (b":path", raw), (b":authority", b"a")]
        return bytes(encode().encode([*fields, *more]))

    def opened(*more: tuple[str, str]) -> bytes:
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", websocket)]
        fields += [(":authority", "a"), ("sec-websocket-version", "13"), *more]
        return bytes(encode().encode(fields))

    def f(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
        return http2_frame(kind, flags, stream_id, payload)

    plain = bytes(encode().encode([(":method", "CONNECT"), (":authority", "x")]))
    getting, posting = headers(get), headers(post, "POST")
    ask, upload = f(1, 5, 1, getting), f(1, 4, 1, posting)
    priority = struct.pack
    cases = [
        ("no preface", (b"\0" * 100,)),
        ("HTTP/1.1", (request(get),)),
        ("a path above ASCII", (START, f(1, 5, 1, headers(b"/\xff\xfe")))),
        ("an empty path", (START, f(1, 5, 1, headers(b"")))),
        ("a plain CONNECT", (START, f(1, 5, 1, plain))),
        ("CONNECT with a body", (START, f(1, 4, 1, plain), f(0, 0, 1, b"abc"))),
        ("late data", (START, upload, f(0, 1, 1, b""), Pause(), f(0, 0, 1, b"abc") * 3)),
        ("late data on a closed stream", (START, ask, Pause(), f(0, 0, 1, b"abc") * 3)),
        ("a WebSocket, a close, late data", (START, f(1, 4, 1, opened()), Pause(), f(0, 0, 1, b"\x88\x80\0\0\0\0"), Pause(), f(0, 0, 1, b"abc") * 2)),
        ("a WebSocket with data at once", (START, f(1, 4, 1, opened()) + f(0, 0, 1, b"abc"))),
        ("a WebSocket with a protocol above ASCII", (START, f(1, 4, 1, opened(("sec-websocket-protocol", "\xff"))))),
        ("a WebSocket that just ends", (START, f(1, 4, 1, opened()), Pause(), f(0, 1, 1))),
        ("a flood of priorities", (START, b"".join(f(2, 0, 2 * i + 1, priority(">IB", 0, 10)) for i in range(1100)))),
        ("a stream that depends on itself", (START, f(2, 0, 1, priority(">IB", 1, 10)))),
        ("priorities in a ring", (START, f(2, 0, 1, priority(">IB", 3, 1)), f(2, 0, 3, priority(">IB", 5, 1)), f(2, 0, 5, priority(">IB", 1, 1)), f(1, 5, 5, headers(get)))),
        ("a window that overflows", (START, ask, f(8, 0, 1, priority(">I", 2**31 - 1)) * 2)),
        ("a connection window that overflows", (START, f(8, 0, 0, priority(">I", 2**31 - 1)) * 2)),
        ("a window of nothing", (START, f(8, 0, 0, priority(">I", 0)))),
        ("GOAWAY and data", (START, upload, f(7, 0, 0, b"\0" * 8), f(0, 1, 1, b"abc"))),
        ("settings, a thousand times", (START, f(4, 0, 0, priority(">HI", 4, 100)) * 1000)),
        ("settings of odd length", (START, f(4, 0, 0, b"\0" * 5))),
        ("a window of 4 GB in the settings", (START, f(4, 0, 0, priority(">HI", 4, 2**32 - 1)))),
        ("pings, a thousand times, never read", (START, f(6, 0, 0, b"12345678") * 1000, Reset())),
        ("empty data, a thousand times", (START, upload, f(0, 0, 1) * 1000)),
        ("an even stream", (START, f(1, 5, 2, headers(get)))),
        ("a stream of the past", (START, f(1, 5, 5, headers(get)), f(1, 5, 3, headers(get)))),
        ("data before anything", (START, f(0, 0, 1, b"abc"))),
        ("data for the connection", (START, f(0, 0, 0, b"abc"))),
        ("padding longer than the frame", (START, upload, f(0, 8, 1, b"\xffabc"))),
        ("a frame of 16 MB", (START, http2_frame(0, 0, 1, b"x" * 100_000, length=2**24 - 1))),
        ("unknown frames", (START, f(99, 255, 7, b"x" * 100) * 100, ask)),
        ("a continuation of nothing", (START, f(9, 4, 1, b"x"))),
        ("continuations without end", (START, f(1, 0, 1, headers(get)), f(9, 0, 1, b"x" * 1000) * 1000)),
        ("headers cut off", (START, f(1, 5, 1, headers(get)[:5]))),
        ("headers that are none", (START, f(1, 5, 1, b"\xff" * 50))),
        ("200 KB of headers", (START, f(1, 1, 1, headers(get)), f(9, 0, 1, headers(get, "GET", ("x", "y" * 10_000))) * 20)),
        ("5000 headers", (START, f(1, 5, 1, headers(get, "GET", *[("x", "y")] * 5000)))),
        ("a header in capitals", (START, f(1, 5, 1, headers(get, "GET", ("X", "y"))))),
        ("a connection header", (START, f(1, 5, 1, headers(get, "GET", ("connection", "close"))))),
        ("a length that is a lie", (START, f(1, 4, 1, headers(post, "POST", ("content-length", "5"))), f(0, 1, 1, b"abc"))),
        ("more streams than allowed", (START, b"".join(f(1, 4, 2 * i + 1, posting) for i in range(150)))),
        ("rapid resets", (START, b"".join(f(1, 5, 2 * i + 1, getting) + f(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(500)))),
        ("a push from the client", (START, f(5, 4, 1, b"\0\0\0\x02" + headers(get)))),
        ("half a frame and a reset", (START, ask[:12], Reset())),
        ("a request and a reset", (START, ask, Reset())),
        ("an upload and a reset", (START, upload, f(0, 0, 1, b"abc"), Pause(), Reset())),
    ]  # fmt: skip
    return tuple(Case(name, (*steps, Read(0.3))) for name, steps in cases)
