"""The parser, where it depends on how the bytes were cut."""

from __future__ import annotations

from wire import handshake

from uait.server.limits import ServerLimits
from uait.server.parser import Parser


def test_a_target_is_not_taken_for_the_version() -> None:
    parser = Parser(ServerLimits())
    parser.feed(b"GET /HTTP/1.1x")
    parser.feed(b" HTTP/1.0\r\n\r\n")
    assert parser.requests[0].version == b"1.0"


def test_what_follows_a_handshake_is_seen_however_long_that_is() -> None:
    short = handshake("/ws", "X-Pad: ")
    whole = short.replace(b"X-Pad: ", b"X-Pad: " + b"x" * (4096 - len(short)))
    for early in (b"early", b"x" * 70_000):
        parser = Parser(ServerLimits())
        parser.feed(whole + early)
        assert parser.tail == early
