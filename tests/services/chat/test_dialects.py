"""The dialects under `/v1`, beyond what their SDKs see: leaving, deadlines, error shapes, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import trio

SLOW = "mock/tokens?count=2000&delay=0.01"
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]


def question(path: str, model: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, **more}
    if path == "/v1/responses":
        return body | {"input": "Hello"}
    return body | {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5000}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["mock/silent", "mock/silent-after-headers", SLOW])
@pytest.mark.parametrize("path", PATHS)
async def test_the_model_stops_when_the_client_leaves(running: Any, path: str, model: str, stream: bool) -> None:
    async with running.raw(path, question(path, model, stream=stream)):
        await running.asked()
        await trio.sleep(0.05)
    await running.upstream.until(lambda server: server.open_requests == 0)
    assert running.upstream.left == 1
    with trio.fail_after(10):
        while not (report := (await running.client.get("/usage")).json()["usage"]):
            await trio.sleep(0.01)
    assert (report[0]["requests"], report[0]["estimated"]) == (1, 1)


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_of_it_is_kept_but_the_count(running: Any, path: str) -> None:
    response = await running.client.post(path, json=question(path, "mock/tokens"))
    assert response.status_code == 200
    assert (await running.client.get("/conversations")).json()["total"] == 0
    with trio.fail_after(10):
        while not (report := (await running.client.get("/usage")).json()["usage"]):
            await trio.sleep(0.01)
    assert (report[0]["prompt_tokens"], report[0]["completion_tokens"]) == (11, 5)


@pytest.mark.parametrize("path", PATHS)
async def test_tokens_come_as_they_are_made(running: Any, path: str) -> None:
    async with running.raw(path, question(path, "mock/stall", stream=True)) as answer:
        await answer.until(b"Hello")
        assert running.upstream.open_requests == 1


def check_error(path: str, body: Any) -> None:
    if path.startswith("/v1/messages"):
        assert body.keys() == {"type", "error", "request_id"}
        assert body["error"].keys() == {"type", "message"}
    else:
        assert body.keys() == {"error"}
        assert body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", [*PATHS, "/v1/messages/count_tokens", "/v1/embeddings"])
async def test_errors_are_in_the_dialect(running: Any, path: str) -> None:
    client = running.client
    for content, status in (("{", 400), ("[]", 400), ("{}", 400), ('{"messages": 5, "input": 5}', 400)):
        response = await client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == status, content
        check_error(path, response.json())
    response = await client.post(path, content="x", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    check_error(path, response.json())
    response = await client.get(path)
    assert response.status_code == 405
    check_error(path, response.json())
    response = await client.post(f"{path}/nothing/here")
    assert response.status_code == 404
    check_error(path, response.json())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
async def test_a_deadline_is_an_error_in_the_dialect(running: Any, path: str, stream: bool) -> None:
    headers = {"X-Request-Timeout-Ms": "200"}
    response = await running.client.post(path, json=question(path, "mock/silent", stream=stream), headers=headers)
    assert response.status_code == 504
    check_error(path, response.json())
    await running.upstream.until(lambda server: server.open_requests == 0)


@pytest.mark.parametrize(
    ("path", "end"),
    [
        (
            "/v1/chat/completions",
            '"code":"deadline_exceeded"}}\n\ndata: [DONE]\n\n',
        ),
        ("/v1/responses", "event: response.failed"),
        ("/v1/messages", "event: error"),
    ],
)
async def test_a_deadline_in_the_middle_of_a_stream(running: Any, path: str, end: str) -> None:
    headers = {"X-Request-Timeout-Ms": "300"}
    response = await running.client.post(path, json=question(path, "mock/stall", stream=True), headers=headers)
    assert response.status_code == 200
    assert end in response.text


@pytest.mark.parametrize("path", PATHS)
async def test_a_providers_failure_is_not_to_be_repeated_by_the_caller(running: Any, path: str) -> None:
    for model in ("mock/http-error?status=503&body=text", "mock/rate-limited?wait=seconds"):
        response = await running.client.post(path, json=question(path, model))
        assert response.headers["x-should-retry"] == "false"
    assert response.headers["retry-after"] == "7"


async def test_an_answer_names_the_model_as_it_was_asked_for(running: Any) -> None:
    for asked, named in (("tokens", "tokens"), ("mock/tokens", "mock/tokens"), ("auto", "mock/tokens")):
        response = await running.client.post(PATHS[0], json=question(PATHS[0], asked))
        assert response.json()["model"] == named
