"""Server-sent events arrive whole, however their bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.llm.sse import EventTooLarge, ServerSentEvent, SSEParser

STREAM = (
    b": a comment\n\ndata: one\n\nevent: x\nid: 7\ndata: two\ndata:three\nretry: 5\nunknown\n\n"
    + "data: Grüße \u2028 \u0085 👋\n\n".encode()
    + b"event: nothing\n\n\n\n:ping\ndata\n\ndata:  two spaces\n\n"
)
EVENTS = [
    ServerSentEvent(b"one"),
    ServerSentEvent(b"two\nthree", "x", "7"),
    ServerSentEvent("Grüße \u2028 \u0085 👋".encode()),
    ServerSentEvent(b""),
    ServerSentEvent(b" two spaces"),
]


def parse(*pieces: bytes) -> list[ServerSentEvent]:
    parser = SSEParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_kind_of_line_end(newline: bytes) -> None:
    assert parse(STREAM.replace(b"\n", newline)) == EVENTS


@given(st.lists(st.integers(0, 2 * len(STREAM)), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_cut_anywhere(cuts: list[int], newline: bytes) -> None:
    stream = STREAM.replace(b"\n", newline)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    assert parse(*(stream[start:end] for start, end in pairwise(places))) == EVENTS


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_byte_by_byte(newline: bytes) -> None:
    stream = STREAM.replace(b"\n", newline)
    assert parse(*(stream[n : n + 1] for n in range(len(stream)))) == EVENTS


def test_byte_order_mark_is_dropped_once() -> None:
    assert parse(b"\xef", b"\xbb", b"\xbfdata: a\n\n", b"\xef\xbb\xbfdata: b\n\n") == [ServerSentEvent(b"a")]


def test_an_event_without_its_blank_line_waits() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.end() == [ServerSentEvent(b"a")]


def test_an_error_that_is_not_even_an_event_is_found_at_the_end() -> None:
    parser = SSEParser()
    parser.feed(b'data: a\n\n{\n "error": 1}\n')
    assert parser.end() == [ServerSentEvent(b'{\n "error": 1}')]


def test_a_large_event_passes_in_pieces_and_too_large_a_one_is_refused() -> None:
    parser = SSEParser(max_event_bytes=1_100_000)
    for _ in range(1000):
        assert parser.feed(b"x" * 1000 if _ else b"data: " + b"x" * 1000) == []
    assert [len(event.data) for event in parser.feed(b"\n\n")] == [1_000_000]
    with pytest.raises(EventTooLarge):
        for _ in range(1200):
            parser.feed(b"y" * 1000)
