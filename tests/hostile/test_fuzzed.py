"""What the fuzzer begins with, and what it has found, again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.fuzzed import Broken, Mode, check, seeds

FOUND = sorted(Path(__file__).with_name("found").glob("*-*"))


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=() if part == 0 else pytest.mark.hostile) for part in range(8)]
)
def test_the_seeds_keep_the_invariants(part: int) -> None:
    for data in list(seeds())[part::8]:
        try:
            check(data)
        except Exception as error:
            error.add_note(f"the input: {data!r}")
            raise


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.name)
def test_what_was_found_stays_mended(file: Path) -> None:
    check(file.read_bytes())


def test_the_connection_answers_what_it_is_given() -> None:
    """The invariants hold for a connection that does nothing, too."""
    data = b"POST /chunks HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for step in (0, 1):
        received = check(bytes([Mode.HTTP, step]) + data)
        assert received.count(b"HTTP/1.1 200 OK") == 2
        assert b"3\r\nabc\r\n0\r\n\r\n" in received
    for mode in (Mode.FRAMES, Mode.DEFLATE):
        received = check(bytes([mode, 0]) + b"\x81\x05hello\x88\x02\x03\xe8")
        assert received.startswith(b"HTTP/1.1 101 ")
        assert received.endswith(b"\x88\x02\x03\xe8")


def test_a_broken_invariant_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostile.fuzzed.MOST_FOR_A_BYTE", -100)
    with pytest.raises(Broken):
        check(bytes([Mode.HTTP, 0]) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
