"""The orchestrator as its clients meet it, with stand-ins for the services that it runs."""

from __future__ import annotations

import re

import httpx
import orjson
import pytest
import trio

from uait.errors import NotFound
from uait.kernel.service import service
from uait.services.discovery.service import discovery
from uait.services.orchestrator.service import orchestrator
from uait.testing.running import open_live, open_service
from uait.web import json_body, user_id

BOTH = {"userRequest": "Help me with a chat conversation and memory storage"}
PATHS = ["/orchestrate", "/api/v1/orchestrate"]


@service(title="chat-service", intents=("conversation",))
async def chat(ctx):
    app = ctx.app()

    @app.post("/chat")
    async def answer():
        return {"response": f"You said: {(await json_body())['message']}", "user": user_id()}

    return app


@service(title="memory-service", intents=("remember",))
async def memory(ctx):
    app = ctx.app()

    @app.post("/memory/search")
    async def search():
        return {"memories": [{"content": "likes tea"}], "count": 1, "query": (await json_body())["query"]}

    return app


@service(title="memory-service", intents=("remember",))
async def broken_memory(ctx):
    app = ctx.app()

    @app.post("/memory/search")
    async def search():
        raise RuntimeError("/secret/path")

    return app


class Hanging:
    """A service that never answers, and knows how many wait for it."""

    def __init__(self):
        self.waiting = 0
        self.stopped = trio.Event()

    def spec(self, **declared):
        @service(**declared)
        async def hanging(ctx):
            app = ctx.app()

            @app.route("/<path:anything>", methods=["GET", "POST"])
            async def wait(anything):
                self.waiting += 1
                try:
                    await trio.sleep_forever()
                finally:
                    self.waiting -= 1
                    self.stopped.set()

            return app

        return hanging


@service(intents=("count the words",))
async def wordcount(ctx):
    app = ctx.app()

    @app.post("/orchestrate")
    async def orchestrate():
        asked = await json_body()
        return {"words": len(asked["userRequest"].split()), "asked": asked, "user": user_id()}

    return app


@service(intents=("do nothing at all",))
async def plain(ctx):
    return ctx.app()


@pytest.mark.parametrize("path", PATHS)
async def test_the_documented_request(run_service, path):
    async with run_service(orchestrator, chat=chat, memory=memory) as client:
        response = await client.post(path, json=BOTH, headers={"X-User-ID": "ada", "X-Request-ID": "r-1"})

    answer = response.json()
    assert response.status_code == 200
    assert list(answer) == ["success", "data", "metadata"]
    assert answer["success"] is True
    assert list(answer["data"]) == ["userRequest", "services", "synthesis", "summary"]
    assert answer["data"]["userRequest"] == BOTH["userRequest"]
    assert set(answer["data"]["services"]) == {"chat", "memory"}
    assert answer["data"]["services"]["chat"]["user"] == "ada"
    assert answer["data"]["services"]["memory"]["memories"] == [{"content": "likes tea"}]
    assert "likes tea" in answer["data"]["synthesis"]
    summary = answer["data"]["summary"]
    assert set(summary) == {"servicesUsed", "executionTime", "synthesized"}
    assert (summary["servicesUsed"], summary["synthesized"]) == (2, True)
    assert re.fullmatch(r"\d+\.\d+ms", summary["executionTime"])
    assert set(answer["metadata"]) == {"timestamp", "requestId", "executionMode"}
    assert (answer["metadata"]["requestId"], answer["metadata"]["executionMode"]) == ("r-1", "parallel")
    assert answer["metadata"]["timestamp"].endswith("Z")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{}", 400, "MISSING_REQUEST"),
        (b'{"userRequest": ""}', 400, "MISSING_REQUEST"),
        (b'{"userRequest": "  "}', 400, "MISSING_REQUEST"),
        (b'{"userRequest": null}', 400, "MISSING_REQUEST"),
        (b"{", 400, "INVALID_REQUEST"),
        (b"", 400, "INVALID_REQUEST"),
        (b'{"userRequest": NaN}', 400, "INVALID_REQUEST"),
        (b"[]", 422, "VALIDATION_FAILED"),
        (b'{"userRequest": 5}', 422, "VALIDATION_FAILED"),
        (b'{"userRequest": "x", "services": "chat"}', 422, "VALIDATION_FAILED"),
        (b'{"userRequest": "x", "context": []}', 422, "VALIDATION_FAILED"),
    ],
)
async def test_bad_requests(run_service, path, content, status, code):
    async with run_service(orchestrator) as client:
        response = await client.post(path, content=content, headers={"Content-Type": "application/json"})

    answer = response.json()
    assert (response.status_code, answer["error"]["code"]) == (status, code)
    assert answer["success"] is False
    assert set(answer["metadata"]) == {"timestamp", "requestId", "executionMode"}
    assert answer["metadata"]["requestId"] == answer["error"]["request_id"]


async def test_other_errors_have_the_same_shape(run_service):
    async with run_service(orchestrator) as client:
        for response in (await client.get("/nothing"), await client.get("/orchestrate")):
            assert response.json()["success"] is False
            assert response.status_code in (404, 405)


async def test_a_service_that_fails_costs_the_others_nothing(run_service):
    async with run_service(orchestrator, chat=chat, memory=broken_memory) as client:
        answer = (await client.post("/orchestrate", json=BOTH)).json()

    assert answer["success"] is True
    assert answer["data"]["services"]["chat"]["response"].startswith("You said")
    assert answer["data"]["services"]["memory"]["status"] == "failed"
    assert "secret" not in str(answer)
    assert answer["data"]["summary"]["servicesUsed"] == 1
    assert answer["data"]["synthesis"].endswith("Without an answer: memory (failed).")


@service(title="chat-service", intents=("conversation",))
async def chat_without_conversations(ctx):
    app = ctx.app()

    @app.post("/chat")
    async def answer():
        raise NotFound("There is no conversation with this id.")

    return app


async def test_a_conversation_that_is_gone_is_no_missing_path(run_service):
    async with run_service(orchestrator, chat=chat_without_conversations, memory=memory) as client:
        asked = {**BOTH, "context": {"conversation_id": "gone"}}
        answer = (await client.post("/orchestrate", json=asked)).json()

    assert answer["data"]["services"]["chat"] == {
        "status": "failed",
        "error": "There is no conversation with this id.",
    }


async def test_at_the_deadline_there_is_an_answer_from_whoever_was_done(run_service):
    hanging = Hanging()
    with trio.fail_after(30):
        async with run_service(orchestrator, chat=chat, memory=hanging.spec(intents=("remember",))) as client:
            response = await client.post("/orchestrate", json=BOTH, headers={"X-Request-Timeout-Ms": "2000"})

    answer = response.json()
    assert response.status_code == 200
    assert answer["data"]["services"]["memory"]["status"] == "timed_out"
    assert answer["data"]["services"]["chat"]["response"]
    assert hanging.waiting == 0


async def test_each_service_has_its_own_time(run_service):
    hanging = Hanging()
    settings = {"timeout": 0.2}
    with trio.fail_after(30):
        async with run_service(
            orchestrator, settings=settings, chat=chat, memory=hanging.spec(intents=("remember",))
        ) as client:
            answer = (await client.post("/orchestrate", json=BOTH)).json()

    assert answer["data"]["services"]["memory"] == {
        "status": "timed_out",
        "error": "memory did not answer within 0.20 s.",
    }


async def test_where_nobody_answers_that_is_an_error_that_says_of_whom(run_service):
    async with run_service(orchestrator, memory=broken_memory) as client:
        response = await client.post("/orchestrate", json={"userRequest": "remember"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "ALL_SERVICES_FAILED")
        assert response.json()["error"]["details"]["services"]["memory"]["status"] == "failed"
        assert response.json()["success"] is False

    hanging = Hanging()
    with trio.fail_after(30):
        async with run_service(orchestrator, memory=hanging.spec(intents=("remember",))) as client:
            response = await client.post(
                "/orchestrate", json={"userRequest": "remember"}, headers={"X-Request-Timeout-Ms": "300"}
            )
    assert (response.status_code, response.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert response.json()["error"]["details"]["services"]["memory"]["status"] == "timed_out"


async def test_a_plugin_is_run_by_the_convention(run_service):
    body = {"userRequest": "count the words", "context": {"a": 1}, "priority": "high"}
    async with run_service(orchestrator, chat=chat, wordcount=wordcount) as client:
        answer = (await client.post("/orchestrate", json=body, headers={"X-User-ID": "ada"})).json()

    assert list(answer["data"]["services"]) == ["wordcount"]
    assert answer["data"]["services"]["wordcount"] == {"words": 3, "asked": body, "user": "ada"}
    assert answer["metadata"]["executionMode"] == "single"


async def test_a_plugin_that_knows_no_convention_is_described(run_service):
    async with run_service(orchestrator, plain=plain) as client:
        answer = (await client.post("/orchestrate", json={"userRequest": "do nothing at all"})).json()

    found = answer["data"]["services"]["plain"]
    assert found["status"] == "described"
    assert found["information"]["service"] == "plain"


async def test_a_service_on_another_machine_is_chosen_by_the_intents_it_registers(tmp_path):
    fakes = {"chat": chat, "discovery": discovery}
    with trio.fail_after(30):
        async with (
            open_live(wordcount, data_dir=tmp_path / "there") as there,
            open_service(orchestrator, data_dir=tmp_path / "here", fakes=fakes) as here,
            httpx.AsyncClient() as client,
        ):
            registration = {
                "name": "letters",
                "address": "127.0.0.1",
                "port": int(there.rpartition(":")[2]),
                "meta": {"intents": ["count letters"]},
            }
            await client.post(f"{here.addresses('discovery')[0]}/register", json=registration)
            answer = await client.post(
                f"{here.addresses('orchestrator')[0]}/orchestrate", json={"userRequest": "count my letters"}
            )

    assert list(answer.json()["data"]["services"]) == ["letters"]
    assert answer.json()["data"]["services"]["letters"]["words"] == 3


async def test_named_services_are_run_and_wrong_names_skipped(run_service):
    async with run_service(orchestrator, chat=chat, memory=memory, wordcount=wordcount) as client:
        body = BOTH | {"services": ["wordcount", "memory-service", "nonsense", "orchestrator"]}
        answer = (await client.post("/orchestrate", json=body)).json()

        services = answer["data"]["services"]
        assert set(services) == {"wordcount", "memory", "nonsense", "orchestrator"}
        assert services["nonsense"] == {"status": "skipped", "error": "There is no such service that can be run."}
        assert services["orchestrator"]["status"] == "skipped"
        assert answer["data"]["summary"]["servicesUsed"] == 2

        answer = (await client.post("/orchestrate", json=BOTH | {"services": ["nonsense"]})).json()
        assert (answer["success"], answer["metadata"]["executionMode"]) == (True, "none")
        assert answer["data"]["summary"]["synthesized"] is False


async def test_a_request_that_fits_nobody_goes_to_chat(run_service):
    async with run_service(orchestrator, chat=chat, memory=memory) as client:
        answer = (await client.post("/orchestrate", json={"userRequest": "Hello"})).json()

    assert list(answer["data"]["services"]) == ["chat"]
    assert answer["data"]["synthesis"] == "You said: Hello"


@pytest.mark.parametrize("path", PATHS)
async def test_explaining_runs_nothing(run_service, path):
    hanging = Hanging()
    async with run_service(orchestrator, chat=hanging.spec(intents=("conversation",)), memory=memory) as client:
        answer = (await client.post(f"{path}/explain", json=BOTH)).json()

    assert hanging.waiting == 0
    assert not hanging.stopped.is_set()
    choices = {choice["name"]: choice for choice in answer["data"]["choices"]}
    assert choices["chat"]["chosen"]
    assert choices["memory"]["chosen"]
    assert answer["metadata"]["executionMode"] == "parallel"
    assert answer["data"]["timeoutSeconds"] == 60


async def test_results_are_streamed_as_they_come(run_service):
    hanging = Hanging()
    with trio.fail_after(30):
        async with (
            run_service(orchestrator, chat=chat, memory=hanging.spec(intents=("remember",))) as client,
            client.stream(
                "POST",
                "/orchestrate",
                json=BOTH | {"services": ["chat", "memory", "nonsense"]},
                headers={"Accept": "text/event-stream", "X-Request-Timeout-Ms": "1500"},
            ) as response,
        ):
            raw = (await response.aread()).decode()

    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in raw.strip().split("\n\n")]
    told = [(event["event"], orjson.loads(event["data"])) for event in events]
    assert [kind for kind, _ in told] == ["plan", "result", "result", "result", "done"]
    assert told[0][1]["services"] == ["chat", "memory"]
    assert [(data["name"], data["status"]) for _, data in told[1:4]] == [
        ("nonsense", "skipped"),
        ("chat", "completed"),
        ("memory", "timed_out"),
    ]
    assert told[4][1]["success"] is True
    assert set(told[4][1]["data"]["services"]) == {"chat", "memory", "nonsense"}


async def test_a_stream_that_fails_ends_with_the_error_body_of_all_other_failures(run_service):
    async with run_service(orchestrator, memory=broken_memory) as client:
        asked = {"userRequest": "x", "services": ["memory"]}
        named = {"X-Request-ID": "me", "Accept": "text/event-stream"}
        streamed = await client.post("/orchestrate", json=asked, headers=named)
        plain = await client.post("/orchestrate", json=asked, headers={"X-Request-ID": "me"})
    *_, last = streamed.text.strip().split("\n\n")
    assert last.startswith("event: error\ndata: ")
    told, body = orjson.loads(last.partition("data: ")[2]), plain.json()
    assert (told["success"], told["error"]["code"], told["metadata"]["requestId"]) == (
        False,
        "ALL_SERVICES_FAILED",
        "me",
    )
    for each in (told, body):
        del each["metadata"]["timestamp"]
    assert told == body


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_when_the_client_leaves_everything_behind_stops(run_service_live, accept):
    hanging = Hanging()
    with trio.fail_after(30):
        async with run_service_live(orchestrator, chat=hanging.spec(intents=("conversation",))) as url:
            async with httpx.AsyncClient() as client, trio.open_nursery() as nursery:

                async def ask():
                    headers = {"Accept": accept}
                    await client.post(f"{url}/orchestrate", json={"userRequest": "Hello"}, headers=headers)

                nursery.start_soon(ask)
                while not hanging.waiting:
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel(reason="the client leaves")
            await hanging.stopped.wait()
    assert hanging.waiting == 0


async def test_health_names_the_services_that_can_be_chosen_and_waits_for_none_too_long(run_service):
    @service
    async def silent(ctx):
        return ctx.app()

    async def hang(scope, receive, send):
        if scope["type"] == "http":
            await trio.sleep_forever()

    @service(title="memory-service", intents=("remember",))
    async def hanging(ctx):
        return hang

    with trio.fail_after(30):
        async with run_service(orchestrator, chat=chat, memory=hanging, silent=silent) as client:
            response = await client.get("/health", headers={"X-Request-Timeout-Ms": "900"})

    health = response.json()
    assert (response.status_code, health["status"], health["service"]) == (200, "healthy", "orchestration-service")
    assert health["services"]["chat-service"]["status"] == "healthy"
    assert health["services"]["chat-service"]["latency_ms"] > 0
    assert health["services"]["memory-service"]["status"] == "unhealthy"
    assert set(health["services"]) == {"chat-service", "memory-service"}


async def test_health_that_is_nested_without_end_spoils_nobodys(run_service):
    async def deep(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"[" * 100_000})

    @service(title="odd-service", intents=("remember",))
    async def odd(ctx):
        return deep

    async with run_service(orchestrator, chat=chat, odd=odd) as client:
        health = (await client.get("/health")).json()

    assert {name: one["status"] for name, one in health["services"].items()} == {
        "chat-service": "healthy",
        "odd-service": "unhealthy",
    }
