"""What no honest client would send, as data, to be played against anything that speaks HTTP/1.1 and WebSockets in plain text.

    for case in corpus(websocket="/ws"):
        async with dial(port) as wire:
            await play(case, wire)
        ...  # and then an ordinary request on a new connection must be answered

A case is a name and what the client does: bytes are sent, `Step`s are done. `expect` are the statuses that the first answer may have, 0 standing for an end without an answer; None claims nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TypeAlias

import attrs
import hpack
import trio
from wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, Wire, close_frame, frame, handshake, request


@attrs.frozen
class Pause:
    """Wait, so that what follows comes in a segment of its own."""

    seconds: float = 0.05


@attrs.frozen
class Drip:
    """Send byte by byte."""

    data: bytes
    pause: float = 0.002


@attrs.frozen
class Upgrade:
    """Do a WebSocket's handshake and wait for the answer."""

    path: str
    headers: tuple[str, ...] = ()


@attrs.frozen
class HalfClose:
    """Say that nothing follows."""


@attrs.frozen
class Reset:
    """End the connection with a TCP reset."""


@attrs.frozen
class Read:
    """Take in what comes, for so long or to the end of the connection."""

    seconds: float = 1.0


@attrs.frozen
class ReadSome:
    """Take in what has come."""


Step: TypeAlias = bytes | Pause | Drip | Upgrade | HalfClose | Reset | Read | ReadSome


@attrs.frozen
class Case:
    """One client.

    Attributes:
        quick: belongs to the subset that every run of the tests plays.
    """

    name: str
    steps: tuple[Step, ...]
    expect: tuple[int, ...] | None = None
    quick: bool = False

    def __str__(self) -> str:
        return self.name


async def play(case: Case, wire: Wire) -> bytes:
    """Do what the case says. Returns what the server sent; a server that ends the connection in between is within its rights."""
    received = bytearray()
    try:
        for step in case.steps:
            await _do(step, wire, received)
    except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
        pass
    received += wire.buffer
    return bytes(received)


async def _do(step: Step, wire: Wire, received: bytearray) -> None:
    match step:
        case bytes():
            with trio.move_on_after(5):  # a server that does not read any more is within its rights, too
                await wire.send(step)
        case Pause():
            await trio.sleep(step.seconds)
        case Drip():
            for byte in step.data:
                await wire.send(bytes([byte]))
                await trio.sleep(step.pause)
        case Upgrade():
            await wire.send(handshake(step.path, *step.headers))
            received += await wire.until(b"\r\n\r\n") + b"\r\n\r\n"
        case HalfClose():
            await wire.half_close()
        case Reset():
            wire.reset()
        case Read():
            with trio.move_on_after(step.seconds):
                received += await wire.rest()
        case ReadSome():
            received += await wire.stream.receive_some()


def statuses(received: bytes) -> list[int]:
    """The statuses of the answers in `received`; none where nothing was answered."""
    return [
        int(line.split(b" ")[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.") and b" " in line
    ]


def head(*lines: str | bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    """A request's head with exactly these lines."""
    raw = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([first, *([b"Host: localhost"] if host else []), *raw]) + b"\r\n\r\n"


REFUSED = (400,)
CHUNKED = "Transfer-Encoding: chunked"


def corpus(*, get: str = "/", post: str = "/echo", websocket: str | None = "/ws") -> tuple[Case, ...]:
    """All cases.

    Args:
        get: a path that answers to GET.
        post: a path that reads a POST's body.
        websocket: a path that accepts WebSockets, or None where there is none.
    """
    cases = [*_heads(get), *_framing(post), *_lives(get, post), *_http2(get), *_handshakes(websocket or "/ws")]
    if websocket is not None:
        cases += _websockets(websocket)
    assert len({case.name for case in cases}) == len(cases)
    return tuple(cases)


def _heads(get: str) -> Iterator[Case]:
    path = get.encode()
    for name, data, expect in (
        ("noise", bytes(range(256)) * 4, REFUSED),
        ("a lot of noise", b"\xff\x00\xfe" * 100_000, (400, 431)),
        ("letters without end", b"A" * 300_000, (400, 431)),
        ("TLS on a plain port", bytes.fromhex("160301020001 0001fc0303") + b"\0" * 512, REFUSED),
        ("HTTP/0.9", b"GET " + path + b"\r\n\r\n", REFUSED),
        ("a method alone", b"GET\r\n\r\n", REFUSED),
        ("HTTP/9.9", b"GET " + path + b" HTTP/9.9\r\nHost: a\r\n\r\n", (505,)),
        ("HTTP/2.0 without its preface", b"GET " + path + b" HTTP/2.0\r\nHost: a\r\n\r\n", (505,)),
        ("http in small letters", b"GET " + path + b" http/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a version of three digits", b"GET " + path + b" HTTP/1.10\r\nHost: a\r\n\r\n", REFUSED),
        ("no version digit", b"GET " + path + b" HTTP/1.\r\nHost: a\r\n\r\n", REFUSED),
        ("a method that is no token", b"G@T " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a NUL in the method", b"G\0T " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("two spaces", b"GET  " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a space before everything", b" GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("tabs for spaces", b"GET\t" + path + b"\tHTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a space after the version", b"GET " + path + b" HTTP/1.1 \r\nHost: a\r\n\r\n", REFUSED),
        ("carriage returns alone", b"GET " + path + b" HTTP/1.1\rHost: a\r\r", None),
        ("line feeds alone", b"GET " + path + b" HTTP/1.1\nHost: a\n\n", None),
        ("an endless first line", b"GET /" + b"a" * 300_000, (431,)),
        ("an endless header", b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000, (431,)),
        ("headers without end", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 60_000, (431,)),
    ):
        yield Case(name, (data, Read()), expect, quick=name in {"noise", "HTTP/0.9", "an endless header"})
    for name, lines, expect in (
        ("200 KB of one header", ["X: " + "a" * 200_000], (431,)),
        ("10000 headers", ["X: y"] * 10_000, (431,)),
        ("two hosts", ["Host: other"], REFUSED),
        ("a space before the colon", ["X : y"], REFUSED),
        ("a space before the name", [" X: y"], None),
        ("a fold", ["X: a", " b"], None),
        ("a fold first", [" b"], None),
        ("no name", [": y"], REFUSED),
        ("no colon", ["nonsense"], REFUSED),
        ("a name that is no token", ["X(y): z"], REFUSED),
        ("a NUL in a name", ["X\0: y"], REFUSED),
        ("a NUL in a value", ["X: a\0b"], REFUSED),
        ("a carriage return in a value", ["X: a\rb"], REFUSED),
        ("a request hidden in a value", ["X: a\rGET /hidden HTTP/1.1"], REFUSED),
        ("control characters in a value", ["X: \x01\x02\x7f"], None),
        ("bytes above ASCII in a value", ["X: \xff\xfe\x80"], None),
        ("bytes above ASCII in a name", ["X\xff: y"], REFUSED),
        ("an upgrade to nonsense", ["Connection: upgrade", "Upgrade: \xff, foo/2"], None),
        ("an expectation that nobody knows", ["Expect: nonsense"], None),
    ):
        yield Case(name, (head(*lines), Read(0.5)), expect, quick=name in {"two hosts", "a NUL in a value"})
    for name, host in (
        ("a space in the host", "a b"),
        ("a path in the host", "a/b"),
        ("a user in the host", "user@a"),
        ("half an IPv6 host", "[::1"),
        ("bytes above ASCII in the host", "\xff"),
    ):
        yield Case(name, (head(f"Host: {host}", host=False), Read()), REFUSED)
    yield Case("no host", (head(host=False), Read()), REFUSED, quick=True)
    for name, target, expect in (
        ("half an IPv6 address as target", b"http://[::1", REFUSED),
        ("a URL with a user as target", b"http://user@test/", REFUSED),
        ("a URL without host as target", b"http://", REFUSED),
        ("another scheme as target", b"gopher://test/", REFUSED),
        ("a fragment", path + b"#x", REFUSED),
        ("no slash", b"nowhere", REFUSED),
        ("an asterisk", b"*", REFUSED),
        ("bytes above ASCII in the path", b"/\xff\xfe", REFUSED),
        ("a NUL in the path", b"/\0", REFUSED),
        ("escaped nonsense in the path", b"/%00%ff%zz%", None),
        ("a way up", b"/../../../../etc/passwd", None),
        ("a path of slashes", b"/" * 5000, None),
        ("a query of ampersands", path + b"?" + b"&" * 5000, None),
        ("a path of 200 KB", b"/" + b"a" * 200_000, (431,)),
    ):
        steps = (head(first=b"GET " + target + b" HTTP/1.1"), Read(0.5))
        yield Case(name, steps, expect, quick=name == "half an IPv6 address as target")
    yield Case("CONNECT", (head(first=b"CONNECT a:1 HTTP/1.1"), b"tunnelled", Read()), (405,), quick=True)
    yield Case("CONNECT to a path", (head(first=b"CONNECT / HTTP/1.1"), Read()), (405,))
    yield Case("OPTIONS of everything", (head(first=b"OPTIONS * HTTP/1.1"), Read(0.5)), None)
    yield Case("TRACE", (head("X: secret", first=b"TRACE / HTTP/1.1"), Read(0.5)), None)
    yield Case("a method of 50 KB", (head(first=b"A" * 50_000 + b" / HTTP/1.1"), Read(0.5)), None)


def _framing(post: str) -> Iterator[Case]:
    first = b"POST " + post.encode() + b" HTTP/1.1"

    def body(*lines: str | bytes, data: bytes = b"abcde") -> bytes:
        return head(*lines, first=first) + data

    for name, value in (
        ("a negative length", "-5"),
        ("a length with a plus", "+5"),
        ("a hexadecimal length", "0x5"),
        ("a length with an exponent", "1e1"),
        ("a length of two numbers", "5 5"),
        ("two lengths in one header", "5, 6"),
        ("no length", ""),
        ("a length in words", "five"),
        ("a length of 40 digits", "9" * 40),
        ("a length in other digits", "\u00b2"),
    ):
        yield Case(name, (body(f"Content-Length: {value}"), Read()), REFUSED, quick=name == "a negative length")
    yield Case("two lengths", (body("Content-Length: 5", "Content-Length: 6"), Read()), REFUSED, quick=True)
    yield Case("the same length twice", (body("Content-Length: 5", "Content-Length: 5"), Read(0.5)), None)
    yield Case(
        "a length and chunks",
        (body("Content-Length: 5", CHUNKED, data=b"0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n"), Read()),
        REFUSED,
        quick=True,
    )
    yield Case("chunks and a length", (body(CHUNKED, "Content-Length: 5", data=b"0\r\n\r\n"), Read()), REFUSED)
    for name, lines in (
        ("an unknown coding", ["Transfer-Encoding: gzip"]),
        ("an unknown coding before chunks", ["Transfer-Encoding: gzip, chunked"]),
        ("chunks twice", [CHUNKED, CHUNKED]),
        ("almost chunks", ["Transfer-Encoding: xchunked"]),
        ("chunks with a tail", ["Transfer-Encoding: chunked, identity"]),
        ("quoted chunks", ['Transfer-Encoding: "chunked"']),
        ("a control character after chunks", ["Transfer-Encoding: chunked\x0b"]),
        ("a space before the colon of chunks", ["Transfer-Encoding : chunked"]),
        ("chunks in a folded line", ["Transfer-Encoding:", " identity"]),
    ):
        yield Case(name, (body(*lines, data=b"0\r\n\r\n"), Read()), (400, 501))
    old = head(CHUNKED, first=b"POST " + post.encode() + b" HTTP/1.0")
    yield Case("chunks in HTTP/1.0", (old, b"0\r\n\r\n", Read()), REFUSED)
    for name, data in (
        ("a chunk size that is none", b"ZZ\r\n"),
        ("a negative chunk size", b"-1\r\n"),
        ("a chunk size with a prefix", b"0x5\r\nabcde\r\n"),
        ("a chunk size with a plus", b"+5\r\nabcde\r\n"),
        ("a chunk size of 30 digits", b"F" * 30 + b"\r\n"),
        ("a chunk longer than it says", b"3\r\nabcdef\r\n0\r\n\r\n"),
        ("a chunk ended by a line feed", b"3\nabc\r\n0\r\n\r\n"),
        ("a chunk extension of 1 MB", b"3;" + b"x" * 1_000_000 + b"\r\nabc\r\n0\r\n\r\n"),
        ("a trailer of 1 MB", b"3\r\nabc\r\n0\r\nX: " + b"y" * 1_000_000),
        ("a trailer that is no header", b"3\r\nabc\r\n0\r\nnonsense\r\n\r\n"),
        ("an empty chunk size", b"\r\nabc\r\n"),
    ):
        yield Case(
            name, (body(CHUNKED, data=b""), Pause(), data, Read()), None, quick=name == "a chunk size that is none"
        )
    for i in range(5):  # a race between the error and the app's answer
        yield Case(f"a bad chunk right behind the head, {i}", (body(CHUNKED, data=b"ZZ\r\n"), Read(0.2)), None)
    tiny = b"1\r\nx\r\n" * 20_000
    yield Case("20000 chunks of one byte", (body(CHUNKED, data=tiny + b"0\r\n\r\n"), Read()), None)
    yield Case("more than the length", (body("Content-Length: 2", data=b"abGARBAGE\r\n\r\n"), Read()), None)


def _lives(get: str, post: str) -> Iterator[Case]:
    ordinary = request(get)
    upload = request(post, "Content-Length: 10", method="POST")
    for name, steps in (
        ("nothing", ()),
        ("nothing and a reset", (Reset(),)),
        ("nothing and a half close", (HalfClose(), Read())),
        ("line ends alone", (b"\r\n" * 1000, Read(0.3))),
        ("half a head and a reset", (ordinary[:20], Pause(), Reset())),
        ("half a head and an end", (ordinary[:20], Pause())),
        ("half a head and a half close", (ordinary[:20], HalfClose(), Read())),
        ("a reset right after the head", (ordinary, Reset())),
        ("an end right after the head", (ordinary,)),
        ("a half close right after the head", (ordinary, HalfClose(), Read())),
        ("a reset in the body", (upload, b"abc", Pause(), Reset())),
        ("an end in the body", (upload, b"abc", Pause())),
        ("a half close in the body", (upload, b"abc", HalfClose(), Read())),
        ("a reset in a chunk", (request(post, CHUNKED, method="POST"), b"5\r\nab", Pause(), Reset())),
        ("an end in a chunk", (request(post, CHUNKED, method="POST"), b"5\r\nab", Pause())),
        ("a body that never comes", (upload, Pause(0.3))),
        ("100-continue and a reset", (request(post, "Expect: 100-continue", "Content-Length: 3", method="POST"), ReadSome(), Reset())),
        ("100-continue and nothing", (request(post, "Expect: 100-continue", "Content-Length: 3", method="POST"), Pause(0.3))),
        ("100-continue and half of it", (request(post, "Expect: 100-continue", "Content-Length: 3", method="POST"), ReadSome(), b"a")),
        ("20 pipelined requests and a reset", (ordinary * 20, Reset())),
        ("20 pipelined requests, one answer read, and a reset", (ordinary * 20, ReadSome(), Reset())),
        ("200 pipelined requests and a half close", (ordinary * 200, HalfClose(), Read())),
        ("2000 pipelined requests, never read", (ordinary * 2000, Pause(0.3), Reset())),
        ("pipelined requests with noise between", (ordinary + b"\0\xff\r\n\r\n" + ordinary, Read())),
        ("a pipelined half request", (ordinary + ordinary[:20], Pause(0.3))),
        ("10 requests and 300 KB of noise", (ordinary * 10, b"\xfe" * 300_000, Read())),
        ("a head that drips", (Drip(ordinary[:40]), Reset())),
        ("a body that drips", (upload, Drip(b"abcdefghi", 0.03), Reset())),
    ):  # fmt: skip
        quick = {"half a head and a reset", "a reset in the body", "20 pipelined requests and a reset"}
        yield Case(name, steps, None, quick=name in quick)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def http2_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """One frame (RFC 9113 section 4.1)."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


START = PREFACE + http2_frame(4, 0, 0)


def _http2(get: str) -> Iterator[Case]:
    """HTTP/2 is not spoken in plain text: its preface is answered in HTTP/1.1, and an upgrade to it ignored."""
    for name, steps in (
        ("the preface of HTTP/2", (PREFACE,)),
        ("the preface of HTTP/2 and frames", (START, Pause(), http2_frame(6, 0, 0, b"\0" * 8) * 100)),
        ("half a preface of HTTP/2", (PREFACE[:12], Pause(), PREFACE[12:])),
    ):
        yield Case(name, (*steps, Read()), (505,), quick=name == "the preface of HTTP/2")
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
    ask = f(1, 5, 1, headers(get))
    upload = f(1, 4, 1, headers(post, "POST"))
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
        ("200 KB of headers", (START, f(1, 1, 1, headers(get)), b"".join(f(9, 0, 1, headers(get, "GET", ("x", "y" * 10_000))) for _ in range(20)))),
        ("5000 headers", (START, f(1, 5, 1, headers(get, "GET", *[("x", "y")] * 5000)))),
        ("a header in capitals", (START, f(1, 5, 1, headers(get, "GET", ("X", "y"))))),
        ("a connection header", (START, f(1, 5, 1, headers(get, "GET", ("connection", "close"))))),
        ("a length that is a lie", (START, f(1, 4, 1, headers(post, "POST", ("content-length", "5"))), f(0, 1, 1, b"abc"))),
        ("more streams than allowed", (START, b"".join(f(1, 4, 2 * i + 1, headers(post, "POST")) for i in range(150)))),
        ("rapid resets", (START, b"".join(f(1, 5, 2 * i + 1, headers(get)) + f(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(500)))),
        ("a push from the client", (START, f(5, 4, 1, b"\0\0\0\x02" + headers(get)))),
        ("half a frame and a reset", (START, ask[:12], Reset())),
        ("a request and a reset", (START, ask, Reset())),
        ("an upload and a reset", (START, upload, f(0, 0, 1, b"abc"), Pause(), Reset())),
    ]  # fmt: skip
    return tuple(Case(name, (*steps, Read(0.3))) for name, steps in cases)


def _handshakes(path: str) -> Iterator[Case]:
    whole = handshake(path)
    for name, data, expect in (
        ("a WebSocket without key", whole.replace(b"Sec-WebSocket-Key", b"X-Key"), REFUSED),
        ("a WebSocket with a short key", handshake(path, key="c2hvcnQ="), REFUSED),
        ("a WebSocket with a key that is none", handshake(path, key="\xff"), REFUSED),
        ("a WebSocket of version 8", whole.replace(b"Version: 13", b"Version: 8"), (426,)),
        ("a WebSocket without version", whole.replace(b"Sec-WebSocket-Version", b"X-Version"), (426,)),
        ("a WebSocket by HTTP/1.0", whole.replace(b"HTTP/1.1", b"HTTP/1.0"), REFUSED),
        ("a WebSocket with a body", handshake(path, "Content-Length: 5") + b"abcde", REFUSED),
        ("a WebSocket with chunks", handshake(path, CHUNKED) + b"0\r\n\r\n", REFUSED),
        ("a WebSocket with a subprotocol that is none", handshake(path, "Sec-WebSocket-Protocol: \xff"), REFUSED),
        ("a WebSocket with extensions that are none", handshake(path, "Sec-WebSocket-Extensions: \xff"), REFUSED),
        ("a WebSocket by POST", whole.replace(b"GET", b"POST"), None),
        ("a WebSocket to nowhere", handshake("/nothing/here"), None),
    ):
        yield Case(name, (data, Read(0.5)), expect, quick=name == "a WebSocket without key")
    yield Case("a WebSocket and a byte behind its head", (whole + b"x", Read(0.5)), None, quick=True)
    yield Case("a WebSocket and frames behind its head", (whole + frame(TEXT, b"x") * 10, Read(0.5)), None)
    yield Case("a WebSocket and a second handshake", (whole + whole, Read(0.5)), None)
    yield Case("a WebSocket and a reset before the answer", (whole, Reset()), None)
    yield Case("a WebSocket and an end before the answer", (whole,), None)


def _websockets(path: str) -> Iterator[Case]:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb_data = (bomb.compress(b"\0" * 100_000_000) + bomb.flush(zlib.Z_SYNC_FLUSH))[:-4]
    for name, steps in (
        ("frames: noise", (bytes(range(256)) * 10,)),
        ("frames: an unmasked one", (frame(TEXT, b"x", mask=False),)),
        ("frames: reserved bit 1", (frame(TEXT, b"x", rsv=4),)),
        ("frames: reserved bit 2", (frame(TEXT, b"x", rsv=2),)),
        ("frames: reserved bit 3", (frame(TEXT, b"x", rsv=1),)),
        ("frames: reserved opcode 3", (frame(3, b"x"),)),
        ("frames: reserved opcode 11", (frame(11, b"x"),)),
        ("frames: a ping in pieces", (frame(PING, b"x", fin=False),)),
        ("frames: a ping of 126 bytes", (frame(PING, b"x" * 126),)),
        ("frames: a close of 126 bytes", (frame(CLOSE, b"\x03\xe8" + b"x" * 124),)),
        ("frames: a continuation of nothing", (frame(CONTINUATION, b"x"),)),
        ("frames: a text inside a text", (frame(TEXT, b"a", fin=False), frame(TEXT, b"b"))),
        ("frames: a binary inside a text", (frame(TEXT, b"a", fin=False), frame(BINARY, b"b"))),
        ("frames: text that is no UTF-8", (frame(TEXT, b"\xff\xfe"),)),
        ("frames: text that ends in a character", (frame(TEXT, "ñ".encode()[:1]),)),
        ("frames: text with a surrogate", (frame(TEXT, b"\xed\xa0\x80"),)),
        ("frames: text with a NUL", (frame(TEXT, b"\0"),)),
        ("frames: a close with one byte", (frame(CLOSE, b"x"),)),
        ("frames: a close with code 999", (close_frame(999),)),
        ("frames: a close with code 1005", (close_frame(1005),)),
        ("frames: a close with code 1006", (close_frame(1006),)),
        ("frames: a close with code 2999", (close_frame(2999),)),
        ("frames: a close with code 65535", (close_frame(65535),)),
        ("frames: a close with a reason that is no UTF-8", (close_frame(1000, b"\xff"),)),
        ("frames: two closes", (close_frame() * 2,)),
        ("frames: a close, then data", (close_frame() + frame(TEXT, b"late") * 100,)),
        ("frames: a close, a pause, then data", (close_frame(), Pause(), frame(TEXT, b"late") * 100)),
        ("frames: a length with its highest bit set", (frame(BINARY, length=2**63),)),
        ("frames: a length of 4 EB, and some of it", (frame(BINARY, length=2**62), b"x" * 3_000_000)),
        ("frames: a short length in eight bytes", (frame(TEXT, b"x", wide=True),)),
        ("frames: a message of 3 MB", (frame(BINARY, b"x" * 3_000_000),)),
        ("frames: a message of 3 MB in pieces", (frame(BINARY, fin=False), frame(CONTINUATION, b"x" * 1000, fin=False) * 3000)),
        ("frames: 20000 empty pieces", (frame(TEXT, fin=False), frame(CONTINUATION, fin=False) * 20_000)),
        ("frames: a compressed one that was not agreed on", (frame(TEXT, b"\xcaH\xcd\xc9\xc9\x07\x00", rsv=4),)),
        ("frames: half a header", (frame(TEXT, b"x" * 200)[:3],)),
        ("frames: byte by byte", (Drip(frame(TEXT, b"hello")),)),
        ("frames: half a frame and a reset", (frame(TEXT, b"x" * 200)[:50], Reset())),
        ("frames: half a frame and a half close", (frame(TEXT, b"x" * 200)[:50], HalfClose())),
        ("frames: 5000 pings, never read", (frame(PING, b"x" * 100) * 5000, Reset())),
        ("frames: 5000 messages, never read", (frame(BINARY, b"x" * 100) * 5000, Reset())),
        ("frames: pongs that nobody asked for", (frame(10, b"x") * 100,)),
        ("frames: HTTP", (request("/"),)),
        ("frames: a reset at once", (Reset(),)),
        ("frames: an end at once", ()),
    ):  # fmt: skip
        quick = {"frames: an unmasked one", "frames: text that is no UTF-8", "frames: a close, then data"}
        yield Case(name, (Upgrade(path), *steps, Read(0.3)), (101,), quick=name in quick)
    deflate = Upgrade(path, ("Sec-WebSocket-Extensions: permessage-deflate",))
    for name, steps in (
        ("compressed: a bomb of 100 MB", (frame(BINARY, bomb_data, rsv=4),)),
        ("compressed: noise", (frame(BINARY, b"\xff\xfe\xfd" * 100, rsv=4),)),
        ("compressed: a control frame", (frame(PING, b"x", rsv=4),)),
        ("compressed: a continuation", (frame(TEXT, b"", fin=False), frame(CONTINUATION, b"x", rsv=4))),
        ("compressed: the whole of zlib", (frame(BINARY, zlib.compress(b"x" * 1000), rsv=4),)),
    ):
        yield Case(name, (deflate, *steps, Read(0.3)), (101,), quick=name == "compressed: noise")
    for name, offer in (
        ("an offer of compression with a window of letters", "permessage-deflate; client_max_window_bits=abc"),
        ("an offer of compression with a window of 99", "permessage-deflate; server_max_window_bits=99"),
        ("100 offers of compression", ", ".join(["permessage-deflate; client_max_window_bits"] * 100)),
        ("an offer of everything", "permessage-deflate; x=1; y; z, permessage-bzip2, ;;;,,,"),
    ):
        steps = (Upgrade(path, (f"Sec-WebSocket-Extensions: {offer}",)), frame(TEXT, b"x"), Read(0.3))
        yield Case(name, steps, (101,))
