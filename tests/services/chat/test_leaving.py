"""When nobody listens any more, the model stops, and what there is of the answer is kept. Unless it was asked for in the background."""

from __future__ import annotations

from typing import Any

import pytest
import trio

SLOW = "mock/tokens?count=2000&delay=0.01"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["mock/silent", "mock/silent-after-headers", SLOW])
async def test_the_model_stops_when_the_client_leaves(running: Any, model: str, stream: bool) -> None:
    async with running.raw("/chat", {"message": "x", "model": model, "stream": stream}):
        await running.asked()
        await trio.sleep(0.1)
    began = trio.current_time()
    await running.upstream.until(lambda server: server.open_requests == 0)
    assert trio.current_time() - began < 2  # the promise is 0.1; the machine may be busy
    assert running.upstream.left == 1


async def test_what_there_is_of_the_answer_is_kept_with_its_usage(running: Any) -> None:
    async with running.raw("/chat", {"message": "x", "model": SLOW, "stream": True}) as answer:
        await answer.until(b"tok2")
        conversation_id = (await running.client.get("/conversations")).json()["conversations"][0]["id"]
    question, kept = await running.until_answered(conversation_id)
    assert question["content"] == "x"
    assert kept["content"].startswith("tok0 tok1 tok2 ")
    assert kept["metadata"]["finish_reason"] == "cancelled"
    assert kept["metadata"]["usage"]["estimated"] is True
    assert kept["metadata"]["usage"]["completion_tokens"] > 0


async def test_in_the_background_it_goes_on_without_viewers(running: Any) -> None:
    body = {"message": "x", "model": "mock/tokens?count=20&delay=0.02", "stream": True, "background": True}
    async with running.raw("/chat", body) as answer:
        head = await answer.until(b"tok0")
    conversation_id = head.lower().partition(b"x-conversation-id: ")[2].partition(b"\r\n")[0].decode()
    kept = await running.until_answered(conversation_id)
    assert kept[1]["metadata"]["finish_reason"] == "stop"
    assert kept[1]["content"].endswith("tok19 ")


async def test_stop_ends_it_for_everybody_and_keeps_the_text(running: Any, events: Any) -> None:
    body = {"message": "x", "model": SLOW, "stream": True, "background": True}
    async with running.raw("/chat", body) as answer:
        await answer.until(b"tok1")
        conversation_id = (await running.client.get("/conversations")).json()["conversations"][0]["id"]
        stopped = await running.client.post(f"/conversations/{conversation_id}/stop")
        assert stopped.json() == {"success": True, "stopped": 1}
        await running.upstream.until(lambda server: server.open_requests == 0)
        told = await answer.rest()
    assert b'"finish_reason":"stopped"' in told
    assert b"data: [DONE]" in told
    kept = await running.messages(conversation_id)
    assert kept[1]["metadata"]["finish_reason"] == "stopped"
    assert kept[1]["content"].startswith("tok0 tok1 ")
    assert (await running.client.post(f"/conversations/{conversation_id}/stop")).json()["stopped"] == 0


async def test_deleting_a_conversation_stops_its_answer_and_leaves_nothing(running: Any) -> None:
    body = {"message": "x", "model": SLOW, "stream": True, "background": True}
    async with running.raw("/chat", body) as answer:
        await answer.until(b"tok1")
        conversation_id = (await running.client.get("/conversations")).json()["conversations"][0]["id"]
        response = await running.client.delete(f"/conversations/{conversation_id}")
        assert response.json() == {"success": True}
    await running.upstream.until(lambda server: server.open_requests == 0)
    assert (await running.client.get(f"/conversations/{conversation_id}")).status_code == 404
    assert (await running.client.get("/conversations")).json()["total"] == 0


async def test_the_background_has_its_deadline(run_chat: Any) -> None:
    async with run_chat(background_timeout=0.3) as chat:
        response = await chat.client.post("/chat", json={"message": "x", "model": SLOW, "background": True})
        assert response.status_code == 504
        await chat.upstream.until(lambda server: server.open_requests == 0)


async def test_the_background_has_no_deadline_but_its_own(run_chat: Any) -> None:
    async with run_chat(total_timeout=0.2) as chat:
        body = {"message": "x", "model": "mock/tokens?count=20&delay=0.03"}
        assert (await chat.client.post("/chat", json=body)).status_code == 504
        answer = await chat.client.post("/chat", json={**body, "background": True})
        assert answer.json()["finish_reason"] == "stop", answer.text


async def test_stopping_the_service_keeps_what_there_is(run_chat: Any) -> None:
    async with run_chat() as chat:
        async with chat.raw("/chat", {"message": "x", "model": SLOW, "stream": True, "background": True}) as answer:
            head = await answer.until(b"tok1")
        conversation_id = head.lower().partition(b"x-conversation-id: ")[2].partition(b"\r\n")[0].decode()
    async with run_chat() as chat:
        kept = await chat.messages(conversation_id)
        assert kept[1]["metadata"]["finish_reason"] == "interrupted"
        assert kept[1]["content"].startswith("tok0 tok1 ")
        (used,) = (await chat.client.get("/usage")).json()["usage"]
        assert (used["requests"], used["completion_tokens"] > 0) == (1, True)
    assert chat.upstream.open_requests == 0


async def test_a_second_viewer_keeps_it_alive(running: Any) -> None:
    async with running.raw("/chat", {"message": "x", "model": SLOW, "stream": True}) as first:
        head = await first.until(b"tok0")
        conversation_id = head.lower().partition(b"x-conversation-id: ")[2].partition(b"\r\n")[0].decode()
        async with running.raw(f"/conversations/{conversation_id}/stream", method="GET") as second:
            await second.until(b"tok0")
            await first.stream.aclose()
            await second.until(b"tok30")
        await running.upstream.until(lambda server: server.open_requests == 0)


def _last_id(data: bytes) -> str:
    return data.decode().rpartition("\nid: ")[2].partition("\n")[0]


@pytest.mark.parametrize("how", [{"background": True}, {}])
async def test_coming_back_goes_on_where_it_broke_off(run_chat: Any, events: Any, how: dict[str, Any]) -> None:
    body = {"message": "x", "model": "mock/tokens?count=30&delay=0.02", "stream": True, **how}
    async with run_chat(resume_grace=0 if how else 5) as chat:
        async with chat.raw("/chat", body) as answer:
            before = await answer.until(b"tok2")
        last = _last_id(before.rpartition(b"\n\n")[0])
        read = int(last.rpartition(":")[2])
        # Without a body, as a browser does, and with it, as libraries do.
        response = await chat.client.post("/chat", json=body, headers={"Last-Event-ID": last})
        *chunks, final, done = [data for _, data in events(response.text)]
        assert done == "[DONE]"
        assert final["response"] == "".join(f"tok{n} " for n in range(30))
        assert "".join(chunk["chunk"] for chunk in chunks) == final["response"][read:]
        again = await chat.client.post("/chat", headers={"Last-Event-ID": last})
        *chunks, after, done = [data for _, data in events(again.text)]
        assert (after["response"], after["message_id"], done) == (final["response"], final["message_id"], "[DONE]")
        assert "".join(chunk["chunk"] for chunk in chunks) == final["response"][read:]
        assert len(chat.upstream.requests) <= 2  # the list of models, and one question


async def test_without_grace_there_is_nothing_to_come_back_to_but_what_is_kept(running: Any, events: Any) -> None:
    body = {"message": "x", "model": SLOW, "stream": True}
    async with running.raw("/chat", body) as answer:
        before = await answer.until(b"tok2")
    await running.upstream.until(lambda server: server.open_requests == 0)
    last = _last_id(before.rpartition(b"\n\n")[0])
    with trio.fail_after(10):
        while (response := await running.client.post("/chat", headers={"Last-Event-ID": last})).status_code == 404:
            await trio.sleep(0.01)
    final = events(response.text)[-2][1]
    assert final["finish_reason"] == "cancelled"


async def test_grace_ends(run_chat: Any) -> None:
    async with run_chat(resume_grace=0.3) as chat:
        async with chat.raw("/chat", {"message": "x", "model": SLOW, "stream": True}) as answer:
            await answer.until(b"tok2")
        assert chat.upstream.open_requests == 1
        await chat.upstream.until(lambda server: server.open_requests == 0)


@pytest.mark.parametrize("position", ["nonsense", "x:y", "a:b:-1", ":"])
async def test_an_id_that_is_none(running: Any, position: str) -> None:
    response = await running.client.post("/chat", headers={"Last-Event-ID": position})
    assert response.status_code == 400


async def test_others_cannot_come_back_to_it(running: Any) -> None:
    answer = await running.say()
    position = {"Last-Event-ID": f"{answer['message_id']}:0"}
    assert (await running.client.post("/chat", headers={**position, "X-User-ID": "bob"})).status_code == 404
    assert (await running.client.post("/chat", headers=position)).status_code == 200
    async with running.raw("/chat", {"message": "x", "model": SLOW, "stream": True}) as live:
        position = {"Last-Event-ID": _last_id((await live.until(b"tok2")).rpartition(b"\n\n")[0])}
        assert (await running.client.post("/chat", headers={**position, "X-User-ID": "bob"})).status_code == 404
