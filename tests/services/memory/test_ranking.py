"""What ranking makes of neighbours, speakers, times, answers wanted; and what a file of an earlier version becomes."""

from __future__ import annotations

import apsw
import pytest

from uait.services.memory.check import check_data
from uait.services.memory.schema import _FIRST
from uait.services.memory.service import memory


async def tell(memories, *turns, session="s", date="8 May, 2023"):
    for number, (speaker, text) in enumerate(turns):
        await memories.store(
            text, metadata={"session": session, "turn": number, "speaker": speaker, "date": f"1:56 pm on {date}"}
        )


async def test_an_answer_is_found_by_its_question(memories):
    await tell(
        memories, ("Bob", "Hello"), ("Bob", "What is the name of your parrot?"), ("Ann", "Coco"), ("Bob", "Nice")
    )
    for number in range(30):
        await memories.add(f"My neighbour talks {number}")
    assert "Coco" in (await memories.find("How is the parrot called?", limit=2))


async def test_an_answer_is_found_two_turns_behind_what_it_is_about(memories):
    for number in range(12):
        await memories.store(f"A room with a view of the sea {number}")
    await tell(
        memories,
        ("Ann", "I took a lesson in surfing"),
        ("Bob", "Lucky you! How was it?"),
        ("Ann", "An old sailor showed us everything"),
    )
    assert "An old sailor showed us everything" in (await memories.find("Who gave the surfing lesson?", limit=3))
    assert "An old sailor showed us everything" not in (await memories.find("Which room has a view?"))


async def test_neighbours_keep_to_their_session_and_order(memories):
    # Stored in another order than they were said.
    for turn, text in ((2, "Coco"), (0, "Hello"), (3, "Nice"), (1, "What is the name of your parrot?")):
        await memories.add(text, metadata={"session": "one", "turn": turn})
    await memories.add("Unrelated", metadata={"session": "two", "turn": 2})
    found = await memories.find("parrot")
    assert found.index("Coco") < found.index("Hello")
    assert "Unrelated" not in found


async def test_who_is_asked_for_speaks(memories):
    await tell(memories, ("Ann", "I adore pottery"), ("Bob", "I adore pottery, too, Ann"))
    assert (await memories.find("Why does Ann adore pottery?"))[0] == "I adore pottery"
    assert (await memories.find("Why does Bob adore pottery?"))[0] == "I adore pottery, too, Ann"


async def test_a_time_in_the_question_is_matched_to_dates(memories):
    for month in ("March", "May", "July"):
        await tell(
            memories, ("Ann", f"We went to the lake, as always, {month[0]}"), session=month, date=f"10 {month}, 2023"
        )
    assert (await memories.find("Where did we go in May 2023?"))[0].endswith("M")
    assert (await memories.find("the lake in July"))[0].endswith("J")
    found = await memories.list("what was in March 2023?", now="2024-01-01T00:00:00Z")
    assert found["memories"][0]["occurred_at"] == "2023-03-10T13:56:00.000000Z"


async def test_what_is_wanted_comes_first(memories):
    await memories.add("The marathon was hard")
    await memories.add("The marathon was three weeks ago")
    await memories.add("The marathon was fun")
    assert (await memories.find("When was the marathon?"))[0] == "The marathon was three weeks ago"


async def test_concepts_bridge_questions_and_answers(memories):
    await memories.add("Our new puppy chewed the sofa")
    await memories.add("I took the train to the office")
    assert (await memories.find("Do I have any pets?"))[0] == "Our new puppy chewed the sofa"
    await memories.add("My pets are well")
    assert (await memories.find("Do I have any pets?"))[0] == "My pets are well"


async def test_importance_and_age_count(memories):
    await memories.add("tea in the morning", importance=0.1, occurred_at="2023-01-02T00:00:00Z")
    await memories.add("tea in the evening", importance=1, occurred_at="2020-01-01T00:00:00Z")
    assert (await memories.find("tea"))[0] == "tea in the evening"
    faded = await memories.list("tea", half_life_days=30, now="2023-01-03T00:00:00Z", explain="true")
    assert faded["memories"][0]["content"] == "tea in the morning"
    assert faded["explanations"][1]["signals"]["fade"] < 0


async def test_ten_results_are_not_one_fact_ten_times(memories):
    for number in range(12):
        await memories.store("The wifi password is swordfish", source=f"copy {number}")
    await memories.add("I changed the password of the wifi router myself yesterday evening")
    assert "I changed the password" in "".join(await memories.find("wifi password", limit=3))


async def test_other_users_do_not_change_the_order(memories):
    for text in ("red apples", "red pears", "red plums", "green pears"):
        await memories.add(text)
    before = await memories.find("red pears")
    for number in range(50):
        await memories.of("bob").add(f"pears and pears {number}")
    assert await memories.find("red pears") == before


@pytest.mark.parametrize("count", [0, 3, 600])
async def test_a_file_of_the_first_version_is_brought_up_to_date(run_service, tmp_path, count):
    (tmp_path / "uait").mkdir(mode=0o700)
    connection = apsw.Connection(str(tmp_path / "uait" / "memory.sqlite3"))
    connection.execute(_FIRST)
    for number in range(count):
        connection.execute(
            "INSERT INTO memory (id, user_id, type, created_at, updated_at, last_access, tags, metadata, content) "
            "VALUES (?, ?, 'general', ?, ?, ?, '[\"t\"]', '{\"date\": \"8 May 2023\"}', ?)",
            (
                f"id{number}",
                f"user{number % 2}",
                *["2023-01-01T00:00:00.000000Z"] * 3,
                f"an old note about parrots {number}",
            ),
        )
    connection.execute(
        "INSERT INTO context (id, user_id, conversation_id, created_at, updated_at, summary) VALUES ('x', 'user0', 'c', '', '', 'sum')"
    )
    if count:
        connection.execute("INSERT INTO context_memory VALUES (1, 0, 1)")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with run_service(memory) as client:
        headers = {"X-User-ID": "user0"}
        found = (await client.get("/memory", params={"query": "parrot", "limit": 200}, headers=headers)).json()
        assert found["total"] == (count + 1) // 2
        context = (await client.get("/context/c", headers=headers)).json()
        assert [each["content"] for each in context["memories"]] == ["an old note about parrots 0"][:count]
        assert all(each["occurred_at"].startswith("2023-05-08") for each in found["memories"])
    assert check_data(tmp_path / "uait") == []
