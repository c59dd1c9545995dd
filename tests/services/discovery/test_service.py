"""Discovery as its clients meet it."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager

import orjson
import pytest
import trio

from uait.kernel.service import service
from uait.services.discovery.service import discovery

GREETER = {"id": "greeter-1", "name": "greeter", "address": "10.0.0.1", "port": 8099}


@pytest.fixture
def fake_chat():
    @service(title="chat-service", intents=("a chat",))
    async def chat(ctx):
        return ctx.app()

    return chat


@pytest.mark.parametrize("base", ["", "/api/v1/discovery"])
async def test_the_life_of_an_instance(run_service, base):
    async with run_service(discovery) as client:
        answer = await client.post(f"{base}/register", json=GREETER)
        assert (answer.status_code, answer.json()) == (200, {"status": "registered", "id": "greeter-1"})

        found = (await client.get(f"{base}/services/greeter")).json()
        assert found["total"] == 1
        assert found["instances"][0]["health"] == "passing"
        assert (await client.get(f"{base}/service/greeter")).json()["id"] == "greeter-1"
        everything = (await client.get(f"{base}/services")).json()
        assert set(everything["services"]) == {"greeter", "service-discovery"}
        assert everything["total"] == 2

        beat = await client.put(f"{base}/heartbeat/greeter-1")
        assert (beat.status_code, beat.json()["health"]) == (200, "passing")
        beat = await client.put(f"{base}/heartbeat/greeter-1", json={"health": "critical", "note": "no disk"})
        assert beat.json()["health"] == "critical"
        down = await client.get(f"{base}/service/greeter")
        assert (down.status_code, down.json()["error"]["code"]) == (503, "NO_HEALTHY_INSTANCE")
        assert down.json()["error"]["details"]["instances"][0]["note"] == "no disk"
        assert "retry-after" in down.headers

        answer = await client.delete(f"{base}/deregister/greeter-1")
        assert answer.json() == {"status": "deregistered", "id": "greeter-1"}
        for method, path in (
            ("DELETE", "/deregister/greeter-1"),
            ("PUT", "/heartbeat/greeter-1"),
            ("GET", "/services/greeter"),
            ("GET", "/service/greeter"),
        ):
            assert (await client.request(method, base + path)).status_code == 404


async def test_an_id_is_made_where_none_is_given(run_service):
    async with run_service(discovery) as client:
        fields = {key: value for key, value in GREETER.items() if key != "id"}
        ids = {(await client.post("/register", json=fields)).json()["id"] for _ in range(3)}

        assert len(ids) == 3


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": None}, "$.name"),
        ({"name": "a/b"}, "$.name"),
        ({"name": "x" * 129}, "$.name"),
        ({"id": "a b"}, "$.id"),
        ({"id": "a\x00"}, "$.id"),
        ({"address": "http://x/"}, "$.address"),
        ({"port": "80"}, "$.port"),
        ({"port": 0}, "$.port"),
        ({"port": 65536}, "$.port"),
        ({"tags": "a"}, "$.tags"),
        ({"meta": []}, "$.meta"),
        ({"health": "fine"}, "$.health"),
        ({"weight": -1}, "$.weight"),
        ({"ttl": 0}, "$.ttl"),
        ({"check": {"http": "file:///etc/passwd"}}, "$.check.http"),
        ({"check": {"http": "http://x/ HTTP/1.1\r\nHost: y"}}, "$.check.http"),
        ({"check": {"tcp": "x"}}, "$.check.tcp"),
        ({"check": {"interval": 0}}, "$.check.interval"),
        ({"check": {"timeout": 1000}}, "$.check.timeout"),
    ],
)
async def test_bad_registrations_say_what_is_wrong_and_leave_nothing(run_service, change, path):
    async with run_service(discovery) as client:
        answer = await client.post("/register", json=GREETER | change)

        assert answer.status_code == 422
        assert [problem["path"] for problem in answer.json()["error"]["details"]] == [path]
        assert (await client.get("/services/greeter")).status_code == 404


async def test_the_hosts_own_services_are_registered_by_themselves(run_service, fake_chat):
    async with run_service(discovery, chat=fake_chat) as client:
        for name in ("chat-service", "chat"):
            with trio.fail_after(10):
                while (instance := (await client.get(f"/service/{name}")).json()).get("note") != "ready":
                    await trio.sleep(0.01)
        assert (instance["name"], instance["address"], instance["health"]) == ("chat-service", "127.0.0.1", "passing")
        assert instance["meta"]["intents"] == ["a chat"]
        assert (await client.get("/health")).json()["registered_services"] == 2
        assert (await client.delete("/deregister/chat-service")).status_code == 409
        assert (await client.post("/register", json=GREETER | {"id": "chat-service"})).status_code == 409


async def test_registrations_survive_a_restart(run_service):
    async with run_service(discovery) as client:
        await client.post("/register", json=GREETER | {"ttl": 1, "weight": 7})
        await client.put("/heartbeat/greeter-1", json={"health": "warning"})
    async with run_service(discovery) as client:
        [instance] = (await client.get("/services/greeter")).json()["instances"]

        assert (instance["weight"], instance["health"]) == (7, "warning")


async def test_a_real_instance_is_checked(run_service, nursery):
    async def answer(stream):
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    scope = trio.CancelScope()

    async def serve(task_status=trio.TASK_STATUS_IGNORED):
        with scope:
            await trio.serve_tcp(answer, 0, host="127.0.0.1", task_status=task_status)

    [listener] = await nursery.start(serve)
    port = listener.socket.getsockname()[1]
    check = {"http": f"http://127.0.0.1:{port}/", "interval": 1, "failures_before_critical": 1}

    async with run_service(discovery) as client:

        async def until(health):
            with trio.fail_after(20):
                while (await client.get("/services/greeter")).json()["instances"][0]["health"] != health:
                    await trio.sleep(0.02)

        await client.post("/register", json=GREETER | {"check": check})
        await until("passing")
        scope.cancel(reason="the instance dies")
        await until("critical")


@asynccontextmanager
async def watching(client, path, headers):
    """Gives a function that waits for the next event: its name, id and data."""
    async with client.stream("GET", path, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        # httpx leaves its generators to the garbage collector where one stops in the middle, unless they are closed by hand.
        async with aclosing(response.stream.__aiter__()) as chunks:
            text = ""

            async def following():
                nonlocal text
                while "\n\n" not in text:
                    text += (await anext(chunks)).decode()
                block, _, text = text.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in block.split("\n"))
                return fields["event"], fields["id"], orjson.loads(fields["data"])

            yield following


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/services?watch", {}),
        ("/services?watch=true", {}),
        ("/services", {"Accept": "text/event-stream"}),
        ("/services/greeter?watch=1", {}),
        ("/api/v1/discovery/services?watch", {}),
    ],
)
async def test_watching(run_service, path, headers):
    with trio.fail_after(30):
        async with run_service(discovery) as client:
            async with watching(client, path, headers) as following:
                kind, position, data = await following()
                assert kind == "snapshot"
                assert "greeter" not in data["services"]

                await client.post("/register", json=GREETER)
                kind, _, data = await following()
                assert (kind, data["type"], data["instance"]["id"]) == ("change", "registered", "greeter-1")

            async with watching(client, path, headers | {"Last-Event-ID": position}) as following:
                kind, _, data = await following()
                assert (kind, data["instance"]["id"]) == ("change", "greeter-1")


async def test_not_to_watch_is_not_to_watch(run_service):
    async with run_service(discovery) as client:
        for path in ("/services?watch=false", "/services?watch=0"):
            assert "services" in (await client.get(path)).json()


async def test_a_heartbeat_needs_no_body_and_its_schema_says_so(run_service):
    async with run_service(discovery) as client:
        document = (await client.get("/openapi.json")).json()
        await client.post("/register", json=GREETER)

        assert document["paths"]["/heartbeat/{instance_id}"]["put"]["requestBody"]["required"] is False
        assert (await client.put("/heartbeat/greeter-1")).status_code == 200
        assert (await client.put("/heartbeat/greeter-1", json={"health": "fine"})).status_code == 422
