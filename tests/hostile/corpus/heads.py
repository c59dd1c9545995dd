"""Request heads."""

from __future__ import annotations

from collections.abc import Iterator

from hostile.corpus.case import HIDDEN, REFUSED, Case, Read, head


def heads(get: str) -> Iterator[Case]:
    path = get.encode()
    for name, data, expect in (
        ("noise", bytes(range(256)) * 4, REFUSED),
        ("a lot of noise", b"\xff\x00\xfe" * 100_000, (400, 431)),
        ("letters without end", b"A" * 300_000, (400, 431)),
        ("TLS on a plain port", bytes.fromhex("160301020001 0001fc0303") + b"\0" * 512, REFUSED),
        ("HTTP/0.9", b"GET " + path + b"\r\n\r\n", REFUSED),
        ("a method alone", b"GET\r\n\r\n", REFUSED),
        ("HTTP/9.9", b"GET " + path + b" HTTP/9.9\r\nHost: a\r\n\r\n", (400, 505)),
        ("HTTP/2.0 without its preface", b"GET " + path + b" HTTP/2.0\r\nHost: a\r\n\r\n", (505,)),
        ("http in small letters", b"GET " + path + b" http/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a version of three digits", b"GET " + path + b" HTTP/1.10\r\nHost: a\r\n\r\n", REFUSED),
        ("no version digit", b"GET " + path + b" HTTP/1.\r\nHost: a\r\n\r\n", REFUSED),
        ("a method that is no token", b"G@T " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a NUL in the method", b"G\0T " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("two spaces", b"GET  " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", (200, 400)),
        ("a space before everything", b" GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("tabs for spaces", b"GET\t" + path + b"\tHTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("two versions", b"GET " + path + b" HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a line feed in the target", b"GET /a\nb HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a carriage return in the target", b"GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
        ("a carriage return before everything", b"\rGET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("a space after the version", b"GET " + path + b" HTTP/1.1 \r\nHost: a\r\n\r\n", REFUSED),
        ("carriage returns alone", b"GET " + path + b" HTTP/1.1\rHost: a\r\r", None),
        ("line feeds alone", b"GET " + path + b" HTTP/1.1\nHost: a\n\n", None),
        ("an endless first line", b"GET /" + b"a" * 300_000, (431,)),
        ("an endless header", b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000, (431,)),
        ("headers without end", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 60_000, (431,)),
    ):
        hidden = HIDDEN if expect in (REFUSED, (505,), (400, 505)) else b""
        yield Case(name, (data + hidden, Read()), expect, quick=name in {"noise", "HTTP/0.9", "an endless header"})
    for name, lines, expect in (
        ("200 KB of one header", ["X: " + "a" * 200_000], (431,)),
        ("10000 headers", ["X: y"] * 10_000, (431,)),
        ("two hosts", ["Host: other"], REFUSED),
        ("the same host twice", ["Host: localhost"], REFUSED),
        ("two hosts in different cases", ["hOST: localhost"], REFUSED),
        ("a host and one with a space before its colon", ["Host : other"], REFUSED),
        ("a host in a fold", ["X: y", "\tHost: other"], None),
        ("a space before the colon", ["X : y"], REFUSED),
        ("a space before the name", [" X: y"], None),
        ("a fold", ["X: a", " b"], None),
        ("a fold first", [" b"], None),
        ("no name", [": y"], REFUSED),
        ("no colon", ["nonsense"], REFUSED),
        ("a name that is no token", ["X(y): z"], REFUSED),
        ("a NUL in a name", ["X\0: y"], REFUSED),
        ("a NUL in a value", ["X: a\0b"], REFUSED),
        ("a carriage return in a value", ["X: a\rb"], REFUSED),
        ("a request hidden in a value", ["X: a\rGET /hidden HTTP/1.1"], REFUSED),
        ("control characters in a value", ["X: \x01\x02\x7f"], None),
        ("bytes above ASCII in a value", ["X: \xff\xfe\x80"], None),
        ("bytes above ASCII in a name", ["X\xff: y"], REFUSED),
        ("an upgrade to nonsense", ["Connection: upgrade", "Upgrade: \xff, foo/2"], None),
        ("an expectation that nobody knows", ["Expect: nonsense"], None),
    ):
        yield Case(
            name,
            (head(*lines) + (HIDDEN if expect == REFUSED else b""), Read(0.5)),
            expect,
            quick=name in {"two hosts", "a NUL in a value"},
        )
    for name, host in (
        ("a space in the host", "a b"),
        ("a path in the host", "a/b"),
        ("a user in the host", "user@a"),
        ("half an IPv6 host", "[::1"),
        ("bytes above ASCII in the host", "\xff"),
    ):
        yield Case(name, (head(f"Host: {host}", host=False) + HIDDEN, Read()), REFUSED)
    yield Case("no host", (head(host=False) + HIDDEN, Read()), REFUSED, quick=True)
    no_host_at_all = head(host=False, first=b"GET http://localhost" + path + b" HTTP/1.1")
    yield Case("no host but that of the target", (no_host_at_all + HIDDEN, Read()), REFUSED)
    yield Case("no host in HTTP/1.0", (head(host=False, first=b"GET " + path + b" HTTP/1.0"), Read()), None)
    for name, target, expect in (
        ("half an IPv6 address as target", b"http://[::1", REFUSED),
        ("a URL with a user as target", b"http://user@test/", REFUSED),
        ("a URL without host as target", b"http://", REFUSED),
        ("another scheme as target", b"gopher://test/", REFUSED),
        ("a fragment", path + b"#x", REFUSED),
        ("no slash", b"nowhere", REFUSED),
        ("an asterisk", b"*", REFUSED),
        ("bytes above ASCII in the path", b"/\xff\xfe", REFUSED),
        ("a NUL in the path", b"/\0", REFUSED),
        ("escaped nonsense in the path", b"/%00%ff%zz%", None),
        ("a way up", b"/../../../../etc/passwd", None),
        ("a path of slashes", b"/" * 5000, None),
        ("a query of ampersands", path + b"?" + b"&" * 5000, None),
        ("a path of 200 KB", b"/" + b"a" * 200_000, (431,)),
    ):
        hidden = HIDDEN if expect == REFUSED else b""
        steps = (head(first=b"GET " + target + b" HTTP/1.1") + hidden, Read(0.5))
        yield Case(name, steps, expect, quick=name == "half an IPv6 address as target")
    yield Case("CONNECT", (head(first=b"CONNECT a:1 HTTP/1.1"), HIDDEN, Read()), (405,), quick=True)
    yield Case("CONNECT to a path", (head(first=b"CONNECT / HTTP/1.1"), Read()), (405,))
    yield Case("OPTIONS of everything", (head(first=b"OPTIONS * HTTP/1.1"), Read(0.5)), None)
    yield Case("TRACE", (head("X: secret", first=b"TRACE / HTTP/1.1"), Read(0.5)), None)
    yield Case("a method of 50 KB", (head(first=b"A" * 50_000 + b" / HTTP/1.1"), Read(0.5)), None)
