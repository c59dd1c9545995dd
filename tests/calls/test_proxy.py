"""What a proxy says of itself and of the client."""

from __future__ import annotations

import contextlib

import pytest
import trio

from uait.calls import CallContext, Calls, Identity, bind_call
from uait.calls.proxy import end_to_end, forwarded_headers, scope_target

CALL = CallContext("req-1", Identity("me"), "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "k=v")


def scope_with(headers=(), **more):
    return {"type": "http", "method": "GET", "path": "/", "headers": list(headers), **more}


def test_headers_of_the_connection_stay_on_it():
    headers = [
        (b"connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"proxy-authorization", b"secret"),
        (b"Content-Type", b"text/plain"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    assert end_to_end(headers) == [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]


async def test_the_instance_learns_who_the_client_is_and_what_it_asked_for():
    headers = forwarded_headers(
        scope_with([(b"host", b"example.org")], scheme="https", client=("203.0.113.7", 1234)), CALL
    )
    assert dict(headers) == {
        b"x-forwarded-for": b"203.0.113.7",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"example.org",
        b"via": b"1.1 uait",
        b"x-request-id": b"req-1",
        b"x-user-id": b"me",
        b"traceparent": CALL.traceparent.encode(),
        b"tracestate": b"k=v",
    }


async def test_a_chain_of_proxies_is_kept_and_what_only_the_last_one_knows_is_replaced():
    headers = forwarded_headers(
        scope_with(
            [
                (b"host", b"inner"),
                (b"x-forwarded-for", b"198.51.100.1"),
                (b"x-forwarded-proto", b"gopher"),
                (b"x-forwarded-host", b"forged"),
                (b"via", b"1.0 fred"),
            ],
            scheme="http",
            client=("203.0.113.7", 1234),
        ),
        CALL,
    )
    found = dict(headers)
    assert len(found) == len(headers)
    assert found[b"x-forwarded-for"] == b"198.51.100.1, 203.0.113.7"
    assert found[b"via"] == b"1.0 fred, 1.1 uait"
    assert (found[b"x-forwarded-proto"], found[b"x-forwarded-host"]) == (b"http", b"inner")


async def test_a_client_cannot_say_what_the_call_says(mock_clock):
    forged = [
        (b"x-user-id", b"admin"),
        (b"x-request-id", b"forged"),
        (b"traceparent", b"forged"),
        (b"tracestate", b"forged"),
        (b"x-request-timeout-ms", b"999999"),
        (b"expect", b"100-continue"),
    ]
    with trio.fail_after(3):
        headers = forwarded_headers(scope_with(forged), CallContext("req-1", Identity("me")))
        await trio.lowlevel.checkpoint()
    found = dict(headers)
    assert len(found) == len(headers)
    assert (found[b"x-user-id"], found[b"x-request-id"], found[b"x-request-timeout-ms"]) == (b"me", b"req-1", b"3000")
    assert not {b"traceparent", b"tracestate", b"expect"} & set(found)


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ({"path": "/a b", "raw_path": b"/a%20b", "query_string": b"q=1"}, b"/a%20b?q=1"),
        ({"path": "/a b/ü"}, b"/a%20b/%C3%BC"),
        ({"path": "/mount/a", "raw_path": b"/mount/a", "root_path": "/mount"}, b"/a"),
        ({"path": "/mount", "raw_path": b"/mount", "root_path": "/mount"}, b"/"),
    ],
)
def test_the_path_goes_on_as_it_was_written(scope, target):
    assert scope_target(scope) == target


async def test_what_is_seen_on_the_wire(serve, discovery_of, directory):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)
        headers = [(b"x-own", b"1"), (b"via", b"1.1 inner"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello", "more_body": False})

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await trio.sleep_forever()

    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve(app))
        directory.apps["discovery"] = discovery_of({"echo": [address]})
        calls = await stack.enter_async_context(Calls(directory, caller="gateway"))
        scope = scope_with([(b"host", b"example.org"), (b"authorization", b"Bearer x")], client=("203.0.113.7", 1))
        with bind_call(CALL), trio.fail_after(5):
            await calls.client("echo").asgi(scope, receive, send)
    headers = dict(seen["headers"])
    assert headers[b"host"] == b"%s:%d" % (address[0].encode(), address[1])
    assert headers[b"x-forwarded-host"] == b"example.org"
    assert headers[b"authorization"] == b"Bearer x"
    assert headers[b"x-user-id"] == b"me"
    start, *bodies = sent
    assert [pair for pair in start["headers"] if pair[0] == b"via"] == [(b"via", b"1.1 inner"), (b"via", b"1.1 uait")]
    assert b"connection" not in dict(start["headers"])
    assert b"".join(message["body"] for message in bodies) == b"hello"
    assert [message["more_body"] for message in bodies] == [True, False]


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"100")]], ids=["after the request", "in its body"])
async def test_a_disconnect_ends_it_even_where_nobody_cancels(serve, discovery_of, directory, headers):
    began, ended = trio.Event(), trio.Event()

    async def app(scope, receive, send):
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def receive():
        await began.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("there is nobody to send to")

    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve(app))
        directory.apps["discovery"] = discovery_of({"echo": [address]})
        calls = await stack.enter_async_context(Calls(directory, caller="gateway"))
        with trio.fail_after(5):
            await calls.client("echo").asgi(scope_with(headers), receive, send)
            await ended.wait()


async def test_what_another_app_has_left_in_the_scope_stays_there(directory):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope)

    directory.apps["echo"] = app
    async with Calls(directory, caller="gateway") as calls:
        await calls.client("echo").asgi(
            scope_with(**{"state": {}, "uait.exchange": 1, "uait.disconnect": 2, "uait.call": 3, "extensions": {}}),
            None,
            None,
        )
    assert {key for key in seen if key.startswith("uait.")} == {"uait.call", "uait.disconnect"}
    assert isinstance(seen["uait.call"], CallContext)
    assert (seen["uait.disconnect"], "state" in seen, "extensions" in seen) == (2, False, True)
