from __future__ import annotations

import contextlib
import itertools
import math
import ssl

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from uait.services.discovery.checks import Checker, judge_status, probe
from uait.services.discovery.model import Check, Health, Registration, instance_of


@pytest.mark.parametrize(
    ("status", "health"),
    [(200, "passing"), (204, "passing"), (302, "critical"), (404, "critical"), (429, "warning"), (503, "critical")],
)
def test_a_status_says_how_it_is(status, health):
    assert judge_status(status)[0] == health


@pytest.fixture
async def answering(nursery):
    """Starts a server that answers every connection with the given bytes, and gives its port and what it was asked."""

    async def start(answer: bytes, *, hang=False):
        asked = []

        async def handle(stream):
            asked.append(await stream.receive_some(10_000))
            await stream.send_all(answer)
            if hang:
                await trio.sleep_forever()

        [listener, *_] = await nursery.start(trio.serve_tcp, handle, 0)
        return listener.socket.getsockname()[1], asked

    return start


async def test_an_http_check_asks_once_and_believes_the_status(answering):
    port, asked = await answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert await probe(Check(http=f"http://127.0.0.1:{port}/health?deep=1")) == (Health.PASSING, "HTTP 200")
    head = asked[0].split(b"\r\n")
    assert head[0] == b"GET /health?deep=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}".encode() in head


async def test_a_redirect_is_not_followed(answering):
    target, asked = await answering(b"HTTP/1.1 200 OK\r\n\r\n")
    port, _ = await answering(f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{target}/\r\n\r\n".encode())

    assert (await probe(Check(http=f"http://127.0.0.1:{port}/")))[0] is Health.CRITICAL
    assert asked == []


async def test_a_body_without_end_is_not_read(nursery):
    sent = 0

    async def flood(stream):
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                await stream.send_all(b"x" * 65536)
                sent += 65536
        except trio.BrokenResourceError:
            pass

    [listener, *_] = await nursery.start(trio.serve_tcp, flood, 0)
    port = listener.socket.getsockname()[1]
    with trio.fail_after(10):
        assert (await probe(Check(http=f"http://127.0.0.1:{port}/")))[0] is Health.PASSING


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"x" * 5000, b"HTTP/1.1 OK\r\n"])
async def test_an_answer_that_is_not_http_is_a_failure(answering, answer):
    port, _ = await answering(answer)

    assert await probe(Check(http=f"http://127.0.0.1:{port}/")) == (Health.CRITICAL, "the answer is not HTTP")


async def test_silence_is_a_failure_at_the_timeout(answering):
    port, _ = await answering(b"HTTP/1.1 ", hang=True)

    assert await probe(Check(http=f"http://127.0.0.1:{port}/", timeout=0.05)) == (
        Health.CRITICAL,
        "no answer within 0.05 s",
    )


async def test_a_tcp_check_connects(answering):
    port, _ = await answering(b"")

    assert await probe(Check(tcp=f"127.0.0.1:{port}")) == (Health.PASSING, "connected")
    assert (await probe(Check(tcp=f"localhost:{port}")))[0] is Health.PASSING


@pytest.mark.parametrize(
    "check",
    [
        Check(tcp="127.0.0.1:1"),
        Check(http="http://127.0.0.1:1/"),
        Check(tcp="127.0.0.1:99999"),
        Check(http="http://127.0.0.1:99999/"),
        Check(http="http://[::1/"),
        Check(http="http://a..b/"),
        Check(tcp="..:1"),
        Check(tcp="[::1:1"),
        Check(tcp="x" * 290 + ":1"),
    ],
)
async def test_what_cannot_be_reached_is_critical_and_never_an_exception(check):
    with trio.fail_after(30):
        health, note = await probe(check)

    assert health is Health.CRITICAL
    assert "127.0.0.1" not in note


async def test_tls_is_checked(nursery):
    async def handle(stream):
        try:
            await stream.receive_some(100)
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        except trio.BrokenResourceError:
            pass

    [listener, *_] = await nursery.start(trio.serve_tcp, handle, 0)
    port = listener.socket.getsockname()[1]

    health, _ = await probe(Check(http=f"https://127.0.0.1:{port}/"))
    assert health is Health.CRITICAL
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


class Field:
    """Instances that a Checker checks, under a clock that jumps."""

    def __init__(self, limit=2):
        self.instances = {}
        self.begun: list[tuple[str, float]] = []
        self.reports: list[tuple[str, str]] = []
        self.under_way = self.most = 0
        self.takes = 0.0
        self.checker = Checker(self.report, self.instances.get, limit, probe=self.probe)

    def add(self, instance_id, **check):
        given = Registration(
            id=instance_id, name="n", address="x", port=1, check=Check(http=f"http://{instance_id}/", **check)
        )
        self.instances[instance_id] = instance_of(given)
        self.checker.watch(self.instances[instance_id])

    async def probe(self, check):
        self.begun.append((check.http, trio.current_time()))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await trio.sleep(self.takes)
        self.under_way -= 1
        return Health.PASSING, ""

    async def report(self, instance_id, health, note):
        self.reports.append((instance_id, health))


async def test_a_check_says_nothing_about_an_instance_that_has_moved_meanwhile(autojump_clock, nursery):
    field = Field()
    field.takes = 5
    field.add("old", interval=60)
    nursery.start_soon(field.checker.run)
    await trio.sleep(2)
    moved = Registration(id="old", name="n", address="y", port=1, check=Check(http="http://new/", interval=60))
    field.instances["old"] = instance_of(moved)
    field.checker.watch(field.instances["old"])
    await trio.sleep(5)
    assert field.reports == []
    await trio.sleep(6)
    assert [url for url, _ in field.begun] == ["http://old/", "http://new/"]
    assert len(field.reports) == 1


async def test_each_is_checked_soon_and_then_at_its_interval(autojump_clock, nursery):
    field = Field()
    nursery.start_soon(field.checker.run)
    field.add("slow", interval=100)
    field.add("fast", interval=10)

    await trio.sleep(1)
    assert sorted(field.reports) == [("fast", "passing"), ("slow", "passing")]
    await trio.sleep(200)
    fast = [at for url, at in field.begun if "fast" in url]
    assert 18 <= len(fast) <= 23
    pauses = {round(later - earlier, 3) for earlier, later in itertools.pairwise(fast)}
    assert all(9 <= pause <= 11 for pause in pauses)
    assert len(pauses) > 1, "checks march in step"


async def test_a_bounded_number_of_checks_is_under_way(autojump_clock, nursery):
    field = Field(limit=3)
    field.takes = 5
    nursery.start_soon(field.checker.run)
    for number in range(30):
        field.add(str(number), interval=1000)

    await trio.sleep(200)
    assert field.most == 3
    assert len({instance_id for instance_id, _ in field.reports}) == 30


async def test_one_instance_has_one_check_at_a_time(autojump_clock, nursery):
    field = Field(limit=9)
    field.takes = 60
    nursery.start_soon(field.checker.run)
    field.add("one", interval=1)
    await trio.sleep(30)
    field.add("one", interval=1)
    await trio.sleep(20)

    assert field.most == 1


async def test_who_is_gone_is_not_checked(autojump_clock, nursery):
    field = Field()
    nursery.start_soon(field.checker.run)
    field.add("one", interval=10)
    await trio.sleep(1)
    del field.instances["one"]
    field.checker.forget("one")

    await trio.sleep(1000)
    assert len(field.begun) == 1


async def test_nothing_to_check_is_nothing_to_do(autojump_clock, nursery):
    field = Field()
    nursery.start_soon(field.checker.run)
    await wait_all_tasks_blocked()

    assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf


async def test_a_certificate_that_nobody_trusts_is_named_as_the_reason(nursery):
    async def handle(stream):
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some(100)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    [listener, *_] = await nursery.start(trio.serve_ssl_over_tcp, handle, 0, context)
    port = listener.transport_listener.socket.getsockname()[1]

    found = await probe(Check(http=f"https://127.0.0.1:{port}/"))

    assert found == (Health.CRITICAL, "no trusted TLS connection")
