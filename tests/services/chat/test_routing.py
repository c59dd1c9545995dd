"""Routes, aliases and prices from the settings, and what is told of them: headers, explanations, traces, usage with costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
BROKEN = "mock/http-error?status=503&body=json"
LISTED = {"mock/tokens": {"prompt": 1_000_000.0, "completion": 2_000_000.0}}


@pytest.fixture
def run(run_chat: Any, upstream: Any) -> Any:
    """The service with a second provider, `other`, and these routes."""

    def started(**more: Any) -> Any:
        routes = {
            "fast": {"models": [BROKEN, "other/tokens"]},
            "first": {"models": ["mock/error-frame-first", "other/tokens"]},
            "long": {"models": ["mock/too-long", "other/tokens"]},
            "slow": {"models": ["mock/silent", "other/tokens"], "first_token_timeout": 0.2},
            "bad": {"models": [BROKEN, "mock/cut-after-headers"]},
            "sticky": {"models": ["mock/tokens", "other/tokens"], "strategy": "weighted", "sticky": True},
        }
        settings = {"routes": routes | more.pop("routes", {}), "aliases": {"quick": "fast", "it": "mock/tokens"}}
        providers = {name: {"base_url": upstream.url} for name in ("mock", "other")}
        return run_chat(**{**settings, "providers": providers, "prices": LISTED, **more})

    return started


def question(path: str, model: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": "Hello"}]
    body = {"model": model, "input" if path.endswith("responses") else "messages": turns, **more}
    return {**body, "max_tokens": 50} if path.endswith("messages") else body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["fast", "quick", "first", "long", "slow", f"{BROKEN},other/tokens"])
@pytest.mark.parametrize("path", [*PATHS, "/chat"])
async def test_the_next_model_of_a_route_answers(run: Any, path: str, route: str, stream: bool) -> None:
    async with run() as chat:
        body = {"message": "Hello", "model": route} if path == "/chat" else question(path, route)
        response = await chat.client.post(path, json={**body, "stream": stream})
        assert response.status_code == 200, response.text
        assert "tok4" in response.text
        headers = response.headers
        assert headers["x-route-model"] == "other/tokens"
        assert (headers["x-route-provider"], headers["x-route-attempts"]) == ("other", "2")
        assert float(headers["x-route-upstream-ms"]) >= (200 if route == "slow" else 0)
        assert float(headers["x-route-added-ms"]) < 5000
        trace = (await chat.client.get(f"/v1/route/traces/{headers['x-route-trace']}")).json()
        assert [(each["model"], each["outcome"]) for each in trace["attempts"]][1] == ("other/tokens", "answered")
        assert trace["attempts"][0]["error"]
        assert trace["outcome"] == "answered"


@pytest.mark.parametrize("path", [*PATHS, "/chat"])
async def test_when_nobody_answers_it_is_told_who_was_tried(run: Any, path: str) -> None:
    async with run(routing={"attempts": 2}) as chat:
        body = {"message": "Hello", "model": "bad"} if path == "/chat" else question(path, "bad")
        response = await chat.client.post(path, json=body)
        assert response.status_code == 503
        assert "Tried: " + BROKEN in response.text
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-route-attempts"] == "2"
        trace = (await chat.client.get(f"/v1/route/traces/{response.headers['x-route-trace']}")).json()
        assert trace["outcome"] == "failed"
        assert (await chat.client.get("/usage")).json()["usage"] == []


@pytest.mark.parametrize("path", [*PATHS, "/chat"])
async def test_a_question_that_is_too_long_is_told_so_in_the_words_of_the_dialect(run: Any, path: str) -> None:
    async with run() as chat:
        body = {"message": "Hello"} if path == "/chat" else question(path, "")
        response = await chat.client.post(path, json={**body, "model": "mock/too-long"})
        assert response.status_code == 400
        error = response.json()["error"]
        if path == "/v1/messages":
            assert error["type"] == "invalid_request_error"
            assert error["message"].startswith("prompt is too long: ")
        else:
            assert error["code"].lower() == "context_length_exceeded"
        trace = (await chat.client.get(f"/v1/route/traces/{response.headers['x-route-trace']}")).json()
        assert trace["attempts"][0]["error"] == "CONTEXT_LENGTH_EXCEEDED"


async def test_a_conversation_stays_with_its_model(run: Any) -> None:
    async with run() as chat:
        first = await chat.say(model="sticky")
        for _ in range(8):
            assert (await chat.say(model="sticky", conversation_id=first["conversation_id"]))["model"] == first["model"]
        models = set()
        for _ in range(20):
            models.add((await chat.say(model="sticky"))["model"])
        assert models == {"mock/tokens", "other/tokens"}


async def test_the_default_can_be_a_route(run: Any) -> None:
    async with run(routes={"default": {"models": [BROKEN, "other/tokens"]}}) as chat:
        assert (await chat.say(model="auto"))["model"] == "other/tokens"


async def test_routes_and_aliases_are_listed(run: Any) -> None:
    async with run() as chat:
        ids = [model["id"] for model in (await chat.client.get("/v1/models")).json()["data"]]
        assert {"mock/tokens", "other/tokens", "fast", "sticky", "it"} <= set(ids)


async def test_an_explanation_asks_nobody(run: Any) -> None:
    async with run() as chat:
        body = {"model": "fast", "messages": [{"role": "user", "content": "x" * 400}], "max_tokens": 10}
        told = (await chat.client.post("/v1/route/explain", json=body)).json()
        assert [prospect["model"] for prospect in told["order"]] == [BROKEN, "other/tokens"]
        assert (told["route"], told["strategy"], told["by_chance"]) == ("fast", "priority", False)
        assert all(prospect["ready"] and prospect["breaker"] == "closed" for prospect in told["order"])
        assert told["expected"]["completion_tokens"] == 10
        assert not any(seen.method == "POST" for seen in chat.upstream.requests)
        alone = (await chat.client.post("/v1/route/explain", json={"model": "it"})).json()
        assert [prospect["model"] for prospect in alone["order"]] == ["mock/tokens"]
        assert alone["order"][0]["cost"] > 0
        unknown = await chat.client.post("/v1/route/explain", json={"model": "nobody/knows"})
        assert unknown.status_code == 404


async def test_an_explanation_says_why_somebody_is_left_alone(run: Any) -> None:
    async with run(routing={"breaker_failures": 1, "attempts": 1, "breaker_pause": 30.0}) as chat:
        await chat.client.post("/chat", json={"message": "x", "model": BROKEN})
        told = (await chat.client.post("/v1/route/explain", json={"model": "fast"})).json()
        assert [prospect["ready"] for prospect in told["order"]] == [False, True]
        assert "left alone" in told["order"][0]["why_not"]
        assert (await chat.say(model="fast"))["model"] == "other/tokens"


async def test_traces_are_the_users_own_and_the_newest_first(run: Any) -> None:
    async with run(routing={"traces": 3}) as chat:
        for _ in range(5):
            await chat.say(model="it")
        traces = (await chat.client.get("/v1/route/traces")).json()["traces"]
        assert len(traces) == 3
        assert [trace["at"] for trace in traces] == sorted((trace["at"] for trace in traces), reverse=True)
        assert all(trace["at"].endswith("Z") for trace in traces)
        assert traces[0]["cost"] == pytest.approx(11 + 2 * 5)
        assert traces[0]["attempts"][0]["usage"]["completion_tokens"] == 5
        bob = {"X-User-ID": "bob"}
        assert (await chat.client.get("/v1/route/traces", headers=bob)).json() == {"traces": []}
        gone = await chat.client.get(f"/v1/route/traces/{traces[0]['id']}", headers=bob)
        assert gone.status_code == 404


async def test_usage_has_costs_groups_and_pages(run: Any) -> None:
    async with run(operators=["root"]) as chat:
        for user, model in (("ann", "it"), ("ann", "other/tokens"), ("bob", "it"), ("bob", "it")):
            response = await chat.client.post(
                "/chat", json={"message": "x", "model": model}, headers={"X-User-ID": user}
            )
            assert response.status_code == 200

        async def report(user: str = "ann", status: int = 200, of: str | None = None, **params: Any) -> Any:
            params |= {} if of is None else {"user": of}
            response = await chat.client.get("/usage", params=params, headers={"X-User-ID": user})
            assert response.status_code == status, response.text
            return response.json()

        mine = await report()
        assert [(row["model"], row["requests"], row["cost"]) for row in mine["usage"]] == [
            ("mock/tokens", 1, 21.0),
            ("other/tokens", 1, None),
        ]
        assert (mine["cost"], mine["total"]["total_tokens"]) == (21.0, 32)
        await report(user="ann", status=403, of="bob")
        everybody = {"user": "*", "group": "user"}
        whole = (await chat.client.get("/usage", params=everybody, headers={"X-User-ID": "root"})).json()
        assert [(row["user_id"], row["requests"], row["cost"]) for row in whole["usage"]] == [
            ("ann", 2, 21.0),
            ("bob", 2, 42.0),
        ]
        pages: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            params = {"user": "*", "group": "user,model,day", "limit": "1", **cursor}
            page = (await chat.client.get("/usage", params=params, headers={"X-User-ID": "root"})).json()
            pages += page["usage"]
            assert page["cost"] == 63.0
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert [(row["user_id"], row["model"]) for row in pages] == [
            ("ann", "mock/tokens"),
            ("ann", "other/tokens"),
            ("bob", "mock/tokens"),
        ]
        today = datetime.now(UTC).date()
        assert (await report(start=today - timedelta(days=1), end=today, model="mock/tokens"))["total"][
            "total_tokens"
        ] == 16
        assert (await report(end=today - timedelta(days=2)))["usage"] == []
        await report(status=422, start="yesterday")
        await report(status=422, group="colour")


@pytest.mark.parametrize("path", PATHS)
async def test_who_leaves_half_way_has_used_something(run: Any, path: str) -> None:
    async with run() as chat:
        body = question(path, "mock/tokens?count=1000&delay=0.01", stream=True)
        async with chat.raw(path, body) as answer:
            await answer.until(b"tok3")
        await chat.upstream.until(lambda server: server.open_requests == 0)
        with trio.fail_after(10):
            while not (rows := (await chat.client.get("/usage")).json()["usage"]):
                await trio.sleep(0.01)
        assert [(row["requests"], row["estimated"]) for row in rows] == [(1, 1)]
        assert 3 < rows[0]["completion_tokens"] < 1000
        trace = (await chat.client.get("/v1/route/traces")).json()["traces"][0]
        assert trace["outcome"] == "left"
