"""The gateway in a real host, with stand-ins for the services behind it."""

from __future__ import annotations

import contextlib
import socket

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from uait.calls import Identity
from uait.kernel.host import open_host
from uait.kernel.restart import RestartPolicy
from uait.kernel.service import ServiceSpec
from uait.kernel.status import State
from uait.services.gateway.service import gateway
from uait.settings import Settings

SOON = 5.0


@pytest.mark.parametrize(
    ("method", "path", "service_name", "own_path"),
    [
        ("POST", "/api/v1/chat", "chat", "/chat"),
        ("POST", "/api/chat", "chat", "/chat"),
        ("GET", "/api/v1/conversations/7", "chat", "/conversations/7"),
        ("DELETE", "/api/v1/memory/a%2Fb", "memory", "/memory/a/b"),
        ("POST", "/v1/chat/completions", "chat", "/v1/chat/completions"),
        ("GET", "/v1/models", "chat", "/v1/models"),
        ("PATCH", "/api/v1/memory/x", "memory", "/memory/x"),
        ("OPTIONS", "/api/v1/memory", "memory", "/memory"),
    ],
)
async def test_requests_reach_their_service(run_service, service, method, path, service_name, own_path):
    async with run_service(gateway, chat=service("chat"), memory=service("memory")) as client:
        response = await client.request(method, f"{path}?q=%20x", content=b"body")
    seen = response.json()
    assert (seen["service"], seen["method"], seen["path"], seen["query"], seen["body"]) == (
        service_name,
        method,
        own_path,
        "q=%20x",
        "body",
    )


async def test_a_service_that_is_unknown_is_not_found(run_service, service):
    async with run_service(gateway) as client:
        for path in (
            "/api/v1/nobody/x",
            "/api/v1/gateway/health",
            "/api/v1/api-gateway/health",
            "/api/v1/",
            "/elsewhere",
        ):
            response = await client.get(path)
            assert response.status_code == 404
            assert response.json()["error"]["code"] in ("NOT_FOUND", "SERVICE_NOT_FOUND")
            assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
        unknown = (await client.get("/api/v1/nobody/x")).json()["error"]
        assert (unknown["code"], unknown["message"]) == (
            "SERVICE_NOT_FOUND",
            "There is no service named 'nobody'; GET /api/v1/services lists those that there are.",
        )


async def test_an_error_of_the_service_is_its_own(run_service, service):
    chat = service("chat")
    chat.answers["/chat"] = (422, {"error": {"code": "VALIDATION_FAILED", "message": "no"}})
    async with run_service(gateway, chat=chat) as client:
        response = await client.post("/api/v1/chat", json={})
    assert (response.status_code, response.json()) == (422, {"error": {"code": "VALIDATION_FAILED", "message": "no"}})


async def test_information_names_what_can_be_asked(run_service):
    async with run_service(gateway) as client:
        told = (await client.get("/")).json()
    assert told["service"] == "api-gateway"
    assert {"GET /health", "GET /api/v1/models", "POST /api/v1/chat", "WEBSOCKET /ws"} <= set(told["endpoints"])


# Health


async def test_health_of_everything(run_service, service):
    ill = service("memory")
    ill.answers["/health"] = (503, {"status": "unhealthy"})
    bare = service("plugin")
    bare.answers["/health"] = None
    async with run_service(gateway, chat=service("chat"), memory=ill, plugin=bare) as client:
        response = await client.get("/health")
    told = response.json()
    assert (response.status_code, told["status"], told["service"]) == (200, "degraded", "api-gateway")
    assert {name: one["status"] for name, one in told["services"].items()} == {
        "chat": "healthy",
        "memory": "unhealthy",
        "plugin": "healthy",
    }
    assert all(one["latency_ms"] >= 0 for one in told["services"].values())
    assert told["checks"]["services"] == "degraded: memory is unhealthy"


async def test_health_does_not_wait_for_who_hangs(run_service, service, hang):
    stuck = service("memory")
    stuck.answers["/health"] = hang
    async with run_service(gateway, settings={"health_timeout": 0.2}, chat=service("chat"), memory=stuck) as client:
        with trio.fail_after(SOON):
            told = (await client.get("/health")).json()
    assert told["services"]["chat"]["status"] == "healthy"
    memory = told["services"]["memory"]
    assert (memory["status"], memory["latency_ms"]) == ("unhealthy", None)
    assert "in time" in memory["error"]


async def test_health_that_is_nested_without_end_spoils_nobodys(run_service, service, deep):
    odd = service("plugin")
    odd.answers["/health"] = deep
    async with run_service(gateway, chat=service("chat"), plugin=odd) as client:
        told = (await client.get("/health")).json()
    assert {name: one["status"] for name, one in told["services"].items()} == {"chat": "healthy", "plugin": "healthy"}


async def test_each_service_is_asked_once_a_question(run_service, service):
    chat = service("chat")
    async with run_service(gateway, chat=chat) as client:
        await client.get("/health")
    assert chat.asked == ["/health"]


# Models


async def test_models_of_everything(run_service, service):
    chat, plugin = service("chat"), service("plugin")
    chat.answers["/models"] = {
        "models": [{"id": "m", "provider": "p", "name": "M", "capabilities": ["chat"], "context_length": 8192}],
        "providers": {"p": {"status": "available", "models": 1}},
    }
    plugin.answers["/models"] = {"models": [{"id": "n"}]}
    async with run_service(
        gateway, chat=chat, plugin=plugin, memory=service("memory"), hub=(hub := service("hub"))
    ) as client:
        for path in ("/api/v1/models", "/api/models"):
            told = (await client.get(path)).json()
    assert told == {
        "models": [
            {
                "id": "m",
                "provider": "p",
                "name": "M",
                "capabilities": ["chat"],
                "context_length": 8192,
                "status": "available",
                "stale": False,
            },
            {
                "id": "n",
                "provider": "plugin",
                "name": "n",
                "capabilities": [],
                "context_length": None,
                "status": "available",
                "stale": False,
            },
        ],
        "total": 2,
        "providers": {
            "p": {"status": "available", "models": 1, "error": None},
            "plugin": {"status": "available", "models": 1, "error": None},
        },
    }
    assert "/models" not in hub.asked


# The console


async def test_a_browser_gets_the_console_and_a_program_does_not(run_service):
    async with run_service(gateway) as client:
        page = await client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        program = await client.get("/", headers={"Accept": "*/*"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert program.headers["content-type"] == "application/json"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for forbidden in ("http://", "https://", "innerHTML", " onclick", "style=", "<img", "eval("):
        assert forbidden not in page.text


# CORS


async def test_a_page_can_read_errors_too(run_service):
    async with run_service(gateway) as client:
        response = await client.get("/api/v1/nobody", headers={"Origin": "http://localhost:5173"})
        preflight = await client.options(
            "/api/v1/chat", headers={"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
        )
    assert response.status_code == 404
    assert response.headers["access-control-allow-origin"] == "http://localhost:5173"
    assert (preflight.status_code, preflight.content) == (204, b"")


# Streams


async def test_a_stream_goes_through_as_it_comes_and_stops_when_the_client_leaves(run_service_live, service, caplog):
    chat = service("chat")
    go_on, ended = trio.Event(), trio.Event()

    async def stream(scope, receive, send):
        try:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await go_on.wait()
            await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True})
            await trio.sleep_forever()
        finally:
            ended.set()

    chat.answers["/chat"] = stream
    async with run_service_live(gateway, chat=chat) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with trio.fail_after(SOON):
            async with await trio.open_tcp_stream(host, int(port)) as client:
                await client.send_all(b"POST /api/v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
                await read_until(client, b"data: 1\n\n")
                go_on.set()
                await read_until(client, b"data: 2\n\n")
            await ended.wait()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def read_until(stream, text):
    data = b""
    while text not in data:
        data += await stream.receive_some()
        assert b"data: 2" not in data or text == b"data: 2\n\n"


async def test_a_client_that_leaves_before_the_answer_stops_the_service(run_service_live, service):
    chat = service("chat")
    began, ended = trio.Event(), trio.Event()

    async def think(scope, receive, send):
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    chat.answers["/chat"] = think
    async with run_service_live(gateway, chat=chat) as url, httpx.AsyncClient(base_url=url) as client:
        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.post, "/api/v1/chat")
                await began.wait()
                nursery.cancel_scope.cancel(reason="the client left")
            await ended.wait()


async def test_out_of_time_is_told_at_the_deadline(run_service, service, hang):
    chat = service("chat")
    chat.answers["/chat"] = hang
    async with run_service(gateway, chat=chat) as client:
        with trio.fail_after(SOON):
            response = await client.post("/api/v1/chat", headers={"X-Request-Timeout-Ms": "100"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")


# Dialects


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/chat/completions", {"error": {"message", "type", "param", "code"}}),
        ("/v1/messages", {"type", "error", "request_id"}),
        ("/v1/messages/count_tokens", {"type", "error", "request_id"}),
    ],
)
async def test_an_error_of_the_gateway_itself_is_in_the_dialect_of_the_path(run_service, path, error):
    async with run_service(gateway) as client:
        response = await client.post(path, json={})
    assert response.status_code == 404
    told = response.json()
    assert told.keys() == (error if isinstance(error, set) else error.keys())
    if isinstance(error, dict):
        assert told["error"].keys() == error["error"]


def unended(*pieces):
    """An event stream of which nothing comes after these pieces, not even its end."""

    async def stream(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await trio.sleep_forever()

    return stream


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/v1/chat/completions", b"data: [DONE]\n\n"),
        ("/v1/messages", b'"type":"error"'),
        ("/api/v1/chat", b"event: error\n"),
    ],
)
async def test_a_stream_that_is_cut_off_ends_in_the_dialect_of_the_path(run_service, service, path, last):
    chat = service("chat")
    chat.answers[path if path.startswith("/v1") else "/chat"] = unended(b"data: 1\n\n")
    async with run_service(gateway, chat=chat) as client:
        with trio.fail_after(SOON):
            response = await client.post(path, headers={"X-Request-Timeout-Ms": "100"})
    assert response.content.startswith(b"data: 1\n\n")
    assert last in response.content
    assert b"ran out of time" in response.content


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/v1/chat/completions", b'data: {"choices":[]}\n\ndata: [DONE]\n\n'),
        ("/v1/responses", b"event: response.completed\ndata: {}\n\n"),
        ("/v1/responses", b"event: error\ndata: {}\n\n"),
        ("/v1/messages", b"event: message_stop\r\ndata: {}\r\n\r\n"),
    ],
)
async def test_a_stream_that_has_said_everything_is_not_given_further_last_words(run_service, service, path, last):
    """As where a stop cuts off the service and the gateway at once."""
    chat = service("chat")
    chat.answers[path] = unended(b"data: 1\n\n", last)
    async with run_service(gateway, chat=chat) as client:
        with trio.fail_after(SOON):
            response = await client.post(path, headers={"X-Request-Timeout-Ms": "100"})
    assert response.content == b"data: 1\n\n" + last


# Services that are elsewhere, or down


@pytest.fixture
def open_gateway(tmp_path):
    """A host with the gateway, discovery and these services; gives the gateway's base URL and the host."""

    @contextlib.asynccontextmanager
    async def open_gateway(*specs, **more):
        names = ["gateway", "discovery", *(spec.name for spec in specs)]
        settings = Settings(
            data_dir=tmp_path / "uait",
            only=tuple(names),
            sections={name: {"port": 0} for name in names},
            grace=1.0,
            environ={},
            host="127.0.0.1",
            **more,
        )
        async with open_host(settings, specs) as host:
            yield host.addresses("gateway")[0], host

    return open_gateway


async def test_a_registered_instance_is_reached_like_a_service_of_this_host(open_gateway, service):
    echo = service("echo")

    async def factory(ctx):
        return echo

    elsewhere = ServiceSpec(factory=factory, name="elsewhere")
    async with open_gateway(elsewhere) as (url, host), httpx.AsyncClient(base_url=url) as client:
        address = httpx.URL(host.addresses("elsewhere")[0])
        instance = {"id": "w-1", "name": "weather", "address": address.host, "port": address.port}
        assert (await client.post("/api/v1/discovery/register", json=instance)).json()["status"] == "registered"
        seen = (await client.post("/api/v1/weather/a%2Fb?q=1", content=b"body")).json()
        assert (seen["service"], seen["raw_path"], seen["query"], seen["body"]) == ("echo", "/a%2Fb", "q=1", "body")
        async with open_websocket_url(f"{url.replace('http', 'ws')}/api/v1/weather/live?x=1") as connection:
            assert await connection.get_message() == "echo /live?x=1"
            await connection.send_message("hello")
            assert await connection.get_message() == "hello"
        assert (await client.delete("/api/v1/discovery/deregister/w-1")).status_code == 200
        assert (await client.get("/api/v1/weather/a")).status_code == 404


async def test_an_instance_that_is_down_is_unavailable(open_gateway):
    with contextlib.closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        host, port = nobody.getsockname()
        async with open_gateway() as (url, _), httpx.AsyncClient(base_url=url) as client:
            instance = {"id": "w-1", "name": "weather", "address": host, "port": port}
            await client.post("/api/v1/discovery/register", json=instance)
            with trio.fail_after(SOON):
                response = await client.get("/api/v1/weather/a")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_title_is_as_good_as_a_name(open_gateway, service):
    scopes = []

    async def factory(ctx):
        async def app(scope, receive, send):
            scopes.append(scope)
            await service("weather")(scope, receive, send)

        return app

    weather = ServiceSpec(factory=factory, name="weather", title="weather-service")
    async with open_gateway(weather) as (url, _), httpx.AsyncClient(base_url=url) as client:
        for name in ("weather", "weather-service"):
            assert (await client.get(f"/api/v1/{name}/a")).status_code == 200
    # In process, not over a socket to ourselves by way of discovery.
    assert all("uait.call" in scope for scope in scopes if scope["type"] == "http")


async def test_a_service_that_has_failed_is_unavailable_and_the_others_go_on(open_gateway, service, caplog):
    crash = trio.Event()

    async def factory(ctx):
        async def background():
            await crash.wait()
            raise ZeroDivisionError

        ctx.nursery.start_soon(background)
        weather = service("weather")
        weather.answers["/models"] = {"models": [{"id": "m"}]}
        return weather

    weather = ServiceSpec(factory=factory, name="weather", title="weather-service", restart=RestartPolicy(intensity=0))
    async with open_gateway(weather) as (url, host), httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/api/v1/weather/a")).json()["service"] == "weather"
        assert (await client.get("/api/v1/models")).json()["total"] == 1
        crash.set()
        with trio.fail_after(SOON):
            while {status.name: status.state for status in host.status()}["weather"] is not State.FAILED:
                await host.changed()
            response = await client.get("/api/v1/weather/a")
            told = (await client.get("/health")).json()
            models = (await client.get("/api/v1/models")).json()["models"]
    assert [(model["id"], model["stale"]) for model in models] == [("m", True)]
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert told["status"] == "degraded"
    assert told["services"]["weather-service"] == {
        "name": "weather",
        "status": "unhealthy",
        "state": "failed",
        "latency_ms": None,
        "error": "It has failed, and is not started again: the log says why.",
    }
    assert told["services"]["service-discovery"]["status"] == "healthy"


async def test_with_keys_only_the_page_and_probes_are_for_all(open_gateway, service):
    seen = {}

    async def factory(ctx):
        async def app(scope, receive, send):
            seen.update(scope)
            await service("weather")(scope, receive, send)

        return app

    weather = ServiceSpec(factory=factory, name="weather")
    async with open_gateway(weather, keys={"me": "secret"}) as (url, _), httpx.AsyncClient(base_url=url) as client:
        page = await client.get("/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (await client.get("/health")).json()["services"]["weather"]["status"] == "healthy"
        for path in ("/api/v1/models", "/api/v1/weather/a", "/v1/models", "/metrics"):
            assert (await client.get(path, headers={"X-User-ID": "me"})).status_code == 401
        preflight = {"Origin": "http://localhost:1", "Access-Control-Request-Method": "POST"}
        assert (await client.options("/api/v1/weather/a", headers=preflight)).status_code == 204
        seen.clear()
        asked = await client.get("/api/v1/weather/a", headers={"Authorization": "Bearer secret", "X-User-ID": "you"})
        assert asked.status_code == 200
    assert seen["uait.call"].identity == Identity("me", authenticated=True)


@pytest.mark.parametrize("path", ["/ws", "/api/v1/ws", "/api/ws"])
async def test_websockets_reach_the_hub(run_service_live, service, path):
    async with (
        run_service_live(gateway, hub=service("hub")) as url,
        open_websocket_url(f"{url.replace('http', 'ws')}{path}?user_id=me") as connection,
    ):
        assert await connection.get_message() == "hub /ws?user_id=me"
        await connection.send_message("hello")
        assert await connection.get_message() == "hello"
