"""Scopes, history, validity, expiry; what is there already."""

from __future__ import annotations

import gc
import json
import threading
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import trio

from uait.calls.transport import TrioTransport
from uait.services.memory import importing, store
from uait.services.memory.batch import BatchRequest, take_batch
from uait.services.memory.contexts import ContextStore
from uait.services.memory.emptiness import Emptiness
from uait.services.memory.forget import Forgetter
from uait.services.memory.model import MemoryChange, MemoryQuery, NewMemory
from uait.services.memory.rows import prepare
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.search import Finder
from uait.services.memory.service import memory
from uait.services.memory.store import MemoryStore
from uait.services.memory.watch import Changes
from uait.services.memory.work import Work
from uait.storage import open_database


async def test_the_very_same_is_stored_once(memories):
    first = await memories.store("I like tea", tags=["drink"], metadata={"a": 1, "b": 2})
    again = await memories.ask(
        "POST", "/memory", json={"content": "I like tea", "tags": ["drink"], "metadata": {"b": 2, "a": 1}}
    )
    assert again.status_code == 200
    assert again.json() == {**first, "deduped": True}
    assert (await memories.list())["total"] == 1
    for other in (
        {},
        {"tags": ["drink"]},
        {"session_id": "s"},
        {"occurred_at": "2023-01-01T00:00:00Z"},
        {"importance": 1},
    ):
        assert not (await memories.store("I like tea", **other))["deduped"]
    assert not (await memories.of("bob").store("I like tea", tags=["drink"], metadata={"a": 1, "b": 2}))["deduped"]


async def test_what_is_nearly_the_same_is_told_and_kept(memories):
    first = await memories.store("My sister Anna lives in the city of Oslo with two cats")
    for content in (
        "my SISTER Anna lives in the city of Oslo, with two cats!",
        "My sister Anna lived in the city of Oslo with two cats and a dog",
    ):
        stored = await memories.store(content)
        assert stored["deduped"] is False
        assert first["id"] in [each["id"] for each in stored["similar"]]
        assert all(0.7 <= each["similarity"] <= 1 for each in stored["similar"])
    assert (await memories.store("My brother Tom lives in Bergen"))["similar"] == []
    assert (await memories.of("bob").store("My sister Anna lives in the city of Oslo with two cats"))["similar"] == []
    assert (await memories.list())["total"] == 4


async def test_scopes(memories):
    await memories.add("tea", session_id="s1", agent_id="a1")
    await memories.store("tea", run_id="s2", agent_id="a1", source="import")
    assert len(await memories.find("tea")) == 2
    found = await memories.list("tea", session_id="s2")
    assert [(each["session_id"], each["agent_id"], each["source"]) for each in found["memories"]] == [
        ("s2", "a1", "import")
    ]
    assert (await memories.list(run_id="s1"))["total"] == 1
    assert (await memories.list(agent_id="a1"))["total"] == 2
    assert (await memories.list("tea", agent_id="a2"))["total"] == 0


async def test_every_change_is_kept(memories):
    told = await memories.add("I live in Oslo", tags=["home"])
    path = f"/memory/{told['id']}"
    second = (await memories.ask("PATCH", path, json={"content": "I live in Bergen"})).json()
    third = (await memories.ask("PATCH", path, json={"tags": [], "importance": 0.9})).json()
    versions = (await memories.ask("GET", f"{path}/history")).json()["versions"]
    assert [(each["version"], each["event"]) for each in versions] == [(1, "add"), (2, "change"), (3, "change")]
    assert [each["memory"] for each in versions] == [told, second, third]
    assert (await memories.of("bob").ask("GET", f"{path}/history")).status_code == 404


async def test_it_can_be_read_as_it_was(memories):
    told = await memories.add("I live in Oslo")
    path = f"/memory/{told['id']}"
    await memories.ask("PATCH", path, json={"content": "I live in Bergen"})
    then = {"as_of": told["created_at"]}
    assert (await memories.ask("GET", path, params=then)).json()["content"] == "I live in Oslo"
    assert await memories.find(**then) == ["I live in Oslo"]
    assert await memories.find("Bergen", **then) == ["I live in Oslo"]
    assert (await memories.ask("GET", path)).json()["content"] == "I live in Bergen"
    assert (await memories.ask("GET", path, params={"as_of": "2020-01-01"})).status_code == 404
    assert await memories.find(as_of="2020-01-01") == []


async def test_what_is_invalid_is_found_only_by_its_time(memories):
    old = await memories.add("I work at Acme")
    gone = (await memories.ask("POST", f"/memory/{old['id']}/invalidate")).json()
    await memories.add("I work at Initech")
    assert gone["valid_until"] >= old["created_at"]
    assert await memories.find("where do I work") == ["I work at Initech"]
    assert await memories.find() == ["I work at Initech"]
    assert (await memories.list())["total"] == 1
    assert await memories.find("where do I work", as_of=old["created_at"]) == ["I work at Acme"]
    await memories.add("I will work in Rome", valid_from="2999-01-01T00:00:00Z")
    assert len(await memories.find("work")) == 1
    # It is no longer there, so it can be said again.
    assert not (await memories.store("I work at Acme"))["deduped"]


async def test_what_expires_is_gone_at_once_and_then_deleted(tmp_path):
    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database:
        changes = Changes()
        store, finder = MemoryStore(database, changes), Finder(database)
        past = datetime.now(UTC) - timedelta(seconds=1)
        await store.add("ann", NewMemory(content="a code", expires_at=past))
        await store.add("ann", NewMemory(content="a coat", expires_at=past + timedelta(days=1)))
        assert [each.content for each in (await finder.search("ann", MemoryQuery())).memories] == ["a coat"]
        assert [each.content for each in (await finder.search("ann", MemoryQuery(query="code"))).memories] == []
        assert await Forgetter(database, changes, Work()).sweep() == 1
        assert await store.count() == 1


async def test_what_is_kept_longer_at_the_last_moment_is_kept(tmp_path, monkeypatch):
    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database:
        changes = Changes()
        store = MemoryStore(database, changes)
        past = datetime.now(UTC) - timedelta(seconds=1)
        kept = await store.add("ann", NewMemory(content="a code", expires_at=past))
        gone = await store.add("ann", NewMemory(content="a coat", expires_at=past))
        reader = changes.feed("ann").read(0)
        fetch_all = database.fetch_all

        async def slow(*args):
            rows = await fetch_all(*args)
            monkeypatch.undo()
            await store.change("ann", kept.id, MemoryChange(expires_at=past + timedelta(days=1)))
            return rows

        monkeypatch.setattr(database, "fetch_all", slow)
        assert await Forgetter(database, changes, Work()).sweep() == 1
        assert (await store.get("ann", kept.id)).content == "a code"
        with reader:
            events = [(await anext(reader)).data for _ in range(2)]
        assert [(event["event"], event["ids"]) for event in events] == [("change", [kept.id]), ("expire", [gone.id])]


async def test_a_batch_is_stored_in_order_and_told(memories):
    new = [{"content": f"note {number}", "metadata": {"n": number}} for number in range(1200)] + [
        {"content": "note 5", "metadata": {"n": 5}}
    ]
    answer = (await memories.ask("POST", "/memory/batch", json={"memories": new})).json()
    assert (answer["added"], answer["deduped"]) == (1200, 1)
    assert answer["results"][-1] == {"id": answer["results"][5]["id"], "deduped": True, "similar": []}
    got = (await memories.ask("GET", f"/memory/{answer['results'][700]['id']}")).json()
    assert got["content"] == "note 700"
    again = (await memories.ask("POST", "/memory/batch", json={"memories": new})).json()
    assert (again["added"], again["deduped"]) == (0, 1201)
    assert (await memories.list("note"))["total"] == 1200
    for wrong in ({}, {"memories": []}, {"memories": [{"content": "x"}, {"content": ""}]}):
        assert (await memories.ask("POST", "/memory/batch", json=wrong)).status_code == 422
    assert (await memories.list())["total"] == 1200


async def test_in_a_batch_too_only_the_very_same_is_stored_once(memories):
    differing = [
        {"content": "I like tea", **more}
        for more in (
            {"expires_at": "2001-01-01T00:00:00Z"},
            {"expires_at": "2999-01-01T00:00:00Z"},
            {"valid_until": "2001-01-01T00:00:00Z"},
            {"valid_from": "2001-01-01T00:00:00Z"},
            {"importance": 1},
            {},
            {"importance": 1},
        )
    ]
    first = (await memories.ask("POST", "/memory/batch", json={"memories": differing})).json()
    assert [each["deduped"] for each in first["results"]] == [*[False] * 6, True]
    assert first["results"][6]["id"] == first["results"][4]["id"]
    again = (await memories.ask("POST", "/memory/batch", json={"memories": differing})).json()
    # What is no longer there can be said again.
    assert [each["deduped"] for each in again["results"]] == [False, True, False, True, True, True, True]
    assert again["results"][5]["id"] == first["results"][5]["id"]


async def test_a_batch_tells_how_far_it_is(memories):
    new = [{"content": f"note {number}"} for number in range(1001)]
    headers = {"X-User-ID": "ann", "Accept": "text/event-stream"}
    answer = await memories.client.post("/memory/batch", json={"memories": new}, headers=headers)
    assert answer.headers["content-type"] == "text/event-stream"
    assert [line for line in answer.text.splitlines() if '"done"' in line] == [
        'data: {"done":1000,"total":1001}', 'data: {"done":1001,"total":1001}',
    ]  # fmt: skip
    assert '"added":1001' in answer.text


async def test_changes_can_be_watched_from_where_one_was(run_service_live):
    async def events(client: httpx.AsyncClient, count: int, **headers: str) -> list[str]:
        said = b""
        async with (
            client.stream("GET", "/memory/events", headers=headers) as answer,
            aclosing(answer.stream.__aiter__()) as chunks,
        ):
            async for chunk in chunks:
                said += chunk
                if said.count(b"\n\n") >= count:
                    break
        return said.decode().split("\n")

    async with run_service_live(memory) as url, httpx.AsyncClient(base_url=url, transport=TrioTransport()) as client:
        with trio.fail_after(20):
            position = (await events(client, 1))[0].removeprefix("id: ")
            one = (await client.post("/memory", json={"content": "one"})).json()["id"]
            await client.post("/memory", json={"content": "not for ann's eyes"}, headers={"X-User-ID": "bob"})
            await client.delete(f"/memory/{one}")
            lines = await events(client, 3, **{"Last-Event-ID": position})
            assert '"recovered":true' in lines[2]
            told = [line for line in lines if '"event":' in line]
            assert [one in line for line in told] == [True, True]
            assert '"event":"add"' in told[0]
            assert '"event":"delete"' in told[1]
            await client.delete("/memory", params={"all": "true"})
            assert '"recovered":false' in (await events(client, 1, **{"Last-Event-ID": position}))[2]


@pytest.mark.parametrize("question", ["what is in december", "what is in the winter"])
async def test_the_last_year_that_there_is_can_be_stored_and_asked_for(memories, question):
    await memories.add("the dragon sleeps", occurred_at="2022-12-15T00:00:00Z")
    await memories.add("the end of it all", occurred_at="9999-12-15T00:00:00Z")
    assert (await memories.ask("GET", "/memory", params={"query": question})).status_code == 200


async def test_the_very_same_is_found_among_many_that_are_nearly_it(memories):
    said = [{"content": "the same", "importance": number / 20} for number in range(12)]
    first = [await memories.store(**each) for each in said]
    again = [await memories.store(**each) for each in said]
    assert [(each["id"], each["deduped"]) for each in again] == [(each["id"], True) for each in first]
    batch = (await memories.ask("POST", "/memory/batch", json={"memories": said})).json()
    assert (batch["added"], batch["deduped"]) == (0, 12)


LONG = "so many words " * 2000


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/memory", {"json": {"content": LONG}}),
        ("/memory/batch", {"json": {"memories": [{"content": LONG}] * 2}}),
        ("/memory/import", {"content": json.dumps({"content": LONG})}),
    ],
)
async def test_the_deadline_does_not_wait_for_words_and_nobody_else_does(memories, monkeypatch, path, sent):
    free, begun, late = threading.Event(), [], []

    def prepare_slowly(*args, **given):
        begun.append(args)
        if not free.wait(5):
            late.append(args)
        return prepare(*args, **given)

    for module in (store, importing):
        monkeypatch.setattr(module, "prepare", prepare_slowly)
    headers = {"X-User-ID": "ann", "X-Request-Timeout-Ms": "300"}
    try:
        answer = await memories.client.post(path, headers=headers, **sent)
    finally:
        free.set()
    assert (answer.status_code, len(begun), late) == (504, 1, [])
    await trio.sleep(0.05)
    assert len(begun) == 1  # the second of a batch is not begun any more
    assert (await memories.list())["total"] == 0


async def test_who_leaves_between_two_parts_leaves_no_generator_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART", 1)
    monkeypatch.setattr(importing, "PART", 1)

    async def leave(progress):
        raise ConnectionError

    async def lines():
        yield b'{"content": "one"}\n{"content": "two"}\n'

    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database:
        kept, changes = MemoryStore(database), Changes()
        batch = BatchRequest(memories=[NewMemory(content="a"), NewMemory(content="b")])
        with pytest.raises(ConnectionError):
            await take_batch(kept, Work(), "ann", batch, leave)
        taking = importing.Import(database, ContextStore(database), changes, Emptiness(database), "ann", "skip")
        async with aclosing(lines()) as chunks:
            with pytest.raises(ConnectionError):
                await taking.run(chunks, leave)
        gc.collect()
        assert (await kept.statistics("ann")).total == 2
