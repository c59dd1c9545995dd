"""A call does the same in one process and over HTTP: every test here runs both ways."""

from __future__ import annotations

import contextvars
import logging

import httpx
import orjson
import pytest
import trio

from uait.calls import CallContext, Identity, bind_call
from uait.errors import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    InternalError,
    NotFound,
    TooManyRequests,
    UpstreamError,
    ValidationFailed,
)

SOON = 5.0


@pytest.fixture
def mirror(respond):
    """Answers with what it was asked."""

    async def app(scope, receive, send):
        body = b""
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await respond(
            send,
            200,
            {
                "method": scope["method"],
                "path": scope["path"],
                "raw_path": scope["raw_path"].decode(),
                "query": scope["query_string"].decode(),
                "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
                "body": body.decode(),
            },
        )

    return app


async def start(send, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def chunk(send, body, more=True):
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def read_all(receive):
    while (await receive()).get("more_body"):
        pass


# Requests


async def test_a_get_carries_its_path_and_query(connect, mirror):
    async with connect(mirror) as client:
        seen = await client.get_json("/a%2Fb/c d/é?x=1", {"tag": ["one", "two&"], "limit": 3})
    assert seen["method"] == "GET"
    assert seen["raw_path"] == "/a%2Fb/c%20d/%C3%A9"
    assert seen["path"] == "/a/b/c d/é"
    assert httpx.QueryParams(seen["query"]) == httpx.QueryParams("x=1&tag=one&tag=two%26&limit=3")
    assert seen["body"] == ""


@pytest.mark.parametrize("method", ["post", "put", "patch"])
async def test_json_goes_out_as_json(connect, mirror, method):
    async with connect(mirror) as client:
        seen = await getattr(client, f"{method}_json")("/things", {"text": "grüß dich", "none": None})
    assert seen["method"] == method.upper()
    assert orjson.loads(seen["body"]) == {"text": "grüß dich", "none": None}
    assert seen["headers"]["content-type"] == "application/json"
    assert seen["headers"]["content-length"] == str(len(seen["body"].encode()))


async def test_a_body_of_bytes_and_own_headers_go_out_as_they_are(connect, mirror):
    async with connect(mirror) as client:
        response = await client.request(
            "POST", "/", content=b"raw", headers={"Content-Type": "text/plain", "X-Own": "ä", "Accept": "*/*"}
        )
    seen = response.json()
    assert seen["body"] == "raw"
    assert (seen["headers"]["content-type"], seen["headers"]["x-own"], seen["headers"]["accept"]) == (
        "text/plain",
        "ä",
        "*/*",
    )


async def test_a_large_body_arrives_whole(connect, mirror):
    text = "0123456789" * 100_000
    async with connect(mirror) as client:
        seen = await client.post_json("/", text)
    assert orjson.loads(seen["body"]) == text


async def test_an_empty_answer_is_none(connect, answer):
    async with connect(answer(200, b"")) as client:
        assert await client.get_json("/") is None
        assert await client.delete("/") is None


async def test_a_204_has_no_body(connect):
    async def app(scope, receive, send):
        await start(send, 204)
        await chunk(send, b"", more=False)

    async with connect(app) as client:
        assert await client.delete("/thing") is None


async def test_head_gives_headers_without_a_body(connect, answer):
    async with connect(answer(200, {"a": 1})) as client:
        response = await client.request("HEAD", "/")
        assert (response.content, response.headers["content-length"]) == (b"", "7")
        assert (await client.get_json("/")) == {"a": 1}


# Identity, ids, trace


async def test_the_callee_learns_who_asks_under_which_id_and_trace(connect, mirror):
    call = CallContext("req-1", Identity("änne", authenticated=True), "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "k=v")
    async with connect(mirror) as client:
        with bind_call(call):
            headers = (await client.get_json("/"))["headers"]
    assert headers["x-request-id"] == "req-1"
    assert headers["x-user-id"] == "änne"
    assert headers["traceparent"] == call.traceparent
    assert headers["tracestate"] == "k=v"
    assert headers["user-agent"] == "uait/test"


async def test_background_work_calls_as_the_local_user_under_a_new_id(connect, mirror):
    async with connect(mirror) as client:
        one, two = [(await client.get_json("/"))["headers"] for _ in range(2)]
    assert one["x-user-id"] == "local"
    assert one["x-request-id"] != two["x-request-id"]
    assert "traceparent" not in one


async def test_context_variables_of_the_caller_stay_with_the_caller(connect, respond):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def app(scope, receive, send):
        seen = variable.get()
        variable.set("callee's")
        await respond(send, 200, seen)

    async with connect(app) as client:
        variable.set("caller's")
        assert await client.get_json("/") == "unset"
        async with client.stream("GET", "/") as response:
            assert orjson.loads(await response.aread()) == "unset"
        assert variable.get() == "caller's"


# Errors


async def test_an_error_comes_out_as_the_one_it_was(connect, answer):
    body = Conflict("Already there.", code="TAKEN", details={"id": 7}).as_dict("req")
    async with connect(answer(409, body)) as client:
        with pytest.raises(Conflict, match=r"Already there\.") as caught:
            await client.post_json("/", {})
    assert (caught.value.error_code, caught.value.details) == ("TAKEN", {"id": 7})


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (404, NotFound), (422, ValidationFailed), (500, InternalError), (504, DeadlineExceeded)],
)
async def test_an_error_without_our_body_still_has_its_class(connect, answer, status, kind):
    async with connect(answer(status, b"<html>")) as client:
        with pytest.raises(kind) as caught:
            await client.get_json("/")
    assert caught.value.http_status == status


async def test_when_to_come_back_is_passed_on(connect, answer):
    async with connect(answer(429, {}, {"retry-after": "17"})) as client:
        with pytest.raises(TooManyRequests) as caught:
            await client.get_json("/")
    assert caught.value.headers["Retry-After"] == "17"


async def test_an_error_can_be_had_as_a_response(connect, answer):
    async with connect(answer(404, {"a": 1})) as client:
        response = await client.request("GET", "/", check=False)
        assert (response.status_code, response.json()) == (404, {"a": 1})
        async with client.stream("GET", "/", check=False) as response:
            assert (response.status_code, await response.aread()) == (404, b'{"a":1}')


async def test_a_stream_that_is_an_error_raises_it(connect, answer):
    async with connect(answer(409, Conflict("Taken.").as_dict())) as client:
        with pytest.raises(Conflict, match=r"Taken\."):
            async with client.stream("GET", "/"):
                raise AssertionError("the block must not run")


async def test_what_is_not_json_is_an_upstream_error(connect, answer):
    async with connect(answer(200, b"hello")) as client:
        with pytest.raises(UpstreamError, match="JSON"):
            await client.get_json("/")


async def test_a_crash_before_the_answer_is_an_internal_error(connect, caplog):
    async def app(scope, receive, send):
        await read_all(receive)
        raise ZeroDivisionError

    caplog.set_level(logging.CRITICAL, "hypercorn.error")
    async with connect(app) as client:
        with pytest.raises(InternalError):
            await client.get_json("/")
        with pytest.raises(InternalError):
            async with client.stream("GET", "/"):
                raise AssertionError("the block must not run")


async def test_a_crash_in_the_middle_breaks_the_answer(connect, caplog):
    async def app(scope, receive, send):
        await read_all(receive)
        await start(send, headers=[(b"content-length", b"100")])
        await chunk(send, b"half")
        raise ZeroDivisionError

    caplog.set_level(logging.CRITICAL, "hypercorn.error")
    async with connect(app) as client:
        with pytest.raises(UpstreamError, match="broke off"):
            await client.get_json("/")
        with pytest.raises(UpstreamError, match="broke off"):
            async with client.stream("GET", "/") as response:
                await response.aread()


async def test_an_exception_of_the_block_comes_out_bare(connect, answer):
    async with connect(answer(200, {})) as client:
        with pytest.raises(LookupError, match="mine"):
            async with client.stream("GET", "/"):
                raise LookupError("mine")


# Time


async def test_the_callee_is_told_what_remains(connect, mirror):
    async with connect(mirror) as client:
        with trio.fail_after(30):
            told = int((await client.get_json("/"))["headers"]["x-request-timeout-ms"])
        assert 1_000 < told <= 30_000
        own = int((await client.request("GET", "/", timeout=20)).json()["headers"]["x-request-timeout-ms"])
        assert 1_000 < own <= 20_000


async def test_without_a_deadline_the_default_counts(connect, mirror):
    async with connect(mirror, timeout=10) as client:
        told = int((await client.get_json("/"))["headers"]["x-request-timeout-ms"])
        assert 1_000 < told <= 10_000


@pytest.fixture
def hanging():
    """Never answers; tells when it began and when it was cancelled."""

    class Hanging:
        def __init__(self):
            self.began, self.ended = trio.Event(), trio.Event()

        async def __call__(self, scope, receive, send):
            await read_all(receive)
            self.began.set()
            try:
                await trio.sleep_forever()
            finally:
                self.ended.set()

    return Hanging()


async def test_out_of_time_is_deadline_exceeded_and_the_work_has_stopped(connect, hanging):
    async with connect(hanging) as client:
        with pytest.raises(DeadlineExceeded, match="echo did not answer in time"):
            await client.request("GET", "/", timeout=0.1)
        with trio.fail_after(SOON):
            await hanging.ended.wait()


async def test_a_stream_without_a_head_is_out_of_time(connect, hanging):
    async with connect(hanging) as client:
        with pytest.raises(DeadlineExceeded):
            async with client.stream("GET", "/", timeout=0.1):
                raise AssertionError("the block must not run")
        with trio.fail_after(SOON):
            await hanging.ended.wait()


async def test_the_body_of_a_stream_may_take_longer_than_the_timeout(connect):
    async def app(scope, receive, send):
        await read_all(receive)
        await start(send)
        await trio.sleep(0.4)
        await chunk(send, b"late", more=False)

    async with connect(app) as client, client.stream("GET", "/", timeout=0.2) as response:
        assert await response.aread() == b"late"


async def test_the_callers_own_deadline_stays_the_callers(connect, hanging):
    async with connect(hanging) as client:
        with trio.move_on_after(0.1) as scope:
            await client.get_json("/")
        assert scope.cancelled_caught
        with trio.fail_after(SOON):
            await hanging.ended.wait()


# Cancellation


async def test_a_caller_that_is_cancelled_stops_the_callee(connect, hanging):
    async with connect(hanging) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.get_json, "/")
            with trio.fail_after(SOON):
                await hanging.began.wait()
            nursery.cancel_scope.cancel(reason="the caller left")
        with trio.fail_after(SOON):
            await hanging.ended.wait()
        if connect.local:
            assert hanging.ended.is_set()


@pytest.fixture
def endless():
    """Sends without end; counts what was taken, and tells when it was cancelled."""

    class Endless:
        def __init__(self):
            self.sent, self.ended = 0, trio.Event()

        async def __call__(self, scope, receive, send):
            await read_all(receive)
            await start(send)
            try:
                while True:
                    await chunk(send, b"x" * 65536)
                    self.sent += 1
            finally:
                self.ended.set()

    return Endless()


async def test_leaving_the_block_early_stops_the_callee(connect, endless):
    async with connect(endless) as client:
        async with client.stream("GET", "/") as response:
            async for _ in response.stream:
                break
        if connect.local:
            assert endless.ended.is_set()
        with trio.fail_after(SOON):
            await endless.ended.wait()


async def test_a_reader_that_waits_holds_the_callee_back(connect, endless):
    async with connect(endless) as client, client.stream("GET", "/"):
        before = -1
        with trio.fail_after(SOON):
            while endless.sent > before:  # until it has stopped moving
                before = endless.sent
                await trio.sleep(0.2)
        assert endless.sent < 500
        if connect.local:
            assert endless.sent == 0


# Streams


async def test_an_answer_comes_as_it_is_sent(connect):
    go_on = trio.Event()

    async def app(scope, receive, send):
        await read_all(receive)
        await start(send, headers=[(b"content-type", b"text/event-stream")])
        await chunk(send, b"one")
        await go_on.wait()
        await chunk(send, b"two", more=False)

    async with connect(app) as client, client.stream("GET", "/") as response:
        assert response.headers["content-type"] == "text/event-stream"
        pieces = response.aiter_bytes()
        with trio.fail_after(SOON):
            assert await anext(pieces) == b"one"
            go_on.set()
            assert [piece async for piece in pieces] == [b"two"]


async def test_a_body_goes_out_as_it_comes(connect):
    send_part, receive_part = trio.open_memory_channel(0)
    arrived_send, arrived = trio.open_memory_channel(10)

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                await arrived_send.send(message["body"])
        await start(send)
        await chunk(send, b"ok", more=False)

    async with connect(app) as client, trio.open_nursery() as nursery:

        async def call():
            async with client.stream("POST", "/", content=receive_part) as response:
                assert await response.aread() == b"ok"

        nursery.start_soon(call)
        with trio.fail_after(SOON):
            for part in (b"one", b"two"):
                await send_part.send(part)
                assert await arrived.receive() == part
            await send_part.aclose()


async def test_both_ways_at_once(connect):
    async def app(scope, receive, send):
        await start(send)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                await chunk(send, message["body"].upper())
        await chunk(send, b"", more=False)

    to_send, sending = trio.open_memory_channel(0)
    async with connect(app) as client, client.stream("POST", "/", content=sending) as response:
        pieces = response.aiter_bytes()
        with trio.fail_after(SOON):
            for word in (b"one", b"two", b"three"):
                await to_send.send(word)
                assert await anext(pieces) == word.upper()
            await to_send.aclose()
            assert [piece async for piece in pieces] == []


async def test_more_both_ways_than_fits_anywhere(connect):
    async def app(scope, receive, send):
        await start(send)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await chunk(send, message["body"], more=more)

    async def parts():
        for _ in range(200):
            yield b"x" * 65536

    size = 0
    async with connect(app) as client, client.stream("POST", "/", content=parts()) as response:
        with trio.fail_after(30):
            async for piece in response.aiter_bytes():
                size += len(piece)
    assert size == 200 * 65536


async def test_an_answer_can_come_before_the_body_was_taken(connect, answer):
    async def parts():
        while True:
            yield b"x" * 65536

    async with connect(answer(409, Conflict("No.").as_dict())) as client:
        with trio.fail_after(SOON), pytest.raises(Conflict, match=r"No\."):
            await client.request("POST", "/", content=parts())


async def test_what_the_body_raises_is_raised_to_the_caller(connect):
    begun, ended = trio.Event(), trio.Event()

    async def app(scope, receive, send):
        begun.set()
        try:
            await read_all(receive)
        finally:
            ended.set()
        raise AssertionError("the body has no end")

    async def parts():
        yield b"one"
        await begun.wait()
        raise LookupError("mine")

    async with connect(app) as client:
        with pytest.raises(LookupError, match="mine"):
            await client.request("POST", "/", content=parts())
        with trio.fail_after(SOON):
            await ended.wait()


async def test_a_body_that_nobody_took_is_closed(connect, hanging):
    closed = trio.Event()

    async def parts():
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    async def app(scope, receive, send):
        await receive()
        await trio.sleep_forever()

    async with connect(app) as client:
        with pytest.raises(DeadlineExceeded):
            await client.request("POST", "/", content=parts(), timeout=0.2)
        assert closed.is_set()
