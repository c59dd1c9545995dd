"""Export and import; contexts put together; the self-test; mem0's interface."""

from __future__ import annotations

import json

import pytest
from quart import Response, request

from uait import Context, service
from uait.services.memory import importing
from uait.services.memory.assembly import Assembler, AssembleRequest
from uait.services.memory.contexts import ContextStore
from uait.services.memory.forget import Forgetter
from uait.services.memory.model import NewContext, NewMemory
from uait.services.memory.portable import Export
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.search import Finder
from uait.services.memory.service import memory
from uait.services.memory.store import MemoryStore
from uait.services.memory.watch import Changes
from uait.services.memory.work import Work
from uait.storage import open_database


async def test_an_export_can_be_imported_by_another_user(memories):
    one = await memories.add("one", tags=["a"], session_id="s", importance=0.5, metadata={"date": "8 May 2023"})
    two = await memories.add("two", type="fact", valid_until="2999-01-01T00:00:00Z")
    await memories.ask(
        "POST", "/context", json={"conversation_id": "c", "summary": "sum", "memories": [two["id"], one["id"]]}
    )
    exported = await memories.ask("GET", "/memory/export")
    assert exported.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in exported.text.splitlines()]
    assert [line["kind"] for line in lines] == ["header", "memory", "memory", "context"]
    bob = memories.of("bob")
    report = (await bob.ask("POST", "/memory/import", content=exported.content)).json()
    assert report == {
        "lines": 4,
        "added": 2,
        "replaced": 0,
        "skipped": 0,
        "changes": 0,
        "contexts": 1,
        "failed": 0,
        "errors": [],
    }
    assert (await bob.list())["memories"] == [{**two, "user_id": "bob"}, {**one, "user_id": "bob"}]
    assert (await bob.ask("GET", "/context/c")).json()["summary"] == "sum"
    assert await bob.find("one") == ["one"]
    assert (await memories.list())["total"] == 2


async def test_an_export_names_no_memory_that_is_not_in_it(tmp_path, monkeypatch):
    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database:
        store, contexts = MemoryStore(database), ContextStore(database)
        one = await store.add("ann", NewMemory(content="one"))
        read = database.read

        async def slow(function):
            found = await read(function)
            if found == b"":  # all memories are told, the contexts are not
                monkeypatch.undo()
                two = await store.add("ann", NewMemory(content="two"))
                await contexts.put("ann", NewContext(conversation_id="c", summary="sum", memories=[two.id, one.id]))
            return found

        monkeypatch.setattr(database, "read", slow)
        lines = [json.loads(line) async for piece in Export(database, "ann") for line in piece.splitlines()]
        assert [line["kind"] for line in lines] == ["header", "memory", "context"]
        assert lines[2]["memories"] == [one.id]


async def test_history_goes_along_where_it_is_asked_for(memories):
    told = await memories.add("tea at five", importance=0.5)
    await memories.add("the other")
    for content in ("tea at six", "tea at seven"):
        await memories.ask("PATCH", f"/memory/{told['id']}", json={"content": content, "tags": [content]})
    await memories.ask("POST", f"/memory/{told['id']}/invalidate")
    plain = (await memories.ask("GET", "/memory/export")).text
    assert '"change"' not in plain
    exported = await memories.ask("GET", "/memory/export", params={"history": "true"})
    kinds = [json.loads(line)["kind"] for line in exported.text.splitlines()]
    assert kinds == ["header", "memory", "change", "change", "change", "memory"]
    bob = memories.of("bob")
    for policy, count, changes in (("skip", "added", 3), ("skip", "skipped", 0), ("replace", "replaced", 3)):
        answer = await bob.ask("POST", "/memory/import", params={"conflict": policy}, content=exported.content)
        report = answer.json()
        assert (report[count], report["changes"], report["failed"]) == (2, changes, 0)
        path = f"/memory/{told['id']}/history"
        theirs = (await bob.ask("GET", path)).json()["versions"]
        assert [each["memory"]["content"] for each in theirs] == ["tea at five", "tea at six", *["tea at seven"] * 2]
        for each in theirs:
            each["memory"]["user_id"] = "ann"
        assert theirs == (await memories.ask("GET", path)).json()["versions"]
    found = await bob.ask("GET", f"/memory/{told['id']}", params={"as_of": theirs[1]["at"]})
    assert found.json()["content"] == "tea at six"


async def test_a_history_without_its_memory_is_not_taken(memories):
    told = await memories.add("one")
    good = {"kind": "change", "event": "change", "at": "2023-05-08T00:00:00Z"}
    lines = [
        {**good, "id": told["id"], "before": {"content": "never"}},
        {"id": "new", "content": "new"},
        {**good, "id": "new", "before": {"content": None}},
        {**good, "id": "new", "before": {"content": "older", "importance": None, "other": 1}},
        {**good, "id": "other", "before": {}},
        {**good, "id": "new", "event": "other", "before": {}},
    ]
    body = "\n".join(map(json.dumps, lines))
    report = (await memories.ask("POST", "/memory/import", content=body)).json()
    assert (report["added"], report["changes"], report["failed"]) == (1, 1, 4)
    assert [each["line"] for each in sorted(report["errors"], key=lambda each: each["line"])] == [1, 3, 5, 6]
    versions = (await memories.ask("GET", "/memory/new/history")).json()["versions"]
    assert [each["memory"]["content"] for each in versions] == ["older", "new"]
    assert len((await memories.ask("GET", f"/memory/{told['id']}/history")).json()["versions"]) == 1


async def test_conflicts_are_met_as_asked(memories):
    told = await memories.add("one")
    line = json.dumps({"id": told["id"], "content": "changed"})
    for policy, count, content in (
        ("skip", "skipped", "one"),
        ("error", "failed", "one"),
        ("replace", "replaced", "changed"),
    ):
        report = (await memories.ask("POST", "/memory/import", params={"conflict": policy}, content=line)).json()
        assert (report[count], report["added"]) == (1, 0)
        assert await memories.find() == [content]
    assert await memories.find("changed") == ["changed"]
    assert (await memories.ask("POST", "/memory/import", params={"conflict": "other"}, content=line)).status_code == 422


@pytest.mark.parametrize("part", [1, 500])
async def test_a_later_line_replaces_an_earlier_one_wherever_a_part_ends(memories, monkeypatch, part):
    monkeypatch.setattr(importing, "PART", part)
    change = {"kind": "change", "id": "x", "event": "change", "at": "2026-01-01T00:00:00Z"}
    lines = [
        {"id": "x", "content": "one"},
        change | {"before": {"content": "zero"}},
        {"id": "y", "content": "other"},
        {"id": "x", "content": "two"},
        {"id": "x", "content": "three"},
        change | {"before": {"content": "two and a half"}},
    ]
    raw = "\n".join(json.dumps(line) for line in lines)
    report = (await memories.ask("POST", "/memory/import", params={"conflict": "replace"}, content=raw)).json()
    assert (report["added"], report["replaced"], report["skipped"], report["changes"]) == (2, 2, 0, 2)
    assert set(await memories.find()) == {"three", "other"}
    assert await memories.find("three") == ["three"]
    assert await memories.find("one") == []
    history = (await memories.ask("GET", "/memory/x/history")).json()
    assert [each["memory"]["content"] for each in history["versions"]] == ["two and a half", "three"]


async def test_bad_lines_are_named_and_the_others_taken(memories):
    lines = [
        '{"content": "good"}',
        "",
        "no json",
        "[]",
        '{"content": ""}',
        '{"kind": "other"}',
        '{"kind": "header", "format": "x"}',
        '{"content": "good, too"}',
    ]
    report = (await memories.ask("POST", "/memory/import", content="\n".join(lines))).json()
    assert (report["added"], report["failed"]) == (2, 5)
    assert [each["line"] for each in report["errors"]] == [3, 4, 5, 6, 7]
    assert set(await memories.find()) == {"good", "good, too"}


async def test_an_import_tells_how_far_it_is(memories):
    lines = "\n".join(json.dumps({"content": f"note {number}"}) for number in range(1100))
    answer = await memories.client.post(
        "/memory/import", content=lines, headers={"X-User-ID": "ann", "Accept": "text/event-stream"}
    )
    assert answer.text.count("event: progress") == 2
    assert '"added":1100' in answer.text
    assert (await memories.list("note"))["total"] == 1100


async def test_a_context_is_put_together_within_its_budget(memories):
    for number, text in enumerate(
        ["Did you hear about Rex?", "No, what happened?", "He broke his leg in the park.", "Oh dear, poor dog."]
    ):
        await memories.add(text, session_id="s", metadata={"turn": number, "date": "2023-05-08"})
    for number in range(20):
        await memories.add(f"Something else about bread {number}")
    whole = (
        await memories.ask(
            "POST", "/context/assemble", json={"query": "What did Rex break?", "token_budget": 100, "limit": 3}
        )
    ).json()
    assert whole["tokens"] <= 100
    assert [each["citation"] for each in whole["memories"]] == [
        f"[{at}]" for at in range(1, len(whole["memories"]) + 1)
    ]
    for each in whole["memories"]:
        assert f"{each['citation']} (" in whole["text"]
        assert each["memory"]["content"] in whole["text"]
    assert "He broke his leg" in whole["text"]
    assert whole["text"].index("Did you hear") < whole["text"].index("He broke")
    small = (await memories.ask("POST", "/context/assemble", json={"query": "bread", "token_budget": 24})).json()
    assert small["tokens"] <= 24
    assert small["left_out"] > 0
    await memories.ask("POST", "/context", json={"conversation_id": "c", "summary": "We spoke about Rex"})
    by_conversation = (await memories.ask("POST", "/context/assemble", json={"conversation_id": "c"})).json()
    assert by_conversation["text"].startswith("Summary: We spoke about Rex\n[1]")
    assert (await memories.of("bob").ask("POST", "/context/assemble", json={"conversation_id": "c"})).status_code == 404
    assert (await memories.of("bob").ask("POST", "/context/assemble", json={"query": "Rex"})).json()["memories"] == []


async def test_the_self_test_counts_what_is_found(memories):
    told = [await memories.store(f"The code of door {word} is secret") for word in ("alpha", "beta", "gamma")]
    asked = {
        "k": 1,
        "questions": [
            {"query": "beta door", "relevant": [told[1]["id"]]},
            {"query": "gamma", "relevant": [told[2]["id"], told[0]["id"]]},
        ],
    }
    report = (await memories.ask("POST", "/memory/selftest", json=asked)).json()
    assert (report["recall"], report["complete"], report["reciprocal_rank"]) == (0.75, 0.5, 1.0)
    assert report["questions"][0]["ranks"] == {told[1]["id"]: 1}


async def test_explanations_add_up_and_signals_are_told(memories):
    await memories.add("I moved to Oslo", metadata={"date": "8 May 2023"}, importance=1)
    await memories.add("I moved a chair")
    found = await memories.list("where did I move in May 2023", explain="true", budget_ms=5000)
    assert found["signals"] == {"words": "complete", "times": "complete", "vectors": "off"}
    first = found["explanations"][0]
    assert first["id"] == found["memories"][0]["id"]
    assert found["memories"][0]["content"] == "I moved to Oslo"
    assert first["score"] == pytest.approx(sum(first["signals"].values()), abs=0.01)
    assert {"words", "when", "importance"} <= set(first["signals"])
    late = await memories.list("where did I move", budget_ms=1)
    assert late["signals"]["words"] in ("late", "complete")


@service(name="chat")
async def embedder(ctx: Context):
    """Stands in for the chat service: vectors by the first letters of what they mean."""
    app = ctx.app()

    @app.post("/v1/embeddings")
    async def embed():
        data = await request.get_json()
        if any("broken" in text for text in data["input"]):
            return {"data": "nonsense"}
        if any("garbled" in text for text in data["input"]):
            return Response("no JSON")
        if any("huge" in text for text in data["input"]):
            numbers = "1" + "0" * 400
            return Response(f'{{"data": [{{"index": 0, "embedding": [{numbers}, 1]}}]}}')
        return {
            "data": [
                {
                    "index": at,
                    "embedding": [1.0, 0.0] if any(w in text for w in ("dog", "puppy", "hound")) else [0.0, 1.0],
                }
                for at, text in enumerate(data["input"])
            ]
        }

    return app


async def test_vectors_find_what_words_do_not(run_service, memories_of):
    async with run_service(memory, settings={"embedding_model": "mock/small"}, chat=embedder) as client:
        memories = memories_of(client)
        await memories.add("Our hound is lazy")
        await memories.add("The bread is fresh")
        found = await memories.list("puppy", explain="true")
        assert found["memories"][0]["content"] == "Our hound is lazy"
        assert found["signals"]["vectors"] == "complete"
        assert "vector" in found["explanations"][0]["signals"]
        assert await memories.of("bob").find("puppy") == []
        assert (await memories.ask("POST", "/memory/embed")).json() == {"embedded": 0, "missing": 0}
        failed = await memories.list("broken bread", explain="true")
        assert failed["signals"]["vectors"] == "failed"
        assert failed["memories"][0]["content"] == "The bread is fresh"
        for trouble in ("garbled", "huge"):
            assert (await memories.list(f"{trouble} bread", explain="true"))["signals"]["vectors"] == "failed"
            await memories.add(trouble)


async def test_mem0_clients_find_what_they_know(memories):
    client = memories.client
    said = {
        "messages": [{"role": "user", "content": "I like tea"}, {"role": "assistant", "content": "Noted"}],
        "user_id": "zoe",
        "run_id": "r",
        "metadata": {"k": 1},
    }
    added = (await client.post("/memories", json=said)).json()["results"]
    assert [(each["memory"], each["event"]) for each in added] == [("I like tea", "ADD"), ("Noted", "ADD")]
    assert [each["event"] for each in (await client.post("/memories", json=said)).json()["results"]] == ["NONE", "NONE"]
    path, zoe = f"/memories/{added[0]['id']}", {"user_id": "zoe"}
    listed = (await client.get("/memories", params=zoe)).json()["results"]
    assert {each["memory"] for each in listed} == {"I like tea", "Noted"}
    found = (await client.post("/search", json={"query": "tea", "filters": {"user_id": "zoe", "run_id": "r"}})).json()[
        "results"
    ]
    assert (found[0]["memory"], found[0]["score"], found[0]["run_id"], found[0]["metadata"]["k"]) == (
        "I like tea",
        1.0,
        "r",
        1,
    )
    assert (await client.put(path, params=zoe, json={"text": "I like coffee"})).json()["message"]
    assert (await client.get(path, params=zoe)).json()["memory"] == "I like coffee"
    history = (await client.get(f"{path}/history", params=zoe)).json()
    assert [(each["event"], each["old_memory"], each["new_memory"]) for each in history] == [
        ("ADD", None, "I like tea"), ("UPDATE", "I like tea", "I like coffee"),
    ]  # fmt: skip
    missing = await client.get(path)
    assert (missing.status_code, missing.json()["detail"]) == (404, "There is no memory with this id.")
    # Who says by header who they are asks for nobody else.
    assert (await memories.ask("GET", "/memories", params=zoe)).status_code == 403
    assert (await memories.ask("POST", "/search", json={"query": "tea", "filters": zoe})).status_code == 403
    assert (await client.delete("/memories")).status_code == 422
    await client.delete("/memories", params={**zoe, "run_id": "other"})
    assert len((await client.get("/memories", params=zoe)).json()["results"]) == 2
    assert (await client.delete(path, params=zoe)).status_code == 200
    await memories.add("ann's")
    await client.post("/reset")
    assert len((await client.get("/memories", params=zoe)).json()["results"]) == 1
    await client.delete("/memories", params=zoe)
    assert (await client.get("/memories", params=zoe)).json()["results"] == []
    assert (await memories.list())["total"] == 1


async def test_mem0_clients_are_told_of_metadata_that_is_too_large(memories):
    stored = await memories.add("I like tea")
    limit = 64 * 1024
    fits, full = {"k": "x" * (limit - 100)}, {"k": "x" * (limit - len('{"k":""}'))}
    said = {"messages": [{"role": "assistant", "content": "Noted"}]}
    assert (await memories.ask("POST", "/memories", json=said | {"metadata": fits})).status_code == 200
    for answer in (
        await memories.ask("POST", "/memories", json={"messages": "I like tea", "metadata": {"k": "x" * limit}}),
        # The role has no room beside it.
        await memories.ask("POST", "/memories", json=said | {"metadata": full}),
        await memories.ask("PUT", f"/memories/{stored['id']}", json={"metadata": {"k": "x" * limit}}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
        assert "metadata must be at most 65536 bytes" in answer.json()["detail"]
    assert (await memories.list())["total"] == 2


async def test_what_is_not_there_stands_beside_nothing(memories):
    for number, content in enumerate(("far", "near", "The question about apples", "next")):
        told = await memories.add(content, session_id="s", metadata={"turn": number})
        if content == "near":
            near = told
    before = told["created_at"]
    await memories.add("later", session_id="s", metadata={"turn": 2})

    async def assembled(**more) -> list[str]:
        given = {"query": "apples", "limit": 1, **more}
        answer = (await memories.ask("POST", "/context/assemble", json=given)).json()
        return [each["memory"]["content"] for each in answer["memories"]]

    assert await assembled() == ["near", "The question about apples", "later"]
    await memories.ask("POST", f"/memory/{near['id']}/invalidate")
    assert await assembled() == ["far", "The question about apples", "later"]
    # As of a moment: what was there then, as it was then.
    await memories.ask("PATCH", f"/memory/{near['id']}", json={"content": "changed"})
    assert await assembled(as_of=before) == ["near", "The question about apples", "next"]


async def test_what_is_deleted_while_a_context_is_put_together_is_left_out(tmp_path):
    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database:
        store, contexts = MemoryStore(database), ContextStore(database)
        for content in ("green apples", "red apples"):
            kept = await store.add("ann", NewMemory(content=content))

        class Deletes(Finder):
            async def search(self, user_id, query):
                found = await super().search(user_id, query)
                await Forgetter(database, Changes(), Work()).one(user_id, kept.id)
                return found

        put = await Assembler(database, Deletes(database), contexts).assemble("ann", AssembleRequest(query="apples"))
        assert [each.memory.content for each in put.memories] == ["green apples"]
        assert put.left_out == 0
