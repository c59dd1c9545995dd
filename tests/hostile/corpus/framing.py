"""Where a request's body ends."""

from __future__ import annotations

from collections.abc import Iterator

from hostile.corpus.case import CHUNKED, HIDDEN, REFUSED, Case, Pause, Read, head


def framing(post: str) -> Iterator[Case]:
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
        yield Case(
            name, (body(f"Content-Length: {value}") + HIDDEN, Read()), REFUSED, quick=name == "a negative length"
        )
    yield Case("two lengths", (body("Content-Length: 5", "Content-Length: 6"), Read()), REFUSED, quick=True)
    yield Case("the same length twice", (body("Content-Length: 5", "Content-Length: 5"), Read(0.5)), None)
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
        yield Case(name, (body(*lines, data=b"0\r\n\r\n" + HIDDEN), Read()), (400, 501))
    old = head(CHUNKED, first=b"POST " + post.encode() + b" HTTP/1.0")
    yield Case("chunks in HTTP/1.0", (old, b"0\r\n\r\n" + HIDDEN, Read()), REFUSED)
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
