from __future__ import annotations

import pytest

from uait.errors import APIError
from uait.server.head import Head, check_head
from uait.server.limits import ServerLimits

LIMITS = ServerLimits(header_count=10, header_bytes=1000)
HOST = (b"host", b"example.org")
UPGRADE = [
    HOST,
    (b"connection", b"keep-alive, Upgrade"),
    (b"upgrade", b"WebSocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


def check(*headers: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/", version: bytes = b"1.1") -> Head:
    return check_head(method, target, version, headers or (HOST,), LIMITS)


def refusal(*args: tuple[bytes, bytes], **kwargs: bytes) -> tuple[int, str]:
    with pytest.raises(APIError) as caught:
        check(*args, **kwargs)
    return caught.value.http_status, caught.value.error_code


@pytest.mark.parametrize("target", [b"/", b"/a/b?c=d&e", b"//x", b"/%00%ff", b"/a?b?c", b'/<>"{}|\\^`'])
def test_a_path_is_let_through_as_it_is(target: bytes) -> None:
    assert check(target=target).target == target


@pytest.mark.parametrize(
    "target", [b"*", b"example.org:80", b"a", b"?x", b"http://[::1", b"http://", b"http://a@b/", b"/a#b", b"ftp://a/"]
)
def test_a_target_that_is_no_path_is_refused(target: bytes) -> None:
    assert refusal(target=target) == (400, "INVALID_REQUEST")


def test_options_may_ask_about_the_server_as_a_whole() -> None:
    assert check(method=b"OPTIONS", target=b"*").target == b"*"


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://a.example", b"/", b"a.example"),
        (b"http://a.example:81?q", b"/?q", b"a.example:81"),
        (b"HTTPS://[::1]:81/p?q", b"/p?q", b"[::1]:81"),
    ],
)
def test_a_whole_url_becomes_its_path_and_its_host_counts(target: bytes, path: bytes, host: bytes) -> None:
    head = check(HOST, (b"x", b"y"), target=target)
    assert head.target == path
    assert head.headers == [(b"host", host), (b"x", b"y")]


@pytest.mark.parametrize("host", [b"a b", b"a/b", b"a@b", b"a\tb", b"[::1", b"a:b", b"a:1:2", b"\xff", b"a,b,"])
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    if host == b"a,b,":
        assert check((b"host", host)).headers  # commas are legal in a registered name
    else:
        assert refusal((b"host", host)) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("host", [b"", b"localhost", b"127.0.0.1:80", b"[::1]", b"[fe80::1]:8080", b"x_y.example:"])
def test_a_host_is_let_through(host: bytes) -> None:
    check((b"host", host))


def test_two_lengths_of_one_body_are_refused() -> None:
    both = (HOST, (b"content-length", b"5"), (b"transfer-encoding", b"chunked"))
    assert refusal(*both, method=b"POST") == (400, "INVALID_REQUEST")


def test_chunks_in_http_1_0_are_refused() -> None:
    assert refusal(HOST, (b"transfer-encoding", b"chunked"), version=b"1.0") == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("version", [b"2.0", b"3.0"])
def test_another_protocol_is_refused(version: bytes) -> None:
    assert refusal(version=version) == (505, "HTTP_VERSION_NOT_SUPPORTED")


def test_a_request_line_without_a_version_is_none() -> None:
    assert refusal(version=b"0.9") == (400, "INVALID_REQUEST")


def test_http_1_1_needs_one_host() -> None:
    assert refusal((b"x", b"y")) == (400, "INVALID_REQUEST")
    assert refusal(HOST, HOST) == (400, "INVALID_REQUEST")
    assert check((b"x", b"y"), version=b"1.0").version == "1.0"


@pytest.mark.parametrize("codings", [[b"gzip, chunked"], [b"identity"], [b"chunked", b"chunked"]])
def test_other_codings_than_chunked_are_not_known(codings: list[bytes]) -> None:
    fields = [(b"transfer-encoding", coding) for coding in codings]
    assert refusal(HOST, *fields, method=b"POST") == (501, "NOT_IMPLEMENTED")


def test_a_later_minor_version_is_taken_as_1_1() -> None:
    assert check(version=b"1.2").version == "1.1"
    assert check(version=b"1.0").version == "1.0"


def test_connect_is_refused() -> None:
    assert refusal(method=b"CONNECT", target=b"a:1") == (405, "METHOD_NOT_ALLOWED")


def test_too_many_and_too_large_headers_are_refused() -> None:
    assert refusal(*[(b"a", b"b")] * 11) == (431, "HEADERS_TOO_LARGE")
    assert refusal((b"a", b"b" * 1000)) == (431, "HEADERS_TOO_LARGE")
    assert refusal(target=b"/" + b"a" * 1000) == (431, "HEADERS_TOO_LARGE")


def test_a_websocket_is_seen() -> None:
    assert check(*UPGRADE).websocket
    assert not check(*UPGRADE, method=b"POST").websocket
    assert not check(*[pair for pair in UPGRADE if pair[0] != b"connection"]).websocket
    assert check(*UPGRADE[:1], (b"connection", b"keep-alive"), *UPGRADE[1:]).websocket  # the field may come twice


def replaced(name: bytes, value: bytes | None) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in UPGRADE if pair[0] != name]
    return kept if value is None else [*kept, (name, value)]


@pytest.mark.parametrize("version", [None, b"8", b"13, 8", b"x"])
def test_another_websocket_version_is_told_the_right_one(version: bytes | None) -> None:
    with pytest.raises(APIError) as caught:
        check(*replaced(b"sec-websocket-version", version))
    assert caught.value.http_status == 426
    assert caught.value.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    "headers",
    [
        replaced(b"sec-websocket-key", None),
        replaced(b"sec-websocket-key", b"short"),
        replaced(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ"),
        [*UPGRADE, (b"content-length", b"5")],
        [*UPGRADE, (b"transfer-encoding", b"chunked")],
        [*UPGRADE, (b"sec-websocket-protocol", b"\xff")],
        [*UPGRADE, (b"sec-websocket-extensions", b"\xff")],
    ],
)
def test_a_wrong_websocket_handshake_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    assert refusal(*headers) == (400, "INVALID_REQUEST")


def test_a_websocket_needs_http_1_1() -> None:
    assert refusal(*UPGRADE, version=b"1.0") == (400, "INVALID_REQUEST")
