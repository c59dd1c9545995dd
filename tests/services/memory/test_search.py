"""Finding memories by what users say, and nobody else's."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uait.services.memory.model import MemoryQuery, NewMemory
from uait.services.memory.schema import MIGRATIONS
from uait.services.memory.search import Finder
from uait.services.memory.store import MemoryStore
from uait.services.memory.words import telling
from uait.storage import open_database

HOLIDAY = [
    "Our holiday in München was lovely, the beer gardens most of all",
    "My parrot Coco likes walnuts",
    "I am allergic to peanuts",
    "The meeting with the dentist is on Friday",
    "My favourite programming language is Python",
    "She said that the café near the station closes early",
]


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("What is the name of my parrot?", 1),
        ("what am I allergic to", 2),
        ("MUNCHEN", 0),
        ("münchen", 0),
        ("gardening", 0),
        ("meetings", 3),
        ("cafe", 5),
        ("Which language do I like for programming", 4),
        ("pyth", 4),
        ("when do I see my dentist?", 3),
    ],
)
async def test_questions_find_what_was_told(memories, question, first):
    for content in HOLIDAY:
        await memories.add(content)
    assert (await memories.find(question))[0] == HOLIDAY[first]


async def test_more_of_the_words_is_better(memories):
    for content in ("red apples", "green apples and red pears", "red pears", "green grapes"):
        await memories.add(content)
    found = await memories.find("green pears")
    assert found[0] == "green apples and red pears"
    assert set(found) == {"green apples and red pears", "red pears", "green grapes"}


async def test_equally_good_ones_come_newest_first(memories):
    for number in range(3):
        await memories.store("the very same", source=str(number))
        await memories.add(f"other {number}")
    found = (await memories.list("same"))["memories"]
    assert [memory["id"] for memory in found] == sorted((memory["id"] for memory in found), reverse=True)


async def test_beginnings_of_words_are_looked_for_only_where_whole_words_find_nothing(memories):
    await memories.add("a carpet")
    assert await memories.find("car") == ["a carpet"]
    await memories.add("a car")
    assert await memories.find("car") == ["a car"]


async def test_tags_are_found_too(memories):
    await memories.add("Coco", tags=["parrot", "my pets"])
    assert await memories.find("pets") == ["Coco"]


async def test_a_question_of_question_words_only_is_taken_at_its_word(memories):
    await memories.add("to be or not to be")
    assert await memories.find("what is it to be") == ["to be or not to be"]


@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("私は東京に住んでいます", "東京"),
        ("ฉันชอบกาแฟมาก", "กาแฟ"),
        ("저는 서울에서 살아요", "서울"),
        ("我喜欢喝绿茶", "绿茶"),
    ],
)
async def test_scripts_without_spaces(memories, content, query):
    await memories.add(content)
    await memories.add("something else")
    assert await memories.find(query) == [content]


async def test_signs_are_looked_for_as_they_are(memories):
    await memories.add("party 🎉")
    await memories.add("100 % sure")
    assert await memories.find("🎉") == ["party 🎉"]
    assert await memories.find(" % ") == ["100 % sure"]
    assert await memories.find("***") == []
    assert await memories.find("  ") == ["100 % sure", "party 🎉"]


@pytest.mark.parametrize(
    "query",
    ['"', '""', "'", "a AND", "NOT", "OR OR", "NEAR(a b)", "content:x", "owner : *", "{content tags} : x", "^a", "a*", "-a", "+", "(", ")",
     "a\x00b", "x" * 8192, "a " * 4096, "; DROP TABLE memory", "\\", "\u202e", "%", "_", "\ud7ff", "a" + "\u0301" * 50],
)  # fmt: skip
async def test_no_text_is_query_syntax(memories, query):
    await memories.add("harmless")
    for answer in (
        await memories.ask("GET", "/memory", params={"query": query}),
        await memories.ask("POST", "/memory/search", json={"query": query}),
    ):
        assert answer.status_code == 200
        assert answer.json()["query"] == query


def test_telling_words():
    assert telling("What's the name of my parrot?") == ["name", "parrot"]
    assert telling("Who am I?") == ["Who", "am", "I"]
    assert telling("?!") == []
    assert len(telling(" ".join(f"w{number}" for number in range(1000)))) == 64


USERS = st.sampled_from(["ann", "bob", "ANN", "ann ", "u'; --"])
WORDS = st.lists(st.sampled_from(["apple", "pear", "plum", "fig", "東京", "🎉"]), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(st.tuples(USERS, WORDS), min_size=1, max_size=12),
    asked=st.lists(st.tuples(USERS, WORDS | st.just("")), min_size=1, max_size=6),
)
def test_nobody_ever_sees_another_users_memories(told, asked, tmp_path_factory):
    import trio

    async def main():
        path = tmp_path_factory.mktemp("memory") / "memory.sqlite3"
        async with open_database(path, MIGRATIONS) as database:
            store, finder = MemoryStore(database), Finder(database)
            stored = [await store.add(user, NewMemory(content=content)) for user, content in told]
            for user, query in asked:
                found = await finder.search(user, MemoryQuery(query=query, limit=200))
                wanted = {
                    memory.id
                    for memory in stored
                    if memory.user_id == user
                    and (
                        not query
                        or set(memory.content.split()) & set(query.split()) - {"🎉"}
                        or query in memory.content
                    )
                }
                assert {memory.user_id for memory in found.memories} <= {user}
                assert {memory.id for memory in found.memories} == wanted
                assert found.total == len(wanted)
                mine = len({memory.id for memory in stored if memory.user_id == user})
                assert (await store.statistics(user)).total == mine

    trio.run(main)


async def test_others_ids_are_not_found(memories):
    told = await memories.add("mine")
    path = f"/memory/{told['id']}"
    bob = memories.of("bob")
    assert (await bob.ask("GET", path)).status_code == 404
    assert (await bob.ask("PATCH", path, json={"content": "stolen"})).status_code == 404
    assert (await bob.ask("DELETE", path)).status_code == 404
    assert (await memories.list())["memories"] == [told]


async def test_a_long_text_without_spaces_is_looked_for_in_parts(memories):
    await memories.add("東" * 200_000)
    await memories.add("昨日は友達と一緒に新しい図書館へ行きました")
    with trio.fail_after(20):  # as one phrase it would take minutes, and nothing could stop it
        response = await memories.ask("POST", "/memory/search", json={"query": "東" * 8192})
    assert response.json()["count"] == 1
    assert (await memories.find("昨日は友達と一緒に新しい映画館へ行きました"))[0].startswith("昨日")


async def test_who_had_nothing_is_looked_at_again_after_any_write(memories):
    for _ in range(2):
        found = await memories.list("tea")
        assert (found["memories"], found["count"], found["total"], found["query"]) == ([], 0, 0, "tea")
    await memories.of("bob").add("tea of bob")
    assert await memories.find("tea") == []
    await memories.add("tea")
    assert await memories.find("tea") == ["tea"]
    await memories.ask("DELETE", "/memory", params={"all": "true"})
    for _ in range(2):
        assert await memories.find("tea") == []
    await memories.ask("POST", "/memory/import", content='{"content": "more tea"}')
    assert await memories.find("tea") == ["more tea"]
    bad = {"query": "tea", "filters": {"nothing": 1}}
    assert (await memories.of("zoe").ask("POST", "/memory/search", json=bad)).status_code == 400
    assert (await memories.of("zoe").list("tea", explain="true"))["signals"]["words"] == "off"
