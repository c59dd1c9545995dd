"""What belongs to a conversation."""

from __future__ import annotations

import pytest


async def put(memories, /, **body):
    return await memories.ask("POST", "/context", json=body)


async def test_a_context_is_made_then_changed(memories):
    one, two = await memories.add("one"), await memories.add("two")
    made = await put(memories, conversation_id="c 1", summary="so far", memories=[two["id"], one])
    assert made.status_code == 201
    context = made.json()
    assert set(context) == {"id", "user_id", "conversation_id", "summary", "memories", "created_at", "updated_at"}
    assert (context["user_id"], context["conversation_id"], context["summary"]) == ("ann", "c 1", "so far")
    assert context["memories"] == [two, one]
    assert (await memories.ask("GET", "/context/c%201")).json() == context
    changed = await put(memories, conversation_id="c 1", summary="further")
    assert changed.status_code == 200
    assert {**changed.json(), "updated_at": ""} == {**context, "summary": "further", "updated_at": ""}
    assert (await put(memories, conversation_id="c 1", memories=[])).json()["memories"] == []


async def test_what_was_given_can_be_sent_back(memories):
    one = await memories.add("one")
    context = (await put(memories, conversation_id="c", memories=[one["id"]])).json()
    assert (await put(memories, **context)).json()["memories"] == [one]


async def test_it_shows_memories_as_they_are_now(memories):
    one, two = await memories.add("one"), await memories.add("two")
    await put(memories, conversation_id="c", memories=[one["id"], two["id"]])
    await memories.ask("PATCH", f"/memory/{two['id']}", json={"content": "two!"})
    await memories.ask("DELETE", f"/memory/{one['id']}")
    shown = (await memories.ask("GET", "/context/c")).json()["memories"]
    assert [memory["content"] for memory in shown] == ["two!"]


async def test_an_unknown_memory_changes_nothing(memories):
    one = await memories.add("one")
    await put(memories, conversation_id="c", summary="before", memories=[one["id"]])
    theirs = await memories.of("bob").add("theirs")
    for unknown in ("nowhere", theirs["id"]):
        refused = await put(memories, conversation_id="c", summary="after", memories=[unknown])
        assert refused.status_code == 404
        refused = await put(memories, conversation_id="new", memories=[one["id"], unknown])
        assert refused.status_code == 404
    context = (await memories.ask("GET", "/context/c")).json()
    assert (context["summary"], context["memories"]) == ("before", [one])
    assert (await memories.ask("GET", "/context/new")).status_code == 404


async def test_every_user_has_their_own_context_of_a_conversation(memories):
    await put(memories, conversation_id="c", summary="ann's")
    assert (await memories.of("bob").ask("GET", "/context/c")).status_code == 404
    assert (await memories.of("bob").ask("DELETE", "/context/c")).status_code == 404
    assert (await put(memories.of("bob"), conversation_id="c", summary="bob's")).status_code == 201
    assert (await memories.ask("GET", "/context/c")).json()["summary"] == "ann's"
    assert (await memories.ask("DELETE", "/context/c")).status_code == 204
    assert (await memories.of("bob").ask("GET", "/context/c")).json()["summary"] == "bob's"


async def test_deleting_it_leaves_the_memories(memories):
    one = await memories.add("one")
    await put(memories, conversation_id="c", memories=[one["id"]])
    assert (await memories.ask("DELETE", "/context/c")).status_code == 204
    assert (await memories.ask("GET", "/context/c")).status_code == 404
    assert (await memories.list())["total"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"conversation_id": ""},
        {"conversation_id": "a/b"},
        {"conversation_id": "a\0"},
        {"conversation_id": "c", "memories": [{}]},
        {"conversation_id": "c", "memories": "all"},
        {"conversation_id": "c", "summary": 5},
    ],
)
async def test_what_is_wrong_is_refused(memories, body):
    assert (await memories.ask("POST", "/context", json=body)).status_code == 422
