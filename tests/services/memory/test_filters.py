"""The filter language: what it finds, and that nothing unknown passes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uait.errors import BadRequest
from uait.services.memory.filters import compile_filter


@pytest.fixture
async def cities(memories):
    await memories.add(
        "Oslo",
        type="city",
        tags=["north", "sea"],
        importance=0.9,
        metadata={"people": 700, "country": {"code": "NO"}, "capital": True},
    )
    await memories.add(
        "Rome",
        type="city",
        tags=["south"],
        importance=0.5,
        metadata={"people": 2800, "country": {"code": "IT"}, "capital": True},
    )
    await memories.add(
        "Como",
        type="town",
        tags=["south", "lake"],
        metadata={"people": 84, "country": {"code": "IT"}, "note": "People say: lovely"},
    )
    return memories


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"type": "city"}, {"Oslo", "Rome"}),
        ({"type": {"ne": "city"}}, {"Como"}),
        ({"type": ["town", "village"]}, {"Como"}),
        ({"type": {"nin": ["town"]}}, {"Oslo", "Rome"}),
        ({"metadata.people": {"gte": 84, "lt": 2800}}, {"Oslo", "Como"}),
        ({"metadata.people": {"gt": "100"}}, set()),
        ({"metadata.country.code": "IT"}, {"Rome", "Como"}),
        ({"metadata": {"capital": True}}, {"Oslo", "Rome"}),
        ({"metadata.note": "*"}, {"Como"}),
        ({"metadata.note": None}, {"Oslo", "Rome"}),
        ({"metadata.note": {"icontains": "PEOPLE"}}, {"Como"}),
        ({"metadata.note": {"contains": "PEOPLE"}}, set()),
        ({"metadata.note": {"exists": False}}, {"Oslo", "Rome"}),
        ({"tags": {"contains": "south"}}, {"Rome", "Como"}),
        ({"tags": ["south", "lake"]}, {"Como"}),
        ({"tags": {"any": ["sea", "lake"]}}, {"Oslo", "Como"}),
        ({"tags": {"nin": ["south"]}}, {"Oslo"}),
        ({"importance": {"gt": 0.5}}, {"Oslo"}),
        ({"importance": {"lt": "high"}}, set()),
        ({"access_count": {"lte": "many"}}, set()),
        ({"type": {"gt": 5}}, set()),
        ({"type": {"gt": "city"}}, {"Como"}),
        ({"OR": [{"content": "Oslo"}, {"AND": [{"type": "town"}, {"tags": "lake"}]}]}, {"Oslo", "Como"}),
        ({"NOT": [{"importance": {"gte": 0.9}}]}, {"Rome", "Como"}),
        ({"not": {"importance": {"gte": 0.9}}}, {"Rome", "Como"}),
        ({"created_at": {"gte": "2999-01-01T00:00:00Z"}}, set()),
    ],
)  # fmt: skip
async def test_filters_find(cities, filters, found):
    answer = await cities.ask("POST", "/memory/search", json={"query": "oslo rome como", "filters": filters})
    assert {each["content"] for each in answer.json()["memories"]} == found
    assert answer.json()["total"] == len(found)


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"AND": [{}]},
        {"metadata": {}},
        {"tags": {}},
        {"colour": "red"},
        {"user_id": "bob"},
        {"m.user_id": "bob"},
        {"AND": []},
        {"AND": [{"type": "x"}, {"nope": 1}]},
        {"AND": "x"},
        {"type": {"like": "x"}},
        {"type": {}},
        {"type": {"in": "x"}},
        {"type": {"eq": {"a": 1}}},
        {"metadata.": 1},
        {"metadata.a..b": 1},
        {'metadata.a"b': 1},
        {"tags": 5},
        {"tags": {"gt": "a"}},
        {"created_at": "yesterday"},
        {"created_at": {"lt": False}},
        {"created_at": {"lt": 20260131}},
        {"content": {"contains": [1]}},
        {"importance": {"exists": "yes"}},
        {"OR": [{"type": str(number)} for number in range(300)]},
    ],
)
async def test_what_is_not_known_is_refused(cities, filters):
    refused = await cities.ask("POST", "/memory/search", json={"filters": filters})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "INVALID_FILTER")
    assert refused.json()["error"]["details"][0]["path"].startswith("$.filters")
    refused = await cities.ask("POST", "/memory/forget", json={"filters": filters})
    assert refused.status_code == 400


async def test_depth_is_bounded(cities):
    deep = {"type": "x"}
    for _ in range(40):
        deep = {"AND": [deep]}
    assert (await cities.ask("POST", "/memory/search", json={"filters": deep})).status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["AND", "OR", "NOT", "type", "tags", "metadata", "metadata.x", "eq", "in", "gt", "contains", "$", "'"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_anything_is_a_condition_or_an_error(given):
    import apsw

    try:
        condition, parameters = compile_filter(given)
    except BadRequest:
        return
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE memory (id, user_id, type, content, metadata, tags, created_at, updated_at, last_access, agent_id, session_id, "
        "source, occurred_at, importance, valid_from, valid_until, expires_at, access_count)"
    )
    connection.execute("INSERT INTO memory (metadata, tags, type) VALUES ('{}', '[]', 'x')")
    connection.execute(f"SELECT * FROM memory AS m WHERE {condition}", parameters).fetchall()
    connection.close()
