"""Answers as bytes."""

from __future__ import annotations

import pytest

from uait.server.answer import AnswerHead, Framing, make_early_hints, make_head, make_trailers, make_upgrade


def head(
    *headers: tuple[bytes, bytes], status: int = 200, method: str = "GET", version: str = "1.1", last: bool = False
) -> AnswerHead:
    return make_head(status, headers, method=method, version=version, last=last)


def test_a_length_is_kept_and_a_date_added() -> None:
    made = head((b"content-length", b"5"), (b"x-y", b"z"))
    assert made.data.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-y: z\r\ndate: ")
    assert made.data.endswith(b" GMT\r\n\r\n")
    assert (made.framing, made.length, made.last) == (Framing.LENGTH, 5, False)


def test_without_a_length_it_goes_in_chunks_or_to_the_end_of_the_connection() -> None:
    assert head().framing is Framing.CHUNKED
    assert b"\r\ntransfer-encoding: chunked\r\n" in head().data
    old = head(version="1.0")
    assert old.framing is Framing.CLOSE
    assert old.last
    assert b"\r\nconnection: close\r\n" in old.data


@pytest.mark.parametrize(("status", "method"), [(200, "HEAD"), (204, "GET"), (304, "GET")])
def test_some_have_no_body(status: int, method: str) -> None:
    assert head(status=status, method=method).framing is Framing.NOTHING


def test_204_has_no_length_and_304_may() -> None:
    assert b"content-length" not in head((b"content-length", b"0"), status=204).data
    assert b"content-length" in head((b"content-length", b"7"), status=304).data


def test_framing_and_the_connections_end_are_not_the_apps_to_write() -> None:
    made = head((b"Transfer-Encoding", b"chunked"), (b"Connection", b"Close"), (b"content-length", b"1"))
    assert made.data.count(b"connection: close") == 1
    assert b"ransfer-" not in made.data
    assert made.last


@pytest.mark.parametrize(
    ("value", "last", "fields"),
    [
        (b"keep-alive", False, []),
        (b"keep-alive", True, [b"close"]),
        (b"Close, X-Own", False, [b"X-Own", b"close"]),
        (b"Keep-Alive, X-Own", False, [b"X-Own"]),
        (b"X-Own", True, [b"X-Own", b"close"]),
    ],
)
def test_whether_the_connection_goes_on_is_said_once(value: bytes, last: bool, fields: list[bytes]) -> None:
    made = make_head(200, [(b"Connection", value)], method="GET", version="1.1", last=last)
    lines = made.data.split(b"\r\n")
    assert [line.split(b": ")[1] for line in lines if line.lower().startswith(b"connection:")] == fields
    assert made.last == (b"close" in fields)


def test_the_apps_own_date_is_kept() -> None:
    assert head((b"Date", b"then")).data.count(b"\r\n") == head().data.count(b"\r\n")


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
        (b"x\r\ny", b"a"),
        (b"content-length", b"-1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b"9" * 30),
    ],
)
@pytest.mark.parametrize("make", [head, lambda *fields: make_trailers(fields), lambda *fields: make_upgrade(fields)])
def test_nothing_of_a_header_that_cannot_be_goes_out(make, field: tuple[bytes, bytes]) -> None:
    if field[0] == b"content-length" and make is not head:
        pytest.skip("no framing there")
    for _ in range(2):  # what was seen once is not looked at less
        with pytest.raises(ValueError, match=r"header|content-length"):
            make((b"good", b"one"), field)


@pytest.mark.parametrize("status", [99, 100, 101, 199, 1000, -1])
def test_a_status_that_cannot_be_an_answers_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        head(status=status)


def test_two_lengths_must_be_one() -> None:
    assert head((b"content-length", b"1"), (b"content-length", b"1")).length == 1
    with pytest.raises(ValueError, match="content-length"):
        head((b"content-length", b"1"), (b"content-length", b"2"))


def test_an_unknown_status_has_no_reason() -> None:
    assert head(status=299).data.startswith(b"HTTP/1.1 299 \r\n")


def test_interim_answers_and_trailers() -> None:
    assert make_early_hints([b"</a>; rel=preload"]) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"
    assert make_trailers([(b"x", b"y")]) == b"0\r\nx: y\r\n\r\n"
    assert make_upgrade([(b"upgrade", b"websocket")]).startswith(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: ")
