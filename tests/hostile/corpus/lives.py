"""Connections that end, stop or go on in odd ways."""

from __future__ import annotations

from collections.abc import Iterator

from hostile.corpus.case import CHUNKED, Case, Drip, HalfClose, Pause, Read, ReadSome, Reset
from wire import request


def lives(get: str, post: str) -> Iterator[Case]:
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
