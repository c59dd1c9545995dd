"""Conversations: found, paged, changed, deleted; and nobody else's business."""

from __future__ import annotations

from typing import Any

import pytest


async def test_a_conversation_has_the_shape_of_the_specification(running: Any) -> None:
    answer = await running.say("What is the weather\n  like?")
    found = (await running.client.get(f"/conversations/{answer['conversation_id']}")).json()
    assert found.keys() >= {"id", "user_id", "title", "messages", "model", "created_at", "updated_at"}
    assert (found["user_id"], found["title"], found["model"]) == ("ann", "What is the weather like?", "mock/tokens")
    assert found["created_at"].endswith("Z")
    for each in found["messages"]:
        assert each.keys() == {"id", "user_id", "role", "content", "model", "timestamp", "metadata"}


async def test_a_long_first_message_makes_a_short_title(running: Any) -> None:
    answer = await running.say("word " * 100)
    found = (await running.client.get(f"/conversations/{answer['conversation_id']}")).json()
    assert len(found["title"]) <= 80
    assert found["title"].endswith("…")


@pytest.mark.parametrize("order", ["updated", "created"])
async def test_paging_gives_each_once_newest_first(running: Any, order: str) -> None:
    ids = [(await running.say(f"number {n}"))["conversation_id"] for n in range(7)]
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await running.client.get("/conversations", params={"limit": 3, "order": order, **cursor})).json()
        assert page["total"] == 7
        assert all("messages" not in each for each in page["conversations"])
        found += [each["id"] for each in page["conversations"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == ids[::-1]


async def test_the_last_active_comes_first(running: Any) -> None:
    ids = [(await running.say(f"number {n}"))["conversation_id"] for n in range(3)]
    await running.say("again", conversation_id=ids[0])
    listed = (await running.client.get("/conversations")).json()["conversations"]
    assert [each["id"] for each in listed] == [ids[0], ids[2], ids[1]]
    by_creation = (await running.client.get("/conversations", params={"order": "created"})).json()["conversations"]
    assert [each["id"] for each in by_creation] == ids[::-1]


async def test_messages_only_where_asked_for(running: Any) -> None:
    await running.say("hello")
    listed = (await running.client.get("/conversations", params={"messages": "true"})).json()["conversations"]
    assert [each["role"] for each in listed[0]["messages"]] == ["user", "assistant"]


async def test_messages_are_paged_from_the_end(running: Any) -> None:
    conversation_id = (await running.say("0"))["conversation_id"]
    for n in range(1, 4):
        await running.say(str(n), conversation_id=conversation_id)
    path = f"/conversations/{conversation_id}"
    last = (await running.client.get(path, params={"limit": 3})).json()
    before = (await running.client.get(path, params={"cursor": last["next_cursor"]})).json()
    assert before["next_cursor"] is None
    texts = [each["content"] for each in before["messages"] + last["messages"] if each["role"] == "user"]
    assert texts == ["0", "1", "2", "3"]


async def test_changes(running: Any) -> None:
    answer = await running.say()
    path = f"/conversations/{answer['conversation_id']}"
    change = {"title": "New", "model": "offline", "system": "Be brief.", "metadata": {"pinned": True}}
    changed = (await running.client.patch(path, json=change)).json()
    assert {key: changed[key] for key in change} == change
    body = {"message": "x", "conversation_id": answer["conversation_id"]}
    assert (await running.client.post("/chat", json=body)).json()["model"] == "offline/retrieval"
    await running.client.patch(path, json={"model": "auto"})
    assert (await running.client.post("/chat", json=body)).json()["model"] == "mock/tokens"
    for wrong in ({"title": ""}, {"title": "x" * 201}, {"metadata": 1}):
        assert (await running.client.patch(path, json=wrong)).status_code == 422


async def test_a_conversation_without_messages(running: Any) -> None:
    made = await running.client.post("/conversations", json={"title": "Plans", "model": "offline"})
    assert made.status_code == 201
    conversation_id = made.json()["id"]
    assert await running.messages(conversation_id) == []
    body = {"message": "x", "conversation_id": conversation_id}
    assert (await running.client.post("/chat", json=body)).json()["model"] == "offline/retrieval"
    assert (await running.client.get(f"/conversations/{conversation_id}")).json()["title"] == "Plans"


async def test_deleted_is_gone(running: Any) -> None:
    answer = await running.say()
    path = f"/conversations/{answer['conversation_id']}"
    assert (await running.client.delete(path)).json() == {"success": True}
    assert (await running.client.get(path)).status_code == 404
    assert (await running.client.delete(path)).status_code == 404
    body = {"message": "x", "conversation_id": answer["conversation_id"]}
    assert (await running.client.post("/chat", json=body)).status_code == 404


async def test_nobody_elses_business(running: Any) -> None:
    answer = await running.say("secret")
    path = f"/conversations/{answer['conversation_id']}"
    bob = {"X-User-ID": "bob"}
    client = running.client
    assert (await client.get(path, headers=bob)).status_code == 404
    assert (await client.patch(path, json={"title": "x"}, headers=bob)).status_code == 404
    assert (await client.delete(path, headers=bob)).status_code == 404
    assert (await client.post(f"{path}/stop", headers=bob)).status_code == 404
    assert (await client.get(f"{path}/stream", headers=bob)).status_code == 404
    body = {"message": "x", "conversation_id": answer["conversation_id"]}
    assert (await client.post("/chat", json=body, headers=bob)).status_code == 404
    listed = (await client.get("/conversations", headers=bob)).json()
    assert (listed["conversations"], listed["total"]) == ([], 0)
    assert (await client.get("/usage", headers=bob)).json()["usage"] == []
    assert len(await running.messages(answer["conversation_id"])) == 2
