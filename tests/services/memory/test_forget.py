"""What is forgotten is gone: from every answer, and from the files."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import apsw
import pytest
import trio

from uait.services.memory import forget
from uait.services.memory.check import check_data
from uait.services.memory.forget import ForgetRequest, Forgetter
from uait.services.memory.model import MemoryChange, NewMemory
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.service import memory
from uait.services.memory.store import MemoryStore
from uait.services.memory.watch import Changes
from uait.services.memory.work import Forgotten, Work
from uait.storage import DatabaseBusy, open_database

SECRETS = ("xyzzyplugh", "quuxtagword", "frobnicate", "grault", "waldometa", "garplysource", "pluggedsession")


def files(tmp_path: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((tmp_path / "uait").glob("memory.sqlite3*")))


async def fill(memories) -> dict:
    told = await memories.add(
        "the password is xyzzyplugh", tags=["quuxtagword"], metadata={"key": "waldometa", "speaker": "Frobnicate"},
        source="garplysource", session_id="pluggedsession",
    )  # fmt: skip
    await memories.ask("PATCH", f"/memory/{told['id']}", json={"content": "the password was grault"})
    await memories.ask("PATCH", f"/memory/{told['id']}", json={"content": "the password is xyzzyplugh"})
    await memories.ask(
        "POST", "/context", json={"conversation_id": "c", "summary": "about frobnicate", "memories": [told["id"]]}
    )
    return told


async def test_everything_of_a_user_is_gone_from_the_running_files(memories, tmp_path):
    for number in range(300):
        await memories.of("bob").add(f"bob's note {number} about apples", session_id="bobs")
    await fill(memories)
    for number in range(300):
        await memories.store(f"word{number}xyzzyplugh grault {number}")
    assert all(secret.encode() in files(tmp_path).lower() for secret in SECRETS)
    report = (await memories.ask("DELETE", "/memory", params={"all": "true"})).json()
    assert (report["memories"], report["contexts"], report["history"], report["erased"]) == (301, 1, 2, True)
    left = files(tmp_path).lower()
    assert [secret for secret in SECRETS if secret.encode() in left] == []
    assert b"ann" not in left.replace(b"channel", b"")
    assert (await memories.list())["total"] == 0
    assert (await memories.ask("GET", "/context/c")).status_code == 404
    assert (await memories.of("bob").list("apples"))["total"] == 300
    # And the user can begin anew.
    await memories.add("hello again")
    assert await memories.find("hello") == ["hello again"]


async def test_it_must_be_meant(memories):
    await memories.add("x")
    for params in ({}, {"all": "false"}, {"all": "1"}):
        assert (await memories.ask("DELETE", "/memory", params=params)).status_code == 422
    assert (await memories.list())["total"] == 1


async def test_by_filter_only_after_a_dry_run(memories, tmp_path):
    for number in range(30):
        await memories.add(f"note {number}", type="note", metadata={"n": number})
    keep = await memories.add("keep this", type="fact")
    await memories.of("bob").add("bob's", type="note")
    asked = {"filters": {"type": "note", "metadata.n": {"lt": 20}}}
    dry = (await memories.ask("POST", "/memory/forget", json=asked)).json()
    assert (dry["dry_run"], dry["memories"], len(dry["sample"])) == (True, 20, 10)
    assert (await memories.list())["total"] == 31
    wrong = await memories.ask("POST", "/memory/forget", json={**asked, "confirm": "0" * 24})
    assert wrong.status_code == 409
    await memories.add("note again", type="note", metadata={"n": 1})
    assert (await memories.ask("POST", "/memory/forget", json={**asked, "confirm": dry["confirm"]})).status_code == 409
    dry = (await memories.ask("POST", "/memory/forget", json=asked)).json()
    done = (await memories.ask("POST", "/memory/forget", json={**asked, "confirm": dry["confirm"]})).json()
    assert (done["dry_run"], done["memories"], done["erased"]) == (False, 21, True)
    assert (await memories.list("note", limit=200))["total"] == 10
    assert await memories.find("keep") == [keep["content"]]
    assert (await memories.of("bob").list())["total"] == 1
    assert b"note 7" not in files(tmp_path)


async def test_what_the_filter_no_longer_names_is_kept(tmp_path, monkeypatch):
    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database:
        changes = Changes()
        store, forgetter = MemoryStore(database, changes), Forgetter(database, changes, Work())
        kept = await store.add("ann", NewMemory(content="a plan", type="draft"))
        gone = await store.add("ann", NewMemory(content="a poem", type="draft"))
        filters = {"type": "draft"}
        told = await forgetter.by_filter("ann", ForgetRequest(filters=filters))
        reader = changes.feed("ann").read(0)
        read = database.read

        async def slow(function):
            found = await read(function)
            monkeypatch.undo()
            await store.change("ann", kept.id, MemoryChange(type="final"))
            return found

        monkeypatch.setattr(database, "read", slow)
        report = await forgetter.by_filter("ann", ForgetRequest(filters=filters, confirm=told.confirm))
        assert (told.memories, report.memories) == (2, 1)
        assert (await store.get("ann", kept.id)).type == "final"
        with reader:
            events = [(await anext(reader)).data for _ in range(2)]
        assert [(event["event"], event["ids"]) for event in events] == [("change", [kept.id]), ("delete", [gone.id])]


async def test_one_is_gone_from_the_files_soon_after(memories, tmp_path, monkeypatch):
    monkeypatch.setattr(forget, "ERASE", 0.01)
    told = await memories.add("the password is xyzzyplugh")
    await memories.ask("DELETE", f"/memory/{told['id']}")
    with trio.fail_after(20):
        while b"xyzzyplugh" in files(tmp_path):
            await trio.sleep(0.01)


async def test_one_is_gone_from_the_files_also_where_the_log_could_not_be_emptied_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(forget, "ERASE", 0.01)
    reading, free = threading.Event(), threading.Event()
    tried: list[bool | DatabaseBusy] = []

    def read(connection):
        connection.execute("SELECT count(*) FROM memory").fetchall()
        reading.set()
        assert free.wait(30)

    async with open_database(tmp_path / "memory.sqlite3", MIGRATIONS) as database, trio.open_nursery() as nursery:
        empty_log = database.empty_log

        async def watched():
            if not tried:
                tried.append(DatabaseBusy())
                raise tried[0]
            tried.append(await empty_log())
            return tried[-1]

        monkeypatch.setattr(database, "empty_log", watched)
        forgetter = Forgetter(database, Changes(), Work())
        told = await MemoryStore(database).add("ann", NewMemory(content="the password is xyzzyplugh"))
        nursery.start_soon(forgetter.run)
        async with trio.open_nursery() as readers:
            readers.start_soon(database.read, read)
            assert await trio.to_thread.run_sync(reading.wait, 30)
            await forgetter.one("ann", told.id)
            try:
                with trio.fail_after(20):
                    while len(tried) < 2:
                        await trio.sleep(0.01)
            finally:
                free.set()
        with trio.fail_after(20):
            while tried[-1] is not True:
                await trio.sleep(0.01)
        assert (tmp_path / "memory.sqlite3-wal").read_bytes() == b""
        nursery.cancel_scope.cancel(reason="the test is over")
    assert tried[1] is False


async def test_what_is_under_way_is_ended_first_and_nothing_comes_behind(memories):
    batch = {"memories": [{"content": f"note {number}"} for number in range(20_000)]}
    answers = []

    async def send() -> None:
        answers.append(await memories.ask("POST", "/memory/batch", json=batch))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with trio.fail_after(60):
            while not (await memories.list(limit=1))["total"]:
                await trio.sleep(0.01)
        report = (await memories.ask("DELETE", "/memory", params={"all": "true"})).json()
    assert report["ended"] == 1
    assert 0 < report["memories"] < 20_000
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (409, "FORGOTTEN")
    assert (await memories.list())["total"] == 0


async def test_work_that_is_forgotten_says_so():
    work = Work()
    with pytest.raises(Forgotten), work.of("ann"):
        with work.forgetting("ann") as ended:
            assert ended == 1
            with pytest.raises(Forgotten), work.of("ann"):
                raise AssertionError
        with work.of("bob"):
            await trio.lowlevel.checkpoint()
        await trio.sleep_forever()
    assert work.count("ann") == 0
    with work.of("ann"):
        pass


async def test_who_waits_for_the_end_of_work_learns_of_it_whoever_else_waits(autojump_clock):
    work = Work()

    async def do(user: str, started: trio.Event) -> None:
        with pytest.raises(Forgotten), work.of(user):
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1 if user == "ann" else 2)

    async def forget_all(user: str) -> None:
        with work.forgetting(user):
            await work.ended(user)
            assert trio.current_time() - began == pytest.approx(1 if user == "ann" else 2)

    async with trio.open_nursery() as nursery:
        for user in ("ann", "bob"):
            started = trio.Event()
            nursery.start_soon(do, user, started)
            await started.wait()
        began = trio.current_time()
        for user in ("ann", "bob", "ann"):
            nursery.start_soon(forget_all, user)


async def test_index_and_rows_agree_after_all_kinds_of_changes(run_service, memories_of, tmp_path):
    async with run_service(memory) as client:
        memories = memories_of(client)
        told = [await memories.add(f"note {number} 東京", tags=[f"t{number}"], session_id="s") for number in range(40)]
        for each in told[::3]:
            await memories.ask("PATCH", f"/memory/{each['id']}", json={"content": "another", "tags": []})
        for each in told[::4]:
            await memories.ask("DELETE", f"/memory/{each['id']}")
        exported = (await memories.ask("GET", "/memory/export")).text
        await memories.ask("POST", "/memory/import", params={"conflict": "replace"}, content=exported)
        await memories.of("bob").add("x")
        await memories.of("bob").ask("DELETE", "/memory", params={"all": "true"})
    assert check_data(tmp_path / "uait") == []
    assert json.loads(exported.splitlines()[0])["memories"] == 30


async def test_a_disagreement_is_told(run_service, tmp_path):
    assert check_data(tmp_path) == []
    async with run_service(memory) as client:
        await client.post("/memory", json={"content": "one two"})
    connection = apsw.Connection(str(tmp_path / "uait" / "memory.sqlite3"))
    connection.execute("UPDATE memory_words SET words = 'three'")
    connection.close()
    assert check_data(tmp_path / "uait") == ["the index of words disagrees with the memories"]
