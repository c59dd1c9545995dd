"""What only a call without a socket has: the same task tree."""

from __future__ import annotations

import pytest
import trio

from uait.calls import CallContext, Calls, Identity, bind_call
from uait.calls.context import SCOPE_KEY
from uait.calls.standing import SCOPE_KEY as VOUCH
from uait.calls.standing import Standing
from uait.errors import InternalError, UpstreamError
from uait.server.disconnect import SCOPE_KEY as DISCONNECT


@pytest.fixture
def client_of(directory):
    def client_of(app):
        directory.apps["echo"] = app
        return Calls(directory, caller="test").client("echo")

    return client_of


async def test_the_app_gets_the_call_in_its_scope(client_of, respond):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)
        await respond(send, 200, None)

    call = CallContext("req-1", Identity("me", authenticated=True))
    with bind_call(call):
        await client_of(app).get_json("/")
    assert seen[SCOPE_KEY] == call


async def test_the_apps_deadline_is_the_callers(client_of, respond, mock_clock):
    async def app(scope, receive, send):
        await respond(send, 200, trio.current_effective_deadline() - trio.current_time())

    client = client_of(app)
    with trio.fail_after(7):
        assert await client.get_json("/") == 7
        async with client.stream("GET", "/") as response:
            assert await response.aread() == b"7.0"
    assert (await client.request("GET", "/", timeout=3)).json() == 3


async def test_the_app_is_told_of_the_clients_end_before_it_is_cancelled(client_of):
    events = []

    async def app(scope, receive, send):
        scope[DISCONNECT].add(lambda: events.append("told"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            events.append("cancelled")
            raise

    async with client_of(app).stream("GET", "/"):
        assert events == []
    assert events == ["told", "cancelled"]


async def test_the_block_ends_only_after_the_app_has(client_of, autojump_clock):
    ended = False

    async def app(scope, receive, send):
        nonlocal ended
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
                ended = True

    async with client_of(app).stream("GET", "/"):
        pass
    assert ended


async def test_receive_gives_the_disconnect_after_the_answer(client_of):
    received = []

    async def app(scope, receive, send):
        received.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        received.append(await receive())

    assert (await client_of(app).request("POST", "/", content=b"abc")).content == b"x"
    assert received == [
        {"type": "http.request", "body": b"abc", "more_body": False},
        {"type": "http.disconnect"},
    ]


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b"x"}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
        [{"type": "websocket.accept"}],
    ],
)
async def test_an_app_that_breaks_the_protocol_is_told_and_fails(client_of, messages):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    with pytest.raises((InternalError, UpstreamError)) as caught:
        await client_of(app).get_json("/")
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_an_app_that_returns_without_an_answer(client_of):
    async def app(scope, receive, send):
        pass

    with pytest.raises(InternalError, match="echo ended without an answer"):
        await client_of(app).get_json("/")


async def test_a_crash_is_logged_where_it_happened_and_kept_as_the_cause(client_of, caplog):
    async def app(scope, receive, send):
        raise ZeroDivisionError("mine")

    with pytest.raises(InternalError) as caught:
        await client_of(app).get_json("/")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    [record] = caplog.records
    assert record.name == "uait.echo"
    assert isinstance(record.exc_info[1], ZeroDivisionError)


@pytest.mark.parametrize("way", ["request", "stream"])
async def test_a_crash_of_a_cancelled_app_is_none_of_the_caller(client_of, caplog, autojump_clock, way):
    async def fail_at_the_end():
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError("mine")

    async def app(scope, receive, send):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_at_the_end)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await trio.sleep_forever()

    client = client_of(app)
    with trio.move_on_after(1) as scope:
        if way == "request":
            await client.get_json("/")
        async with client.stream("GET", "/") as answer:
            assert answer.status_code == 200
    assert scope.cancelled_caught == (way == "request")
    [record] = caplog.records
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_an_answer_over_the_limit_is_refused(client_of, respond, monkeypatch):
    monkeypatch.setattr("uait.calls.client.ANSWER_BYTES", 10)

    async def app(scope, receive, send):
        await respond(send, 200, b"12345678901")

    with pytest.raises(UpstreamError, match="larger than 10 bytes"):
        await client_of(app).get_json("/")


async def test_an_app_that_goes_on_over_the_limit_is_told_each_time(client_of, monkeypatch, caplog):
    monkeypatch.setattr("uait.calls.client.ANSWER_BYTES", 10)
    seen = []

    async def app(scope, receive, send):
        scope[DISCONNECT].add(lambda: seen.append("disconnect"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            try:
                await send({"type": "http.response.body", "body": b"1234567", "more_body": True})
            except OSError:
                seen.append("broken")
        raise OSError  # as most apps would

    with pytest.raises(UpstreamError, match="larger than 10 bytes"):
        await client_of(app).get_json("/")
    assert seen == ["disconnect", "broken", "broken"]
    assert not caplog.records  # the app is not to blame


@pytest.mark.parametrize("way", ["request", "stream"])
async def test_a_body_that_fails_never_looks_complete(client_of, respond, way):
    seen = []

    async def body():
        yield b"half"
        raise ZeroDivisionError

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request":
            seen.append((message["body"], message["more_body"]))
        seen.append((await receive())["type"])
        await respond(send, 200, {})

    client = client_of(app)
    with pytest.raises(ZeroDivisionError):
        if way == "request":
            await client.request("POST", "/", content=body())
        else:
            async with client.stream("POST", "/", content=body()):
                pass
    assert seen == [(b"half", True), *(["http.disconnect"] if way == "request" else [])]


async def test_a_body_whose_generator_was_cancelled_never_looks_complete(client_of, respond, autojump_clock):
    async def body():
        yield b"begun"
        await trio.sleep(2)
        yield b"and the rest"

    async def app(scope, receive, send):
        await receive()
        with trio.move_on_after(1):
            await receive()
        await respond(send, 200, (await receive())["type"])

    answer = await client_of(app).request("POST", "/", content=body())
    assert answer.json() == "http.disconnect"


async def test_what_is_no_exception_goes_through(client_of):
    async def app(scope, receive, send):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await client_of(app).get_json("/")


async def test_an_app_can_vouch_for_its_answer(client_of, respond):
    vouched = Standing()

    async def app(scope, receive, send):
        if scope["path"] == "/vouched":
            scope[VOUCH].standing = vouched
        await respond(send, 200, 7)

    assert await client_of(app).get_standing("/vouched") == (7, vouched)
    assert await client_of(app).get_standing("/") == (7, None)
