"""Calls to instances that behave badly, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from functools import partial

import pytest
import trio
import trio.lowlevel

from uait.calls import Calls
from uait.calls.resilience import BreakerState, RetryBudget
from uait.errors import NotFound, Unavailable, UpstreamError

SOON = 5.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """A TCP server that plays its script for every request that arrives, and counts."""

    def __init__(self, script):
        self.script = script
        self.connections = 0
        self.requests = []
        self.left = trio.Event()

    async def __call__(self, stream):
        self.connections += 1
        try:
            async with stream:
                while data := await stream.receive_some():
                    self.requests.append(bytes(data))
                    await self.script(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.left.set()


def says(*parts: bytes, close: bool = False):
    async def script(stream):
        for part in parts:
            await stream.send_all(part)
            await trio.sleep(0.01)
        if close:
            await stream.aclose()

    return script


async def hangs(stream):
    await trio.sleep_forever()


@pytest.fixture
def listen(nursery):
    """Starts a server that plays a script."""

    async def listen(script):
        server = Server(script)
        [listener] = await nursery.start(partial(trio.serve_tcp, server, 0, host="127.0.0.1"))
        server.address = ("127.0.0.1", listener.socket.getsockname()[1])
        return server

    return listen


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@pytest.fixture
def client_of(directory, discovery_of):
    """A client for the service `echo`, whose instances are these."""

    @contextlib.asynccontextmanager
    async def client_of(*addresses):
        directory.apps["discovery"] = discovery_of({"echo": list(addresses)})
        async with Calls(directory, caller="test") as calls:
            yield calls.client("echo")

    return client_of


async def test_a_connection_is_kept_for_the_next_call(listen, client_of):
    server = await listen(says(OK))
    async with client_of(server.address) as client:
        for _ in range(3):
            assert await client.get_json("/") == {}
    assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_kept_connection_that_was_closed_is_not_used(listen, client_of):
    server = await listen(says(OK, close=True))
    async with client_of(server.address) as client:
        for _ in range(3):
            server.left = trio.Event()
            assert await client.post_json("/", {}) == {}
            with trio.fail_after(SOON):
                await server.left.wait()
            await trio.testing.wait_all_tasks_blocked()  # the news is on its way through the kernel
    assert (server.connections, len(server.requests)) == (3, 3)


async def test_leaving_closes_what_is_kept(listen, client_of):
    server = await listen(says(OK))
    async with client_of(server.address) as client:
        await client.get_json("/")
        assert not server.left.is_set()
    with trio.fail_after(SOON):
        await server.left.wait()


async def test_an_answer_that_is_left_early_has_its_connection_closed(listen, client_of):
    server = await listen(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
    async with client_of(server.address) as client:
        async with client.stream("GET", "/") as response:
            assert await anext(response.stream) == b"half"
        with trio.fail_after(SOON):
            await server.left.wait()


@pytest.mark.parametrize(
    "parts",
    [
        [OK],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{", b"}"],
        [b"HTTP/1.0 200 OK\r\n\r\n{", b"}"],
        [bytes([byte]) for byte in OK],
    ],
    ids=["length", "interim answers", "chunks", "until close", "HTTP/1.0", "byte by byte"],
)
async def test_every_way_to_frame_an_answer(listen, client_of, parts):
    server = await listen(says(*parts, close=True))
    async with client_of(server.address) as client:
        with trio.fail_after(SOON):
            assert await client.get_json("/") == {}


@pytest.mark.parametrize(
    "parts",
    [
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"],
        [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000],
        [b"HTTP/1.1 200 O"],
        [],
    ],
    ids=[
        "not HTTP",
        "bad length",
        "short body",
        "bad chunk",
        "short chunk",
        "endless head",
        "short head",
        "nothing",
    ],
)
async def test_every_broken_answer_is_an_upstream_error(listen, client_of, parts):
    server = await listen(says(*parts, close=True))
    async with client_of(server.address) as client:
        with trio.fail_after(SOON), pytest.raises(UpstreamError):
            await client.post_json("/", {})
    assert len(server.requests) == 1


async def test_an_answer_over_the_limit_is_refused(listen, client_of, monkeypatch):
    monkeypatch.setattr("uait.calls.client.ANSWER_BYTES", 100)
    server = await listen(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000))
    async with client_of(server.address) as client:
        with pytest.raises(UpstreamError, match="larger than 100 bytes"):
            await client.get_json("/")


@pytest.mark.parametrize("length", ["5", "50"])
async def test_a_body_that_is_not_as_long_as_it_says_is_not_sent_on(listen, client_of, length):
    closed = False

    async def parts():
        nonlocal closed
        try:
            yield b"<1>"
            yield b"<2>"
        finally:
            closed = True

    server = await listen(hangs)
    async with client_of(server.address) as client:
        with trio.fail_after(SOON), pytest.raises(ValueError, match="than its Content-Length"):
            await client.request("POST", "/", content=parts(), headers={"Content-Length": length})
    assert closed
    assert b"<2>" not in b"".join(server.requests) or length == "50"


async def test_an_answer_before_the_end_of_the_body_costs_the_connection(listen, client_of):
    async def parts():
        yield b"1"
        await trio.sleep_forever()

    server = await listen(says(OK))
    async with client_of(server.address) as client:
        assert (await client.request("POST", "/", content=parts())).json() == {}
        assert await client.get_json("/") == {}
    assert server.connections == 2


# Which instance


async def test_a_service_that_nobody_knows_is_not_found(client_of, directory):
    async with client_of() as client, Calls(directory, caller="test") as calls:
        with pytest.raises(NotFound) as caught:
            await calls.client("unknown").get_json("/")
        assert caught.value.error_code == "SERVICE_NOT_FOUND"
        with pytest.raises(Unavailable):
            await client.get_json("/")


async def test_without_a_discovery_there_are_only_local_services(directory):
    async with Calls(directory, caller="test") as calls:
        for name in ("echo", "discovery"):
            with pytest.raises(NotFound):
                await calls.client(name).get_json("/")


async def test_nobody_there_is_unavailable_and_says_when_to_come_back(client_of, nobody):
    async with client_of(nobody) as client:
        with pytest.raises(Unavailable, match="cannot be reached") as caught:
            await client.get_json("/")
    assert int(caught.value.headers["Retry-After"]) >= 1


async def test_what_was_not_sent_goes_to_the_next_instance(listen, client_of, nobody):
    server = await listen(says(OK))
    async with client_of(nobody, server.address) as client:
        assert await client.post_json("/", {}) == {}

        async def parts():
            yield b"one"

        assert (await client.request("POST", "/", content=parts())).json() == {}


async def test_what_nobody_can_have_seen_is_sent_again(listen, client_of, monkeypatch):
    async def answers_and_resets(stream):
        await stream.send_all(OK)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()

    server = await listen(answers_and_resets)
    # As if the news came just then.
    monkeypatch.setattr("uait.calls.http1.Connection.quiet", lambda self: True)
    async with client_of(server.address) as client:
        for _ in range(2):
            assert await client.post_json("/", {}) == {}
            await trio.sleep(0.02)
    assert (server.connections, len(server.requests)) == (2, 2)


async def test_what_may_be_repeated_goes_to_the_next_instance_after_a_break(listen, client_of):
    broken, well = await listen(says(close=True)), await listen(says(OK))
    async with client_of(broken.address, well.address) as client:
        assert await client.get_json("/") == {}
    assert (len(broken.requests), len(well.requests)) == (1, 1)


async def test_what_may_not_be_repeated_is_not(listen, client_of):
    broken, well = await listen(says(close=True)), await listen(says(OK))

    async def parts():
        yield b"one"

    async with client_of(broken.address, well.address) as client:
        with pytest.raises(UpstreamError, match="without an answer"):
            await client.post_json("/", {})
    async with client_of(broken.address, well.address) as client:
        with pytest.raises(UpstreamError, match="without an answer"):
            await client.request("PUT", "/", content=parts())
    assert len(well.requests) == 0


async def test_retries_end_with_the_budget(listen, client_of):
    broken = await listen(says(close=True))
    async with client_of(broken.address) as client:
        client._calls.remote._budgets._make = lambda name: RetryBudget(ratio=0, reserve=0, most=1)
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await client.get_json("/")
    assert len(broken.requests) == 3  # two calls, one retry


async def test_an_instance_that_keeps_failing_is_left_alone_for_a_while(listen, client_of, mock_clock):
    broken = await listen(says(close=True))
    async with client_of(broken.address) as client:
        for _ in range(5):
            with pytest.raises(UpstreamError):
                await client.post_json("/", {})
        with pytest.raises(Unavailable, match="fails too often"):
            await client.post_json("/", {})
        assert len(broken.requests) == 5
        broken.script = says(OK)
        mock_clock.jump(2)
        assert await client.post_json("/", {}) == {}


async def test_an_instance_that_answers_for_others_who_do_not_is_left_alone_too(listen, client_of):
    broken = await listen(says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
    async with client_of(broken.address) as client:
        for _ in range(6):
            with pytest.raises(Unavailable):
                await client.post_json("/", {})
    assert len(broken.requests) == 5


async def test_a_retry_waits_and_a_call_pays_for_retries_once(listen, client_of, monkeypatch):
    waits = []
    monkeypatch.setattr("uait.calls.remote.full_jitter", lambda attempt: waits.append(attempt) or 0)
    broken = await listen(says(close=True))
    async with client_of(broken.address) as client:
        budget = client._calls.remote._budgets.get("echo")
        budget.reserve, budget._balance = 0, 5.0
        with pytest.raises(UpstreamError):
            await client.get_json("/")
        assert budget.balance == pytest.approx(5.0 + budget.ratio - 2)
    assert waits == [1, 2]


@pytest.mark.parametrize("size", [0, 20_000_000], ids=["no body", "a body that is not read"])
async def test_only_slow_instances_are_blamed_for_callers_that_leave(listen, client_of, mock_clock, size):
    server = await listen(hangs)
    async with client_of(server.address) as client:

        async def call_for(seconds: float) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(client.request, "PUT", "/", content=b"x" * size))
                while len(server.requests) < calls:
                    await trio.lowlevel.checkpoint()
                mock_clock.jump(seconds)
                nursery.cancel_scope.cancel(reason="the caller left")

        calls = 0
        for _ in range(6):
            calls += 1
            await call_for(0.1)
        instance = client._calls.remote._instances.get(server.address)
        assert instance.breaker.state is BreakerState.CLOSED
        for _ in range(5):
            calls += 1
            await call_for(10)
        assert instance.breaker.state is BreakerState.OPEN


async def test_what_hangs_is_not_waited_for_by_too_many(listen, client_of):
    server = await listen(hangs)
    async with client_of(server.address) as client:
        bulkhead = client._calls.remote._instances.get(server.address).bulkhead
        bulkhead._limiter.total_tokens, bulkhead.queue = 2, 1
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client.get_json, "/")
            with trio.fail_after(SOON):
                while len(server.requests) < 2:
                    await trio.sleep(0.01)
            with pytest.raises(Unavailable, match="too many calls waiting"):
                await client.get_json("/")
            nursery.cancel_scope.cancel(reason="done")


async def test_answers_under_way_take_nobodys_place(listen, client_of):
    server = await listen(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
    async with client_of(server.address) as client:
        bulkhead = client._calls.remote._instances.get(server.address).bulkhead
        bulkhead._limiter.total_tokens, bulkhead.queue = 1, 0
        with trio.fail_after(SOON):
            async with client.stream("GET", "/"), client.stream("GET", "/"):
                pass


async def test_only_so_many_are_remembered(client_of, monkeypatch):
    monkeypatch.setattr("uait.calls.remote.REMEMBERED", 3)
    async with client_of() as client:
        records = client._calls.remote._instances
        first = records.get(("a", 1))
        for name in "bc":
            records.get((name, 1))
        assert records.get(("a", 1)) is first
        records.get(("d", 1))
        assert records.get(("a", 1)) is first
        assert len(records._records) == 3


async def test_an_instance_without_an_address_is_discoverys_fault(directory, answer):
    directory.apps["discovery"] = answer(200, {"name": "echo"})
    async with Calls(directory, caller="test") as calls:
        with pytest.raises(UpstreamError, match="without an address"):
            await calls.client("echo").get_json("/")


async def test_an_address_that_is_none_is_nobody(directory, answer):
    directory.apps["discovery"] = answer(200, {"address": "no such host.invalid", "port": 1})
    async with Calls(directory, caller="test") as calls:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await calls.client("echo").get_json("/")
