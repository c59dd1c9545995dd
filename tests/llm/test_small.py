"""Small parts that providers are made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uait.llm.ndjson import LineParser
from uait.llm.recall import Recall
from uait.llm.sse import EventTooLarge


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b" ")), max_size=8), st.data())
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"\n".join(lines)
    parser = LineParser()
    found = []
    while stream:
        at = data.draw(st.integers(1, len(stream)))
        found += parser.feed(stream[:at])
        stream = stream[at:]
    found += parser.end()
    assert [event.data for event in found] == [line.strip() for line in lines if line.strip()]


def test_a_line_that_is_too_long_is_refused() -> None:
    parser = LineParser(max_line_bytes=10)
    assert [event.data for event in parser.feed(b"x" * 30 + b"\n")] == [b"x" * 30], "it is here already"
    parser.feed(b"x" * 10)
    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


def test_the_oldest_are_forgotten_first() -> None:
    recall: Recall[str] = Recall(max_entries=2, max_size=100)
    for name in ("a", "b", "a", "c"):
        recall.put(name, name.upper(), 10)
    assert [recall.get(name) for name in "abc"] == ["A", None, "C"]
    recall.put("d", "D", 95)
    assert [recall.get(name) for name in "acd"] == [None, None, "D"]
    recall.put("e", "E", 101)
    assert [recall.get(name) for name in "de"] == ["D", None], "one that finds no room costs nobody else's"
