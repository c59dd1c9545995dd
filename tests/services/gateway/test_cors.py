from __future__ import annotations

import orjson
import pytest

from uait.services.gateway.cors import CORS

HERE = b"http://localhost:3000"
ELSEWHERE = b"https://evil.example"


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    headers = [(b"x-own", b"1"), (b"access-control-allow-origin", b"forged")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def ask():
    async def ask(origin, *, origins=(), method="GET", kind="http", extensions=None, **headers):
        sent = []

        async def receive():
            return {"type": f"{kind}.connect"}

        async def send(message):
            sent.append(message)

        named = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        if origin is not None:
            named.append((b"origin", origin))
        scope = {"type": kind, "method": method, "headers": named, "extensions": extensions}
        await CORS(app, origins)(scope, receive, send)
        return sent

    return ask


def headers_of(sent):
    assert len({name for name, _ in sent[0]["headers"]}) == len(sent[0]["headers"])
    return dict(sent[0]["headers"])


async def test_a_program_sees_nothing_of_it(ask):
    sent = await ask(None)
    assert sent[0]["headers"] == [(b"x-own", b"1"), (b"access-control-allow-origin", b"forged")]


@pytest.mark.parametrize(
    ("origin", "origins", "told"),
    [
        (HERE, (), HERE),
        (b"https://localhost", (), b"https://localhost"),
        (b"http://127.0.0.1:8080", (), b"http://127.0.0.1:8080"),
        (b"http://[::1]:8080", (), b"http://[::1]:8080"),
        (ELSEWHERE, (), None),
        (b"http://localhost.evil.example", (), None),
        (b"http://localhost:3000.evil.example", (), None),
        (b"null", (), None),
        (b"https://app.example", ("https://app.example",), b"https://app.example"),
        (b"https://App.Example", ("https://app.example/",), b"https://App.Example"),
        (HERE, ("https://app.example",), None),
        (ELSEWHERE, ("*",), b"*"),
    ],
)
async def test_pages_that_may_read_answers(ask, origin, origins, told):
    headers = headers_of(await ask(origin, origins=origins))
    assert headers.get(b"access-control-allow-origin") == told
    assert headers[b"vary"] == b"Origin"
    assert headers[b"x-own"] == b"1"
    assert (b"access-control-expose-headers" in headers) == (told is not None)


@pytest.mark.parametrize("name", [b"X-Conversation-ID", b"X-Message-ID", b"X-Route-Left-Out", b"X-Request-ID"])
async def test_pages_can_read_what_answers_say_in_their_heads(ask, name):
    exposed = headers_of(await ask(HERE))[b"access-control-expose-headers"]
    assert name in exposed.split(b", ")


async def test_a_preflight_is_answered(ask):
    sent = await ask(
        HERE,
        method="OPTIONS",
        access_control_request_method=b"DELETE",
        access_control_request_headers=b"content-type, x-user-id",
        access_control_request_private_network=b"true",
    )
    headers = headers_of(sent)
    assert sent[0]["status"] == 204
    assert headers[b"access-control-allow-origin"] == HERE
    assert b"DELETE" in headers[b"access-control-allow-methods"]
    assert headers[b"access-control-allow-headers"] == b"content-type, x-user-id"
    assert headers[b"access-control-allow-private-network"] == b"true"
    assert headers[b"access-control-max-age"] == b"600"
    assert sent[1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_preflight_of_a_page_that_may_not_is_not_granted(ask):
    headers = headers_of(await ask(ELSEWHERE, method="OPTIONS", access_control_request_method=b"DELETE"))
    assert not [name for name in headers if name.startswith(b"access-control")]


async def test_a_preflight_gives_back_names_only(ask):
    headers = headers_of(
        await ask(HERE, method="OPTIONS", access_control_request_method=b"GET", access_control_request_headers=b"a: b")
    )
    assert b"access-control-allow-headers" not in headers


async def test_options_without_a_question_goes_through(ask):
    assert (await ask(HERE, method="OPTIONS"))[0]["status"] == 404


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, b"localhost:9999", True),
        (HERE, b"localhost:9999", True),
        (b"https://gateway.example", b"gateway.example", True),
        (ELSEWHERE, b"localhost:9999", False),
        (b"null", b"localhost:9999", False),
    ],
)
async def test_websockets_of_pages_that_may_not_are_refused(ask, origin, host, allowed):
    [message] = await ask(origin, kind="websocket", host=host)
    assert message["type"] == ("websocket.accept" if allowed else "websocket.close")


async def test_a_refused_websocket_is_told_why_where_the_server_can(ask):
    extensions = {"websocket.http.response": {}}
    head, body = await ask(ELSEWHERE, kind="websocket", extensions=extensions, x_request_id=b"mine")
    assert (head["status"], headers_of([head])[b"x-request-id"]) == (403, b"mine")
    error = orjson.loads(body["body"])["error"]
    assert (error["code"], error["request_id"]) == ("FOREIGN_ORIGIN", "mine")
