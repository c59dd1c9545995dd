"""The paths of SPEC 3.3, as a client sees them."""

from __future__ import annotations

import pytest
import trio

from uait.services.memory import rows
from uait.services.memory.service import memory
from uait.storage import DatabaseFull
from uait.web import encode_cursor

FIELDS = {
    "id", "user_id", "type", "content", "metadata", "tags", "created_at", "updated_at", "access_count", "last_access",
    "agent_id", "session_id", "source", "occurred_at", "importance", "valid_from", "valid_until", "expires_at",
}  # fmt: skip


async def test_a_memory_is_stored_as_it_was_told(memories):
    content = "  Ünïcode 東京 🎉,\r\n\ttabs, 'quotes' \"and\" \x00 a NUL \u2028 \n"
    metadata = {"nested": {"list": [1, 2.5, None, True, {}]}, "ключ": ""}
    told = await memories.add(content, type="fact", tags=["ä", "b c", "b c"], metadata=metadata)
    assert set(told) == FIELDS
    assert (told["user_id"], told["type"], told["access_count"]) == ("ann", "fact", 0)
    assert told["created_at"] == told["updated_at"] == told["last_access"]
    assert told["created_at"].endswith("Z")
    got = (await memories.ask("GET", f"/memory/{told['id']}")).json()
    assert (got["content"], got["metadata"], got["tags"]) == (content, metadata, ["ä", "b c", "b c"])


async def test_what_is_left_out_has_plain_defaults(memories):
    told = await memories.add("x")
    assert (told["type"], told["tags"], told["metadata"]) == ("general", [], {})


async def test_memories_survive_a_restart(run_service):
    async with run_service(memory) as client:
        stored = (await client.post("/memory", json={"content": "Coco is my parrot"})).json()
    async with run_service(memory) as client:
        again = (await client.get("/memory", params={"query": "parrot"})).json()
        assert again["memories"] == [{key: stored[key] for key in FIELDS}]
        assert (await client.get("/health")).json()["memories"] == 1


async def test_getting_one_counts(memories):
    told = await memories.add("x")
    for count in (1, 2):
        got = (await memories.ask("GET", f"/memory/{told['id']}")).json()
        assert got["access_count"] == count
        assert got["last_access"] > told["last_access"]
        assert got["updated_at"] == told["updated_at"]
    assert (await memories.list())["memories"] == [got]


async def test_what_is_stored_can_be_read_while_the_disk_is_full(memories, monkeypatch):
    told = await memories.add("x")

    async def full(*_):
        raise DatabaseFull

    monkeypatch.setattr("uait.storage.database.Database.write", full)
    assert (await memories.ask("GET", f"/memory/{told['id']}")).json() == told
    failed = await memories.ask("POST", "/memory", json={"content": "y"})
    assert failed.status_code == 507
    assert failed.json()["error"]["code"] == "STORAGE_FULL"


async def test_changing_one(memories):
    told = await memories.add("My boat is called Tom", tags=["harbour"], metadata={"a": 1})
    path = f"/memory/{told['id']}"
    changed = (await memories.ask("PATCH", path, json={"content": "My dog is called Rex", "tags": []})).json()
    assert changed["updated_at"] > told["updated_at"]
    assert {**changed, "updated_at": ""} == {**told, "updated_at": "", "content": "My dog is called Rex", "tags": []}
    assert await memories.find("boat") == await memories.find("harbour") == []
    assert await memories.find("dog") == ["My dog is called Rex"]
    assert (await memories.ask("PATCH", path, json={})).json() == changed
    changed = (await memories.ask("PATCH", path, json={"metadata": {}, "type": "pet"})).json()
    assert (changed["metadata"], changed["type"]) == ({}, "pet")


async def test_deleting_one(memories):
    told = await memories.add("secret plans")
    path = f"/memory/{told['id']}"
    deleted = await memories.ask("DELETE", path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE", "PATCH"):
        gone = await memories.ask(method, path, json={} if method == "PATCH" else None)
        assert gone.status_code == 404
        assert gone.json()["error"]["message"] == "There is no memory with this id."
    assert await memories.find("secret") == []


async def test_what_is_deleted_is_gone_from_the_file(run_service, tmp_path):
    async with run_service(memory) as client:
        told = (
            await client.post("/memory", json={"content": "the password is xyzzyplugh", "tags": ["quuxtag"]})
        ).json()
        await client.post("/memory", json={"content": "something else"})
        await client.post(
            "/context", json={"conversation_id": "c", "summary": "about frobnicate", "memories": [told["id"]]}
        )
    file = next((tmp_path / "uait").glob("memory.sqlite3"))
    assert b"xyzzyplugh" in file.read_bytes()
    async with run_service(memory) as client:
        assert (await client.delete(f"/memory/{told['id']}")).status_code == 204
        assert (await client.delete("/context/c")).status_code == 204
    for word in (b"xyzzyplugh", b"quuxtag", b"frobnicate"):
        assert word not in file.read_bytes()


async def test_paging_by_cursor_meets_every_memory_once_whatever_comes_and_goes(memories):
    told = [await memories.add(f"note {number}") for number in range(10)]
    seen, cursor = [], {}
    while True:
        page = await memories.list(limit=3, **cursor)
        assert page["count"] == len(page["memories"]) <= 3
        seen += [memory["content"] for memory in page["memories"]]
        await memories.store("newer")
        await memories.ask("DELETE", f"/memory/{page['memories'][-1]['id']}")
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [memory["content"] for memory in reversed(told)]


async def test_paging_by_offset(memories):
    for number in range(5):
        await memories.add(f"note {number}")
    for query in ({}, {"query": "note"}):
        found = await memories.list(limit=2, offset=2, **query)
        assert [each["content"] for each in found["memories"]] == ["note 2", "note 1"]
        assert (found["count"], found["total"], found["query"]) == (2, 5, query.get("query", ""))
        further = await memories.list(limit=2, cursor=found["next_cursor"], **query)
        assert [each["content"] for each in further["memories"]] == ["note 0"]
        assert further["next_cursor"] is None
        assert (await memories.list(offset=99, **query))["memories"] == []


async def test_the_cursor_of_another_list_is_refused(memories):
    for number in range(3):
        await memories.add(f"note {number}")
    newest = (await memories.list(limit=1))["next_cursor"]
    best = (await memories.list("note", limit=1))["next_cursor"]
    for params in ({"query": "note", "cursor": newest}, {"cursor": best}, {"cursor": "nonsense"}):
        assert (await memories.ask("GET", "/memory", params=params)).status_code == 404


async def test_filters(memories):
    await memories.add("one", type="fact", tags=["a", "b"])
    two = await memories.add("two", type="fact", tags=["b"])
    await memories.add("three", tags=["a,b"])
    assert await memories.find(type="fact") == ["two", "one"]
    assert await memories.find(tags="b") == ["two", "one"]
    assert await memories.find(tags=["a", "b"]) == await memories.find(tags="a,b") == ["one"]
    assert await memories.find("three", type="fact") == []
    assert await memories.find("one two", tags="b", type="fact", limit=1) == ["two"]
    moment = two["created_at"]
    assert await memories.find(start_date=moment) == ["three", "two"]
    assert await memories.find(end_date=moment) == ["two", "one"]
    assert await memories.find(start_date=moment, end_date=moment) == ["two"]
    today = moment[:10]
    assert len(await memories.find(start_date=today, end_date=today)) == 3
    assert await memories.find(end_date="2020-01-01") == []
    assert await memories.find(start_date="2999-01-01T00:00:00+02:00") == []


async def test_search_by_body_is_the_same_as_by_query(memories):
    await memories.add("I live in Oslo", type="fact", tags=["home"])
    await memories.add("I work in Bergen")
    asked = {"query": "Where do I live?", "type": "fact", "tags": ["home"], "limit": 5, "offset": 0,
             "start_date": "2020-01-01", "end_date": "2999-01-01T00:00:00Z"}  # fmt: skip
    by_body = await memories.ask("POST", "/memory/search", json=asked)
    assert by_body.status_code == 200
    assert by_body.json() == await memories.list(**asked)
    assert [each["content"] for each in by_body.json()["memories"]] == ["I live in Oslo"]
    assert (await memories.ask("POST", "/memory/search", json={})).json()["count"] == 2


async def test_large_contents_end_a_page_early(memories, monkeypatch):
    monkeypatch.setattr(rows, "ANSWER_CHARACTERS", 1000)
    for number in range(5):
        await memories.add(f"{number} " + "x" * 400)
    seen, cursor = [], {}
    for expected in (2, 2, 1):
        page = await memories.list(**cursor)
        assert (page["count"], page["total"]) == (expected, 5)
        seen += [memory["content"][0] for memory in page["memories"]]
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ["4", "3", "2", "1", "0"]
    await memories.add("y" * 5000)
    assert (await memories.list())["count"] == 1


async def test_statistics(memories):
    assert (await memories.ask("GET", "/memory/stats")).json() == {
        "total": 0, "characters": 0, "types": {}, "first": None, "last": None
    }  # fmt: skip
    first = await memories.add("äb")
    await memories.add("abc", type="fact")
    last = await memories.add("abcd")
    await memories.of("bob").add("not mine")
    assert (await memories.ask("GET", "/memory/stats")).json() == {
        "total": 3, "characters": 9, "types": {"general": 2, "fact": 1},
        "first": first["created_at"], "last": last["created_at"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.content"),
        ({"content": ""}, "$.content"),
        ({"content": " \n"}, "$.content"),
        ({"content": 5}, "$.content"),
        ({"content": "x" * (1024 * 1024 + 1)}, "$.content"),
        ({"content": "x", "type": ""}, "$.type"),
        ({"content": "x", "tags": "a"}, "$.tags"),
        ({"content": "x", "tags": ["a", 1]}, "$.tags[1]"),
        ({"content": "x", "tags": [""]}, "$.tags"),
        ({"content": "x", "tags": ["a"] * 65}, "$.tags"),
        ({"content": "x", "metadata": []}, "$.metadata"),
        ({"content": "x", "metadata": {"a": "x" * 65536}}, "$"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_stored(memories, body, path):
    refused = await memories.ask("POST", "/memory", json=body)
    assert refused.status_code == 422
    assert [problem["path"].startswith(path) for problem in refused.json()["error"]["details"]] == [True]
    assert (await memories.list())["total"] == 0
    if body:
        told = await memories.add("y")
        assert (await memories.ask("PATCH", f"/memory/{told['id']}", json=body)).status_code == 422
        assert (await memories.list())["memories"] == [told]


@pytest.mark.parametrize(
    "params", [{"limit": "0"}, {"limit": "201"}, {"offset": "-1"}, {"start_date": "yesterday"}, {"limit": "many"}]
)
async def test_a_wrong_question_is_refused(memories, params):
    assert (await memories.ask("GET", "/memory", params=params)).status_code == 422


async def test_a_megabyte_is_fine(memories):
    told = await memories.add("ü" * (1024 * 1024))
    assert len((await memories.list())["memories"][0]["content"]) == 1024 * 1024
    assert (await memories.ask("DELETE", f"/memory/{told['id']}")).status_code == 204


async def test_many_at_once_are_all_stored(memories):
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(memories.add, f"note {number}")
    assert (await memories.list("note"))["total"] == 100


async def test_health_counts_and_checks(memories):
    await memories.add("x")
    health = (await memories.ask("GET", "/health")).json()
    assert (health["status"], health["service"], health["memories"]) == ("healthy", "memory-service", 1)
    assert health["checks"] == {"database": "ok"}


@pytest.mark.parametrize("place", [-1, 2**31, 2**63, 2**64 - 1, 1.5, "1", [], {}])
async def test_a_cursor_that_no_list_gave_is_refused(memories, place):
    await memories.add("a note")
    response = await memories.ask("GET", "/memory", params={"query": "note", "cursor": encode_cursor(place)})
    assert response.status_code == 404
