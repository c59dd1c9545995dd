"""The Quart app: what handlers may return, mounts, built-in routes."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from quart import Blueprint, Response, g, request, url_for, websocket

from uait.server.disconnect import SCOPE_KEY as DISCONNECT
from uait.web import App, body
from uait.web.app import KNOWN_CHARACTERS, KNOWN_PATHS
from uait.web.connection import RequestHeaders


@attrs.frozen
class Thing:
    name: str = attrs.field(alias="theName")


ANSWERS: dict[str, tuple[Any, int, bytes, str | None]] = {
    "dict": ({"a": 1}, 200, b'{"a":1}', "application/json"),
    "list": ([1, Thing("x")], 200, b'[1,{"theName":"x"}]', "application/json"),
    "attrs": (Thing("x"), 200, b'{"theName":"x"}', "application/json"),
    "none": (None, 204, b"", None),
    "text": ("hi", 200, b"hi", "text/html; charset=utf-8"),
    "bytes": (b"hi", 200, b"hi", "text/html; charset=utf-8"),
    "status": ((Thing("x"), 201), 201, b'{"theName":"x"}', "application/json"),
    "text where none may be": (("x", 204), 204, b"", "text/html; charset=utf-8"),
    "none with status": ((None, 202), 202, b"", None),
    "headers": (({"a": 1}, 201, {"X-More": "1"}), 201, b'{"a":1}', "application/json"),
    "headers only": (({"a": 1}, {"X-More": "1"}), 200, b'{"a":1}', "application/json"),
    "empty": ({}, 200, b"{}", "application/json"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_a_handler_may_return(make_app: Any, ask: Any, name: str) -> None:
    value, status, data, kind = ANSWERS[name]
    app = make_app()

    @app.get("/x")
    async def handler() -> Any:
        return value

    answer = await ask(app, "/x")
    assert (answer.status, answer.body, answer.headers.get("content-type")) == (status, data, kind)
    assert (answer.headers.get("x-more") == "1") == ("headers" in name)
    assert len(answer.messages) == 2


async def test_a_response_goes_as_it_is(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.get("/x")
    async def handler() -> Any:
        response = Response("x", 299, {"X-A": "1"}, content_type="text/plain")
        response.set_cookie("a", "1")
        return response

    answer = await ask(app, "/x")
    assert (answer.status, answer.headers["x-a"], answer.headers["set-cookie"]) == (299, "1", "a=1; Path=/")


async def test_sync_handlers_blueprints_and_hooks_work(make_app: Any, ask: Any) -> None:
    app = make_app()
    blue = Blueprint("blue", __name__, url_prefix="/blue")

    @blue.get("/sync")
    def sync() -> Any:
        return {"g": g.value, "url": url_for("blue.sync"), "json": request.is_json}

    @app.before_request
    async def before() -> None:
        g.value = 5

    @app.after_request
    async def after(response: Any) -> Any:
        response.headers["X-After"] = "1"
        return response

    app.register_blueprint(blue)
    answer = await ask(app, "/blue/sync")
    assert answer.json == {"g": 5, "url": "/blue/sync", "json": False}
    assert answer.headers["x-after"] == "1"


async def test_generators_see_their_request(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.get("/x")
    async def handler() -> Any:
        async def pieces() -> Any:
            yield request.path.encode()

        return pieces(), {"Content-Type": "text/plain"}

    assert (await ask(app, "/x")).body == b"/x"


async def test_quarts_own_test_client_works(make_app: Any) -> None:
    app = make_app()

    @app.post("/x")
    async def handler() -> Any:
        return {"got": await request.get_json(), "form": "x" in request.args}

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.send(await websocket.receive())

    client = app.test_client()
    response = await client.post("/x?x=1", json={"a": 1})
    assert await response.get_json() == {"got": {"a": 1}, "form": True}
    async with client.websocket("/ws") as connection:
        await connection.send("hello")
        assert await connection.receive() == "hello"


async def test_quarts_own_request_context_works(make_app: Any) -> None:
    app = make_app()

    @app.post("/x")
    async def handler() -> None:
        pass

    async with app.test_request_context("/x", method="POST", json={"a": 1}):
        assert await request.get_json() == {"a": 1}
        assert url_for("handler") == "/x"


async def test_forms_and_streams_of_a_body(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.post("/form")
    async def form() -> Any:
        return dict(await request.form)

    @app.post("/stream")
    async def stream() -> Any:
        return {"length": sum([len(piece) async for piece in request.body])}

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await ask(app, "/form", body=b"a=1&b=2", headers=headers)).json == {"a": "1", "b": "2"}
    assert (await ask(app, "/stream", body=b"x" * 1000)).json == {"length": 1000}


async def test_lifespan_hooks_run(make_app: Any) -> None:
    app = make_app()
    ran = []

    @app.before_serving
    async def before() -> None:
        ran.append("before")

    @app.after_serving
    async def after() -> None:
        ran.append("after")

    async with app.test_app():
        assert ran == ["before"]
    assert ran == ["before", "after"]


@pytest.mark.parametrize("path", ["/id/a", "/id/x%20y", "/id/" + "x" * 128])
async def test_ids_in_paths(make_app: Any, ask: Any, path: str) -> None:
    app = make_app()

    @app.get("/id/<id:thing>")
    async def handler(thing: str) -> Any:
        return {"id": thing}

    assert (await ask(app, path)).json == {"id": path.removeprefix("/id/")}


@pytest.mark.parametrize("bad", ["", "a\0", "a\nb", "x" * 129, "a/b", "\x7f"])
async def test_what_cannot_be_an_id_is_not_found(make_app: Any, ask: Any, bad: str) -> None:
    app = make_app()

    @app.get("/id/<id:thing>")
    async def handler(thing: str) -> Any:
        return {"id": thing}

    assert (await ask(app, f"/id/{bad}")).status == 404


# Built-in routes


async def test_a_service_may_have_its_own_front_page(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.get("/")
    async def console() -> Any:
        return {"mine": True}

    @app.post("/")
    async def post() -> Any:
        return {"posted": True}

    @app.route("/metrics")
    async def metrics() -> Any:
        return {"none": True}

    assert (await ask(app, "/")).json == {"mine": True}
    assert (await ask(app, "/", body=b"")).json == {"posted": True}
    assert (await ask(app, "/metrics")).json == {"none": True}
    assert (await ask(app, "/health")).json["status"] == "healthy"


async def test_handlers_may_be_called_like_built_in_ones(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.get("/my-health")
    async def health() -> Any:
        return {"mine": True}

    assert (await ask(app, "/my-health")).json == {"mine": True}


# Mounts


def echo(name: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen = f"{name} {scope['path']} {scope['raw_path'].decode()} {scope['query_string'].decode()}"
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": seen})
            await send({"type": "websocket.close", "code": 1000})
            return
        headers = [(b"content-type", b"text/plain"), (b"x-request-id", b"from-inside")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": seen.encode()})

    return app


@pytest.fixture
async def front(make_app: Any) -> App:
    app: App = make_app()

    @app.get("/v1/own")
    async def own() -> Any:
        return {"own": True}

    app.mount("/v1", echo("v1"))
    app.mount("/v1/deep/", echo("deep"))
    app.mount("/whole", echo("whole"), strip=False)
    return app


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/v1", b"v1 / / "),
        ("/v1/", b"v1 / / "),
        ("/v1/a/b?c=d", b"v1 /a/b /a/b c=d"),
        ("/v1/deep", b"deep / / "),
        ("/v1/deep/x", b"deep /x /x "),
        ("/v1/deeper", b"v1 /deeper /deeper "),
        ("/v1/own/x", b"v1 /own/x /own/x "),
        ("/whole/x", b"whole /whole/x /whole/x "),
        ("/v1/own", b'{"own":true}'),
    ],
)
async def test_mounts(front: App, ask: Any, path: str, seen: bytes) -> None:
    answer = await ask(front, path)
    assert answer.body == seen
    assert answer.headers["x-request-id"] != "from-inside"


@pytest.mark.parametrize("path", ["/v10", "/v", "/wholesome"])
async def test_a_mount_is_no_prefix_of_a_word(front: App, ask: Any, path: str) -> None:
    assert (await ask(front, path)).status == 404


async def test_routes_win_over_mounts_with_a_wrong_method_too(front: App, ask: Any) -> None:
    assert (await ask(front, "/v1/own", method="DELETE")).status == 405


async def test_websockets_are_mounted(front: App, connect: Any) -> None:
    async with connect(front, "/v1/x?a=b", kind="websocket") as connection:
        pass
    assert connection.heard == ["v1 /x /x a=b"]
    async with connect(front, "/v1/own", kind="websocket") as connection:
        pass
    assert connection.heard == ["v1 /own /own "]


async def test_a_percent_encoded_path_keeps_its_raw_form(front: App, ask: Any) -> None:
    answer = await ask(front, "/v1/a/b", raw_path=b"/v1/a%2Fb")
    assert answer.body == b"v1 /a/b /a%2Fb "


async def test_mounts_stand_inside_the_conventions(front: App, make_app: Any, ask: Any, connect: Any) -> None:
    async def crash(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("/secret")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep_forever()

    front.mount("/crash", crash)
    front.mount("/silent", silent)
    front.mount("/hang", hang)
    assert (await ask(front, "/crash")).error["code"] == "INTERNAL_ERROR"
    assert (await ask(front, "/silent")).error["code"] == "INTERNAL_ERROR"
    assert (await ask(front, "/hang", headers={"X-Request-Timeout-Ms": "1"})).status == 504
    guarded = make_app(keys={"ann": "k"})
    guarded.mount("/x", echo("x"))
    assert (await ask(guarded, "/x")).status == 401
    with trio.fail_after(5):
        async with connect(front, "/hang", announces=True) as connection:
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave()
    assert connection.outgoing == []


async def test_one_of_our_apps_can_be_mounted_in_another(
    make_app: Any, ask: Any, connect: Any, announces: bool
) -> None:
    inner, outer = make_app(), make_app()

    @inner.post("/echo")
    async def post() -> Any:
        return await body(Thing)

    @inner.get("/sleep")
    async def sleep() -> Any:
        await trio.sleep_forever()

    outer.mount("/inner", inner)
    answer = await ask(outer, "/inner/echo", json={"theName": "x"}, announces=announces)
    assert answer.json == {"theName": "x"}
    with trio.fail_after(5):
        async with connect(outer, "/inner/sleep", announces=announces) as connection:
            await trio.testing.wait_all_tasks_blocked()
            await connection.leave()
            if announces:
                assert connection.scope[DISCONNECT].gone
    assert connection.outgoing == []


async def test_a_mounted_event_stream_has_no_deadline_of_ours(make_app: Any, connect: Any, autojump_clock: Any) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await trio.sleep(10_000)
        await send({"type": "http.response.body", "body": b"data: x\n\n"})

    app = make_app()
    app.mount("/s", stream)
    async with connect(app, "/s", announces=True) as connection:
        pass
    assert connection.answer.body == b"data: x\n\n"
    async with connect(app, "/s", headers={"X-Request-Timeout-Ms": "1000"}, announces=True) as connection:
        pass
    assert b"DEADLINE_EXCEEDED" in connection.answer.body


async def test_no_last_event_is_put_into_the_middle_of_another(
    make_app: Any, connect: Any, autojump_clock: Any
) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b'data: {"a":', "more_body": True})
        await trio.sleep_forever()

    app = make_app()
    app.mount("/s", stream)
    async with connect(app, "/s", headers={"X-Request-Timeout-Ms": "1000"}, announces=True) as connection:
        pass
    assert connection.answer.body == b'data: {"a":'
    assert not connection.answer.complete


async def test_a_route_is_found_where_none_was_before(make_app: Any, ask: Any) -> None:
    app = make_app()
    assert [(await ask(app, "/late")).status for _ in range(2)] == [404, 404]

    @app.get("/late")
    async def late() -> Any:
        return {}

    assert [(await ask(app, "/late", method=method)).status for method in ("GET", "POST", "GET")] == [200, 405, 200]


async def test_what_is_remembered_of_paths_is_bounded(make_app: Any, ask: Any) -> None:
    app = make_app()
    for number in range(KNOWN_PATHS + 10):
        assert (await ask(app, f"/{number}")).status == 404
    assert (await ask(app, "/" + "x" * 4096)).status == 404
    assert 0 < len(app._known) <= KNOWN_PATHS
    assert all(len(path) <= KNOWN_CHARACTERS for path, _, _ in app._known)


async def test_arguments_of_routes_are_not_mixed_up(make_app: Any, ask: Any) -> None:
    app = make_app()

    @app.get("/of/<id:name>")
    async def show(name: str) -> Any:
        return {"name": name}

    assert [(await ask(app, f"/of/{name}")).json["name"] for name in "aba"] == ["a", "b", "a"]


HEADERS: list[tuple[bytes, bytes]] = [(b"accept", b"a"), (b"x-two", b"1"), (b"x-two", b"2"), (b"x-latin", b"\xe4")]


def test_a_header_is_found_without_and_within_the_list() -> None:
    for asked in ("Accept", "x-TWO", "X-Latin", "Remote-Addr", "X-Missing", "X-\u20ac"):
        lazy, made = (RequestHeaders({"headers": HEADERS, "client": ("1.2.3.4", 5)}) for _ in range(2))
        assert len(made.getlist("X-Two")) == 2  # which makes the list
        assert lazy.get(asked) == made.get(asked)
        assert lazy.get(asked, "else") == made.get(asked, "else")
        assert (asked in lazy) == (asked in made)
    assert made["Remote-Addr"] == "1.2.3.4"


def test_a_header_that_is_set_later_is_found() -> None:
    headers = RequestHeaders({"headers": HEADERS, "client": None})
    headers["X-Late"] = "yes"
    assert (headers.get("X-Late"), headers.get("Accept"), "X-Late" in headers) == ("yes", "a", True)
