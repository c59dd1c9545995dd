"""`POST /chat`: the shape of answers, whole and streamed, and what is kept of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

RESPONSE = "tok0 tok1 tok2 tok3 tok4 "


async def test_a_whole_answer(running: Any) -> None:
    answer = await running.say()
    assert answer.keys() >= {"conversation_id", "message_id", "response", "model", "usage"}
    assert (answer["response"], answer["model"], answer["finish_reason"]) == (RESPONSE, "mock/tokens", "stop")
    assert answer["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_tokens": 16,
        "estimated": False,
    }


@pytest.mark.parametrize("how", [{"stream": True}, {}])
async def test_a_streamed_answer(running: Any, events: Any, how: dict[str, Any]) -> None:
    headers = {} if how else {"Accept": "text/event-stream"}
    body = {"message": "Hello", "model": "mock/tokens", **how}
    response = await running.client.post("/chat", json=body, headers=headers)
    assert response.headers["content-type"] == "text/event-stream"
    found = events(response.text)
    *chunks, final, done = [data for _, data in found]
    assert "".join(chunk["chunk"] for chunk in chunks) == RESPONSE
    assert all(chunk.keys() == {"chunk"} for chunk in chunks)
    assert (final["response"], final["model"], final["usage"]["total_tokens"]) == (RESPONSE, "mock/tokens", 16)
    assert final["conversation_id"] == response.headers["x-conversation-id"]
    assert final["message_id"] == response.headers["x-message-id"]
    assert done == "[DONE]"
    assert all(event_id for event_id, _ in found)


async def test_tokens_reach_the_client_as_they_are_made(running: Any) -> None:
    async with running.raw("/chat", {"message": "Hi", "model": "mock/stall", "stream": True}) as answer:
        assert b'{"chunk":"Hello"}' in await answer.until(b"data: ")
        assert running.upstream.open_requests == 1


async def test_the_conversation_goes_on(running: Any) -> None:
    first = await running.say("one", system="Be brief.")
    second = await running.say("two", "mock/echo?all=1", conversation_id=first["conversation_id"])
    assert second["conversation_id"] == first["conversation_id"]
    assert [(turn["role"], turn["content"]) for turn in running.upstream.requests[-1].json()["messages"]] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", RESPONSE),
        ("user", "two"),
    ]
    kept = await running.messages(first["conversation_id"])
    assert [(each["role"], each["content"]) for each in kept[:3]] == [
        ("user", "one"),
        ("assistant", RESPONSE),
        ("user", "two"),
    ]
    assert kept[1]["id"] == first["message_id"]
    assert kept[1]["metadata"]["usage"]["total_tokens"] == 16


async def test_the_model_once_chosen_stays(running: Any) -> None:
    first = await running.say(model="mock/tokens?count=2")
    body = {"message": "again", "conversation_id": first["conversation_id"]}
    assert (await running.client.post("/chat", json=body)).json()["response"] == "tok0 tok1 "


async def test_a_real_provider_is_preferred_and_the_offline_one_is_there(running: Any) -> None:
    response = await running.client.post("/chat", json={"message": "Hello"})
    assert response.json()["model"] == "mock/tokens"
    offline = await running.say("Hello", "offline")
    assert "not a language model" in offline["response"]


async def test_context_comes_before_the_message(running: Any) -> None:
    for context, expected in (
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            [("user", "a"), ("assistant", "b")],
        ),
        ("be kind", [("system", "Context of this conversation:\nbe kind")]),
        ({"city": "Oslo"}, [("system", 'Context of this conversation:\n{\n  "city": "Oslo"\n}')]),
    ):
        await running.say("x", context=context)
        asked = running.upstream.requests[-1].json()["messages"]
        assert [(turn["role"], turn["content"]) for turn in asked] == [*expected, ("user", "x")]


async def test_parameters_reach_the_model(running: Any) -> None:
    await running.say(temperature=0.25, top_p=0.5, max_tokens=9, stop=["END"])
    asked = running.upstream.requests[-1].json()
    assert [asked[key] for key in ("temperature", "top_p", "max_tokens", "stop")] == [0.25, 0.5, 9, ["END"]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "VALIDATION_FAILED"),
        ({"message": ""}, 422, "VALIDATION_FAILED"),
        ({"message": "x", "temperature": 3}, 422, "VALIDATION_FAILED"),
        ({"message": "x", "stream": "yes"}, 422, "VALIDATION_FAILED"),
        ({"message": "x", "context": [{"role": "tool", "content": 1}]}, 422, "VALIDATION_FAILED"),
        ({"message": "x", "model": "nobody/knows"}, 404, "MODEL_NOT_FOUND"),
        ({"message": "x", "conversation_id": "nope"}, 404, "NOT_FOUND"),
        ({"message": "x", "model": "mock/rate-limited?wait=seconds"}, 429, "RATE_LIMITED"),
        ({"message": "x", "model": "mock/http-error"}, 502, "UPSTREAM_ERROR"),
        ({"message": "x", "model": "mock/rate-limited", "stream": True}, 429, "RATE_LIMITED"),
        ({"message": "x", "model": "mock/cut-mid-content"}, 502, "UPSTREAM_ERROR"),
        ({"message": "x", "model": "mock/unknown"}, 404, "MODEL_NOT_FOUND"),
    ],
)
async def test_errors(running: Any, body: dict[str, Any], status: int, code: str) -> None:
    response = await running.client.post("/chat", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("body", [{"message": "x", "model": "nobody/knows"}, {"message": "x", "context": [1]}])
async def test_what_is_refused_leaves_nothing_behind(running: Any, body: dict[str, Any]) -> None:
    assert (await running.client.post("/chat", json=body)).status_code >= 400
    assert (await running.client.get("/conversations")).json()["total"] == 0


async def test_an_answer_that_breaks_off_ends_the_stream_with_an_error_and_is_kept(running: Any) -> None:
    body = {"message": "Hello", "model": "mock/error-frame-later", "stream": True}
    response = await running.client.post("/chat", json=body)
    assert response.status_code == 200
    assert '{"chunk":"Hello"}' in response.text
    assert response.text.rstrip().rpartition("\n\n")[2].startswith("event: error\n")
    kept = await running.messages(response.headers["x-conversation-id"])
    assert kept[1]["content"] == "Hello from"
    assert kept[1]["metadata"]["finish_reason"] == "error"


async def test_the_message_is_kept_while_the_answer_is_waited_for(running: Any) -> None:
    async with running.raw("/chat", {"message": "Hi there", "model": "mock/silent"}):
        await running.asked()
        assert [each["content"] for each in await messages_of_the_first(running)] == ["Hi there"]


async def messages_of_the_first(running: Any) -> list[dict[str, Any]]:
    """Those of the first conversation, as soon as there is one."""
    with trio.fail_after(5):
        while True:
            listed = (await running.client.get("/conversations", params={"messages": True})).json()["conversations"]
            if listed:
                messages: list[dict[str, Any]] = listed[0]["messages"]
                return messages
            await trio.sleep(0.01)


@pytest.mark.parametrize("how", [{"stream": True}, {"stream": True, "background": True}])
async def test_whoever_is_told_of_a_streamed_answer_finds_its_message(running: Any, how: dict[str, Any]) -> None:
    body = {"message": "Hi there", "model": "mock/stall", **how}
    async with running.raw("/chat", body) as answer:
        head = await answer.until(b"\r\n\r\n")
        conversation_id = head.lower().partition(b"x-conversation-id: ")[2].partition(b"\r\n")[0].decode()
        assert [each["content"] for each in await running.messages(conversation_id)] == ["Hi there"]
        await running.client.post(f"/conversations/{conversation_id}/stop")


@pytest.mark.parametrize("delay", [0.0, 0.05])
async def test_a_whole_answer_is_kept_once_with_its_message_however_long_it_takes(running: Any, delay: float) -> None:
    answer = await running.say("Hi there", f"mock/tokens?count=3&delay={delay}")
    kept = await running.messages(answer["conversation_id"])
    assert [(each["id"], each["role"]) for each in kept] == [
        (answer["user_message_id"], "user"),
        (answer["message_id"], "assistant"),
    ]
    listed = (await running.client.get("/conversations")).json()["conversations"]
    assert [(each["title"], each["model"]) for each in listed] == [("Hi there", answer["model"])]
    assert listed[0]["updated_at"] == kept[1]["timestamp"] >= listed[0]["created_at"] == kept[0]["timestamp"]


@pytest.mark.parametrize("model", ["mock/http-error", "mock/silent-after-headers"])
async def test_the_message_is_kept_where_there_is_no_answer(running: Any, model: str) -> None:
    response = await running.client.post(
        "/chat", json={"message": "Hi there", "model": model}, headers={"X-Request-Timeout-Ms": "300"}
    )
    assert response.status_code >= 500
    assert [each["content"] for each in await messages_of_the_first(running)] == ["Hi there"]


async def test_everything_is_there_after_a_restart(run_chat: Any) -> None:
    async with run_chat() as chat:
        first = await chat.say("remember this")
    async with run_chat() as chat:
        assert [each["content"] for each in await chat.messages(first["conversation_id"])] == [
            "remember this",
            RESPONSE,
        ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_deadline_is_kept_and_stops_the_model(running: Any, stream: bool) -> None:
    body = {"message": "x", "model": "mock/silent", "stream": stream}
    with trio.fail_after(10):
        response = await running.client.post("/chat", json=body, headers={"X-Request-Timeout-Ms": "200"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    await running.upstream.until(lambda server: server.open_requests == 0)


async def test_a_deadline_in_the_middle_of_a_stream(running: Any) -> None:
    body = {"message": "x", "model": "mock/stall", "stream": True}
    response = await running.client.post("/chat", json=body, headers={"X-Request-Timeout-Ms": "300"})
    assert response.status_code == 200
    assert "DEADLINE_EXCEEDED" in response.text.rpartition("event: error")[2]
    await running.upstream.until(lambda server: server.open_requests == 0)
    kept = await running.until_answered(response.headers["x-conversation-id"])
    assert kept[1]["content"] == "Hello"


async def test_usage_is_added_up(running: Any) -> None:
    for _ in range(3):
        await running.say()
    # At once: who asks does not wait for the writer's pause, and misses nothing that was answered before.
    report = (await running.client.get("/usage")).json()
    assert report["total"]["total_tokens"] == 48
    assert report["usage"][0] | {"day": ""} == {
        "day": "",
        "user_id": None,
        "model": "mock/tokens",
        "cost": None,
        "requests": 3,
        "prompt_tokens": 33,
        "completion_tokens": 15,
        "estimated": 0,
    }


async def test_too_many_at_once(run_chat: Any) -> None:
    async with run_chat(generations=1) as chat, chat.raw("/chat", {"message": "x", "model": "mock/silent"}):
        await chat.asked()
        response = await chat.client.post("/chat", json={"message": "y"})
        assert (response.status_code, "retry-after" in response.headers) == (429, True)
