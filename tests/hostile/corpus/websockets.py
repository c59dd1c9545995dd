"""WebSockets: their handshake (RFC 6455 section 4) and their frames (section 5)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from hostile.corpus.case import CHUNKED, HIDDEN, REFUSED, Case, Drip, HalfClose, Pause, Read, Reset, Upgrade
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame, handshake, request

WRONG, NO_TEXT, TOO_BIG = (1002,), (1007,), (1009,)


def handshakes(path: str) -> Iterator[Case]:
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
        hidden = HIDDEN if expect is not None else b""
        yield Case(name, (data + hidden, Read(0.5)), expect, quick=name == "a WebSocket without key")
    yield Case("a WebSocket and a byte behind its head", (whole + b"x", Read(0.5)), None, quick=True)
    yield Case("a WebSocket and frames behind its head", (whole + frame(TEXT, b"x") * 10, Read(0.5)), None)
    yield Case("a WebSocket and a second handshake", (whole + whole, Read(0.5)), None)
    yield Case("a WebSocket and a reset before the answer", (whole, Reset()), None)
    yield Case("a WebSocket and an end before the answer", (whole,), None)


def frames(path: str) -> Iterator[Case]:
    bomb_data = _bomb()
    for name, steps, close in (
        ("noise", (bytes(range(256)) * 10,), WRONG),
        ("an unmasked one", (frame(TEXT, b"x", mask=False),), WRONG),
        ("reserved bit 1", (frame(TEXT, b"x", rsv=4),), WRONG),
        ("reserved bit 2", (frame(TEXT, b"x", rsv=2),), WRONG),
        ("reserved bit 3", (frame(TEXT, b"x", rsv=1),), WRONG),
        ("reserved opcode 3", (frame(3, b"x"),), WRONG),
        ("reserved opcode 11", (frame(11, b"x"),), WRONG),
        ("a ping in pieces", (frame(PING, b"x", fin=False),), WRONG),
        ("a ping of 126 bytes", (frame(PING, b"x" * 126),), WRONG),
        ("a close of 126 bytes", (frame(CLOSE, b"\x03\xe8" + b"x" * 124),), WRONG),
        ("a continuation of nothing", (frame(CONTINUATION, b"x"),), WRONG),
        ("a text inside a text", (frame(TEXT, b"a", fin=False), frame(TEXT, b"b")), WRONG),
        ("a binary inside a text", (frame(TEXT, b"a", fin=False), frame(BINARY, b"b")), WRONG),
        ("text that is no UTF-8", (frame(TEXT, b"\xff\xfe"),), NO_TEXT),
        ("text that ends in a character", (frame(TEXT, "ñ".encode()[:1]),), NO_TEXT),
        ("text with a surrogate", (frame(TEXT, b"\xed\xa0\x80"),), NO_TEXT),
        ("text with a NUL", (frame(TEXT, b"\0"),), None),
        ("a close with one byte", (frame(CLOSE, b"x"),), WRONG),
        ("a close with code 999", (close_frame(999),), WRONG),
        ("a close with code 1005", (close_frame(1005),), WRONG),
        ("a close with code 1006", (close_frame(1006),), WRONG),
        ("a close with code 2999", (close_frame(2999),), WRONG),
        ("a close with code 65535", (close_frame(65535),), WRONG),
        ("a close with a reason that is no UTF-8", (close_frame(1000, b"\xff"),), (1002, 1007)),
        ("two closes", (close_frame() * 2,), (1000,)),
        ("a close, then data", (close_frame() + frame(TEXT, b"late") * 100,), (1000,)),
        ("a close, a pause, then data", (close_frame(), Pause(), frame(TEXT, b"late") * 100), (1000,)),
        ("a length with its highest bit set", (frame(BINARY, length=2**63),), WRONG),
        ("a length of 4 EB, and some of it", (frame(BINARY, length=2**62), b"x" * 3_000_000), TOO_BIG),
        ("a short length in eight bytes", (frame(TEXT, b"x", wide=True),), WRONG),
        ("a message of 3 MB", (frame(BINARY, b"x" * 3_000_000),), TOO_BIG),
        ("a message of 3 MB in pieces", (frame(BINARY, fin=False), frame(CONTINUATION, b"x" * 1000, fin=False) * 3000), TOO_BIG),
        ("a compressed one that was not agreed on", (frame(TEXT, b"\xcaH\xcd\xc9\xc9\x07\x00", rsv=4),), WRONG),
        ("half a header", (frame(TEXT, b"x" * 200)[:3],), None),
        ("byte by byte", (Drip(frame(TEXT, b"hello")),), None),
        ("half a frame and a reset", (frame(TEXT, b"x" * 200)[:50], Reset()), None),
        ("half a frame and a half close", (frame(TEXT, b"x" * 200)[:50], HalfClose()), None),
        ("5000 pings, never read", (frame(PING, b"x" * 100) * 5000, Reset()), None),
        ("5000 messages, never read", (frame(BINARY, b"x" * 100) * 5000, Reset()), None),
        ("pongs that nobody asked for", (frame(10, b"x") * 100,), None),
        ("HTTP", (request("/"),), WRONG),
        ("a reset at once", (Reset(),), None),
        ("an end at once", (), None),
        ("reserved opcodes 4 to 7", tuple(frame(opcode, b"x") for opcode in (4, 5, 6, 7)), WRONG),
        ("reserved control opcodes 12 to 15", tuple(frame(opcode, b"x") for opcode in (12, 13, 14, 15)), WRONG),
        ("an unmasked ping", (frame(PING, b"x", mask=False),), WRONG),
        ("an unmasked close", (frame(CLOSE, b"\x03\xe8", mask=False),), WRONG),
        ("an unmasked empty text", (frame(TEXT, mask=False),), WRONG),
        ("an unmasked continuation of a masked text", (frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"b", mask=False)), WRONG),
        ("all reserved bits of a ping", (frame(PING, rsv=7),), WRONG),
        ("a reserved bit of a continuation", (frame(TEXT, b"a", fin=False), frame(CONTINUATION, b"b", rsv=2)), WRONG),
        ("a close in pieces", (frame(CLOSE, b"\x03\xe8", fin=False),), WRONG),
        ("a pong in pieces", (frame(PONG, b"x", fin=False),), WRONG),
        ("a pong of 126 bytes", (frame(PONG, b"x" * 126),), WRONG),
        ("a ping of 64 KB", (frame(PING, b"x" * 65536),), WRONG),
        ("a ping whose length takes two bytes", (b"\x89\xfe\x00\x05\0\0\0\0hello",), WRONG),
        ("a short length in two bytes", (b"\x81\xfe\x00\x05\0\0\0\0hello",), WRONG),
        ("a length of 65535 in eight bytes", (frame(BINARY, b"x" * 65535, wide=True),), WRONG),
        ("a continuation after a whole message", (frame(TEXT, b"a"), frame(CONTINUATION, b"b")), WRONG),
        ("a final continuation twice", (frame(TEXT, b"a", fin=False), frame(CONTINUATION), frame(CONTINUATION)), WRONG),
        ("a text inside a text, with a ping between", (frame(TEXT, b"a", fin=False), frame(PING), frame(TEXT, b"b")), WRONG),
        ("a close inside a text", (frame(TEXT, b"a", fin=False), close_frame()), (1000,)),
        ("text with an overlong slash", (frame(TEXT, b"\xc0\xaf"),), NO_TEXT),
        ("text beyond Unicode", (frame(TEXT, b"\xf4\x90\x80\x80"),), NO_TEXT),
        ("text with a continuation byte alone", (frame(TEXT, b"a\x80"),), NO_TEXT),
        ("text whose character is cut by the end of its last piece", (frame(TEXT, b"\xe2\x82", fin=False), frame(CONTINUATION)), NO_TEXT),
        ("text that goes wrong in its second piece", (frame(TEXT, b"a\xe2", fin=False), frame(CONTINUATION, b"\x28\xa1")), NO_TEXT),
        ("text that goes wrong in a message without end", (frame(TEXT, b"\xff", fin=False), Pause(), frame(CONTINUATION, b"x", fin=False)), NO_TEXT),
        ("a close with code 0", (close_frame(0),), WRONG),
        ("a close with code 1004", (close_frame(1004),), WRONG),
        ("a close with code 1015", (close_frame(1015),), WRONG),
        ("a close with code 1016", (close_frame(1016),), WRONG),
        ("a close with code 5000", (close_frame(5000),), WRONG),
        ("a close with a reason that ends in a character", (close_frame(1000, b"\xe2\x82"),), (1002, 1007)),
        ("a close without a code", (close_frame(None),), (1000, 1005)),
        ("an announced message of 2 MB", (frame(BINARY, length=2_000_000), b"x" * 1_200_000), TOO_BIG),
        ("a message of 3 MB of text", (frame(TEXT, "ñ".encode() * 1_500_000),), TOO_BIG),
        ("50000 empty pings", (frame(PING) * 50_000,), None),
        ("40000 empty pieces", (frame(TEXT, fin=False), *[frame(CONTINUATION, fin=False) * 10_000] * 4), None),
        ("60000 pieces of one byte", (frame(BINARY, fin=False), *[frame(CONTINUATION, b"x", fin=False) * 10_000] * 6), None),
        ("half a control frame between pieces", (frame(TEXT, b"a", fin=False), frame(PING, b"x" * 100)[:20], Pause(), HalfClose()), None),
    ):  # fmt: skip
        quick = {"an unmasked one", "text that is no UTF-8", "a close, then data", "a text inside a text"}
        wait = Read(1.5 if close == TOO_BIG else 0.3)
        yield Case(f"frames: {name}", (Upgrade(path), *steps, wait), (101,), quick=name in quick, close=close)
    deflate = Upgrade(path, ("Sec-WebSocket-Extensions: permessage-deflate",))
    for name, steps, close in (
        ("a bomb of 100 MB", (frame(BINARY, bomb_data, rsv=4),), TOO_BIG),
        ("noise", (frame(BINARY, b"\xff\xfe\xfd" * 100, rsv=4),), None),
        ("a control frame", (frame(PING, b"x", rsv=4),), WRONG),
        ("a continuation", (frame(TEXT, b"", fin=False), frame(CONTINUATION, b"x", rsv=4)), WRONG),
        ("the whole of zlib", (frame(BINARY, zlib.compress(b"x" * 1000), rsv=4),), None),
        ("text that is no UTF-8", (frame(TEXT, deflated(b"\xff\xfe"), rsv=4),), NO_TEXT),
        ("a bomb in a thousand pieces", (_in_pieces(bomb_data, 1000),), TOO_BIG),
        ("another reserved bit", (frame(BINARY, deflated(b"x"), rsv=6),), WRONG),
        ("nothing at all", (frame(BINARY, b"", rsv=4),), None),
    ):
        steps = (deflate, *steps, Read(1.5 if close == TOO_BIG else 0.3))
        yield Case(f"compressed: {name}", steps, (101,), quick=name == "noise", close=close)
    for name, offer in (
        ("an offer of compression with a window of letters", "permessage-deflate; client_max_window_bits=abc"),
        ("an offer of compression with a window of 99", "permessage-deflate; server_max_window_bits=99"),
        ("100 offers of compression", ", ".join(["permessage-deflate; client_max_window_bits"] * 100)),
        ("an offer of everything", "permessage-deflate; x=1; y; z, permessage-bzip2, ;;;,,,"),
    ):
        steps = (Upgrade(path, (f"Sec-WebSocket-Extensions: {offer}",)), frame(TEXT, b"x"), Read(0.3))
        yield Case(name, steps, (101,))


def deflated(data: bytes) -> bytes:
    """A message's payload by permessage-deflate (RFC 7692 section 7.2.1)."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _bomb() -> bytes:
    """A hundred megabytes of nothing: one, that stands for itself, a hundred times."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return ((squeeze.compress(b"\0" * 1_000_000) + squeeze.flush(zlib.Z_FULL_FLUSH)) * 100)[:-4]


def _in_pieces(data: bytes, count: int) -> bytes:
    step = len(data) // count + 1
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    between = [frame(CONTINUATION, piece, fin=False) for piece in pieces[1:-1]]
    return b"".join([frame(BINARY, pieces[0], fin=False, rsv=4), *between, frame(CONTINUATION, pieces[-1])])
