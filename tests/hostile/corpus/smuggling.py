"""A request hidden where only a careless reader sees one (RFC 9112 sections 2.2, 6.3, 7.1 and 11.2).

Two servers in a row that disagree about where a request ends let a client put words into the mouth of another. So whatever can be read in two ways is refused, and what follows it never served.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostile.corpus.case import CHUNKED, HIDDEN, REFUSED, Case, Pause, Read, head
from wire import request

IN_A_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
BEHIND_THE_LAST_CHUNK = b"0\r\n\r\n" + HIDDEN


def smuggling(get: str, post: str) -> Iterator[Case]:
    first = b"POST " + post.encode() + b" HTTP/1.1"
    yield from _two_framings(first)
    yield from _lengths(first)
    yield from _chunks(first)
    yield from _bodies_that_nobody_expects(get, post)
    for name, lines in (
        ("a bare line feed before a hidden field", b"X: y\nContent-Length: %d" % len(HIDDEN)),
        ("a bare carriage return before a hidden field", b"X: y\rContent-Length: %d" % len(HIDDEN)),
        ("a fold that hides a length", b"X: y\r\n Content-Length: %d" % len(HIDDEN)),
        ("a NUL before a hidden field", b"X: y\0\r\nContent-Length: %d" % len(HIDDEN)),
    ):
        # One reader sees a body, another a second request: either no request is served that is in doubt, or the body is one.
        yield Case(f"smuggling: {name}", (head(lines, "Connection: close", first=first) + HIDDEN, Read()))
    two_heads = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\r\n\r\n"
    yield Case("smuggling: a carriage return too many", (two_heads + HIDDEN, Read()), REFUSED)
    yield Case("smuggling: a head ended by carriage returns", (b"GET / HTTP/1.1\r\nHost: a\r\r" + HIDDEN, Read()), REFUSED)  # fmt: skip


def _two_framings(first: bytes) -> Iterator[Case]:
    """A length, and a Transfer-Encoding that some would not recognize as one."""
    refused = (400, 501)
    fields: tuple[tuple[str, str | bytes], ...] = (
        ("chunked", CHUNKED),
        ("chunked in capitals", "TRANSFER-ENCODING: CHUNKED"),
        ("chunked after a tab", "Transfer-Encoding:\tchunked"),
        ("chunked without a space", "Transfer-Encoding:chunked"),
        ("chunked after a vertical tab", "Transfer-Encoding: \x0bchunked"),
        ("chunked before a form feed", "Transfer-Encoding: chunked\x0c"),
        ("chunked before a NUL", "Transfer-Encoding: chunked\0"),
        ("chunked before a no-break space", "Transfer-Encoding: chunked\xa0"),
        ("chunked with a parameter", "Transfer-Encoding: chunked;q=1"),
        ("chunked in a list", "Transfer-Encoding: , chunked"),
        ("chunked twice in a list", "Transfer-Encoding: chunked, chunked"),
        ("identity", "Transfer-Encoding: identity"),
        ("nothing", "Transfer-Encoding:"),
        ("a coding that nobody knows", "Transfer-Encoding: cow"),
        ("chunked and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("identity and chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ("chunked in a fold", "Transfer-Encoding:\r\n chunked"),
        ("a space before the colon", "Transfer-Encoding : chunked"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked"),
        ("a NUL in the name", "Transfer\0-Encoding: chunked"),
        ("a space before the name", "X: y\r\n Transfer-Encoding: chunked"),
        ("a quote before the name", '"Transfer-Encoding: chunked'),
        ("a carriage return before the name", "X: y\r\rTransfer-Encoding: chunked"),
        ("a bare carriage return before the field", "X: y\rTransfer-Encoding: chunked"),
        ("a bare line feed before the field", "X: y\nTransfer-Encoding: chunked"),
        ("a bare line feed after the field", "Transfer-Encoding: chunked\nX: y"),
    )
    for name, field in fields:
        for order, body in (("longer", BEHIND_THE_LAST_CHUNK), ("shorter", IN_A_CHUNK)):
            length = len(body) if order == "longer" else body.index(b"\n") + 1
            data = head(f"Content-Length: {length}", field, first=first) + body
            # Where the fold is taken as a fold, it is X's, and the length alone counts.
            expect = None if name == "a space before the name" else refused
            if expect is None and order == "shorter":
                continue
            quick = name in {"chunked", "a bare line feed before the field"}
            yield Case(f"smuggling: a {order} length and {name}", (data, Read()), expect, quick=quick)
    for name in ("Transfer_Encoding", "X-Transfer-Encoding", "Transfer-Encodings", "TE"):
        data = head(f"Content-Length: {len(BEHIND_THE_LAST_CHUNK)}", f"{name}: chunked", first=first)
        yield Case(f"smuggling: chunks by {name}, which is another field", (data + BEHIND_THE_LAST_CHUNK, Read()))


def _lengths(first: bytes) -> Iterator[Case]:
    size = len(HIDDEN)
    for name, field, expect in (
        ("two, of which the first is shorter", f"Content-Length: 0\r\nContent-Length: {size}", REFUSED),
        ("two, of which the first is longer", f"Content-Length: {size}\r\nContent-Length: 0", REFUSED),
        ("two in a list", f"Content-Length: 0, {size}", REFUSED),
        ("two in different cases", f"content-length: {size}\r\nCONTENT-LENGTH: 0", REFUSED),
        ("an empty element in a list", f"Content-Length: ,{size}", REFUSED),
        ("a number and a letter", f"Content-Length: {size}x", REFUSED),
        ("a number and a comment", f"Content-Length: {size} (bytes)", REFUSED),
        ("a number and a parameter", f"Content-Length: {size};x", REFUSED),
        ("a number in quotes", f'Content-Length: "{size}"', REFUSED),
        ("a number before a vertical tab", f"Content-Length: {size}\x0b", REFUSED),
        ("a number before a NUL", f"Content-Length: {size}\0", REFUSED),
        ("a number before a no-break space", f"Content-Length: {size}\xa0", REFUSED),
        ("minus nothing", "Content-Length: -0", REFUSED),
        ("an underscore in a number", "Content-Length: 4_4", REFUSED),
        ("2^64 and a little", f"Content-Length: {2**64 + size}", (400, 408, 413)),
        ("2^63", f"Content-Length: {2**63}", (400, 408, 413)),
        ("2^32 and a little", f"Content-Length: {2**32 + size}", (400, 408, 413)),
        ("a space before the colon", f"Content-Length : {size}", REFUSED),
        ("a fold in a number", f"Content-Length: {size}\r\n 0", REFUSED),
        ("zeros before a number", f"Content-Length: 000000{size}", (200, 400)),
        ("a tab before a number", f"Content-Length:\t{size}", (200,)),
        ("a space after a number", f"Content-Length: {size} ", (200,)),
        ("the same in a list", f"Content-Length: {size}, {size}", (200, 400)),
    ):
        read = Read(2.5 if expect and 408 in expect else 0.3 if expect and 200 in expect else 1.0)
        yield Case(f"smuggling: a length: {name}", (head(field, first=first) + HIDDEN, read), expect)


def _chunks(first: bytes) -> Iterator[Case]:
    refused = (400, 408, 413)
    for name, data, expect in (
        ("a size of 2^64 and 5", b"10000000000000005\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, refused),
        ("a size of 2^64", b"10000000000000000\r\n\r\n" + HIDDEN, refused),
        ("a size of 2^64 less 1", b"FFFFFFFFFFFFFFFF\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, refused),
        ("a size of 2^63", b"8000000000000000\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, refused),
        ("a size of 2^32 and 5", b"100000005\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, refused),
        ("a size of nothing, with many zeros", b"0" * 100 + b"5\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK[:5], None),
        ("a size with an underscore", b"1_0\r\n" + HIDDEN, REFUSED),
        ("a size after a space", b" 5\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("a size of minus nothing", b"-0\r\n\r\n" + HIDDEN, REFUSED),
        ("a size of plus nothing", b"+0\r\n\r\n" + HIDDEN, REFUSED),
        ("a size of nothing, hexadecimal by prefix", b"0x0\r\n\r\n" + HIDDEN, REFUSED),
        ("a size before a letter", b"5g\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("a size before a NUL", b"5\0\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("a size and a bare line feed", b"5\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("a size and a bare carriage return", b"5\rabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("an extension ended by a line feed", b"5;x\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("an extension with a line feed in it", b"2;\nxx\r\nab\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("data and no line end", b"5\r\nabcde" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("data and two letters for a line end", b"5\r\nabcdeXX" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("data and a bare line feed", b"5\r\nabcde\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("data and a carriage return too many", b"5\r\nabcde\r\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("data shorter than its size", b"8\r\nabcde\r\n" + BEHIND_THE_LAST_CHUNK, REFUSED),
        ("a last chunk and letters", b"0\r\nXX" + HIDDEN, None),
        ("a trailer with a space before its colon", b"0\r\nX : y\r\n\r\n" + HIDDEN, REFUSED),
        ("a trailer with a NUL", b"0\r\nX: a\0b\r\n\r\n" + HIDDEN, REFUSED),
        ("a trailer without a name", b"0\r\n: y\r\n\r\n" + HIDDEN, REFUSED),
    ):
        quick = name in {"a size of 2^64 and 5", "an extension ended by a line feed"}
        steps = (head(CHUNKED, first=first), Pause(), data, Read(2.5))
        yield Case(f"smuggling: a chunk: {name}", steps, expect, quick=quick)


def _bodies_that_nobody_expects(get: str, post: str) -> Iterator[Case]:
    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT"):
        data = request(get, method=method, body=HIDDEN)
        yield Case(f"smuggling: a body of {method}", (data, Read(0.3)), quick=method == "GET")
        data = request(get, CHUNKED, method=method) + IN_A_CHUNK
        yield Case(f"smuggling: chunks of {method}", (data, Read(0.3)))
    late = (request(get, f"Content-Length: {len(HIDDEN)}", method="POST"), Pause(0.1), HIDDEN, Read(0.3))
    yield Case("smuggling: a body that comes after the answer", late)
    large = request(get, f"Content-Length: {1_000_000 + len(HIDDEN)}", method="POST")
    yield Case("smuggling: a large body that comes after the answer", (large, Pause(0.1), b"x" * 1_000_000, HIDDEN, Read()))  # fmt: skip
    expecting = request(post, "Expect: 100-continue", f"Content-Length: {len(HIDDEN)}", method="POST")
    yield Case("smuggling: a body that does not wait for 100", (expecting + HIDDEN, Read(0.3)))
    unknown = request(post, "Expect: nonsense", f"Content-Length: {len(HIDDEN)}", method="POST")
    yield Case("smuggling: a body after an expectation that nobody knows", (unknown + HIDDEN, Read(0.3)))
    upgrade = request(get, "Connection: Upgrade", "Upgrade: other", body=HIDDEN)
    yield Case("smuggling: a body behind an upgrade to something else", (upgrade, Read(0.3)))
    old = request(post, "Connection: keep-alive", method="POST", version="1.0", body=HIDDEN)
    yield Case("smuggling: a body in HTTP/1.0", (old, Read(0.3)))
    without = request(post, "Connection: close", method="POST") + HIDDEN
    yield Case("smuggling: a request behind the last one", (without, Read(0.3)))
