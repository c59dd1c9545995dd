"""One user's data never reaches another: whatever they ask, over every endpoint."""

from __future__ import annotations

from typing import Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uait.services.memory.service import memory
from uait.testing.running import open_client

SECRET = "zanzibarsecret"
TEXT = st.text(max_size=20) | st.sampled_from(
    [
        "",
        '"',
        "*",
        "apple OR zanzibarsecret",
        "zanzibar*",
        'words : "1_zanzibarsecret"',
        "NEAR(apple zanzibarsecret)",
        "1_zanzibarsecret",
        "NOT apple",
        "' OR 1=1 --",
        "ann",
        "last May",
    ]
)
FILTERS = st.sampled_from(
    [
        {"content": {"icontains": "zanzibar"}},
        {"OR": [{"type": "general"}, {"content": "*"}]},
        {"NOT": [{"content": "x"}]},
        {"session_id": "s"},
        {"agent_id": "a"},
        {"metadata.k": {"exists": True}},
        {"user_id": "ann"},
        {"tags": {"any": [SECRET]}},
        {"id": "*"},
    ]
)
POLICIES = st.sampled_from(["skip", "replace", "error"])


def questions(ids: list[str]) -> Any:
    """Everything that one can ask."""
    some = st.sampled_from(ids)
    return st.one_of(
        st.tuples(st.just("GET"), st.just("/memory"), st.fixed_dictionaries({"query": TEXT, "session_id": st.sampled_from(["", "s"])}), st.none()),
        st.tuples(st.just("POST"), st.just("/memory/search"), st.none(), st.fixed_dictionaries({"query": TEXT, "filters": FILTERS, "explain": st.booleans()})),
        st.tuples(st.just("POST"), st.just("/memory"), st.none(), st.fixed_dictionaries({"content": st.sampled_from([f"the {SECRET} of ann is apple", "mine"])})),
        st.tuples(st.just("POST"), st.just("/context/assemble"), st.none(), st.fixed_dictionaries({"query": TEXT, "neighbours": st.just(5)})),
        st.tuples(st.just("POST"), st.just("/context/assemble"), st.none(), st.just({"conversation_id": "c"})),
        st.tuples(st.just("POST"), st.just("/memory/selftest"), st.none(), st.fixed_dictionaries({"questions": some.map(lambda each: [{"query": "apple", "relevant": [each]}])})),
        st.tuples(st.just("POST"), st.just("/memory/forget"), st.none(), st.fixed_dictionaries({"filters": FILTERS})),
        st.tuples(st.sampled_from(["GET", "DELETE"]), some.map(lambda each: f"/memory/{each}"), st.none(), st.none()),
        st.tuples(st.just("PATCH"), some.map(lambda each: f"/memory/{each}"), st.none(), st.just({"content": "taken"})),
        st.tuples(st.just("GET"), some.map(lambda each: f"/memory/{each}/history"), st.none(), st.none()),
        st.tuples(st.just("POST"), some.map(lambda each: f"/memory/{each}/invalidate"), st.none(), st.none()),
        st.tuples(st.sampled_from(["GET", "DELETE"]), st.just("/context/c"), st.none(), st.none()),
        st.tuples(st.just("POST"), st.just("/context"), st.none(), st.fixed_dictionaries({"conversation_id": st.just("c"), "memories": st.lists(some, max_size=2)})),
        st.tuples(st.just("GET"), st.sampled_from(["/memory/stats", "/memory/export", "/memories"]), st.none(), st.none()),
        st.tuples(st.just("DELETE"), st.just("/memory"), st.just({"all": "true"}), st.none()),
        st.tuples(st.just("POST"), st.just("/memory/import"), st.fixed_dictionaries({"conflict": POLICIES}), some.map(lambda each: {"id": each, "content": "taken"})),
        st.tuples(st.just("POST"), st.just("/search"), st.none(), st.fixed_dictionaries({"query": st.just("apple"), "filters": FILTERS})),
        st.tuples(st.sampled_from(["GET", "DELETE"]), some.map(lambda each: f"/memories/{each}"), st.none(), st.none()),
        st.tuples(st.just("POST"), st.just("/reset"), st.none(), st.none()),
    )  # fmt: skip


def test_whatever_bob_asks_he_gets_nothing_of_ann_and_changes_nothing(tmp_path_factory):
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def explore(data):
        trio.run(main, data)

    async def main(data):
        directory = tmp_path_factory.mktemp("isolation")
        async with open_client(memory, data_dir=directory) as client:
            ann, bob = {"X-User-ID": "ann"}, {"X-User-ID": "bob"}
            ids = []
            for number in range(3):
                body = {
                    "content": f"the {SECRET} {number} of ann is apple",
                    "session_id": "s",
                    "agent_id": "a",
                    "tags": [SECRET],
                    "metadata": {"k": SECRET, "date": "8 May 2023"},
                }
                ids.append((await client.post("/memory", json=body, headers=ann)).json()["id"])
            await client.post(
                "/context", json={"conversation_id": "c", "summary": f"about {SECRET}", "memories": ids}, headers=ann
            )
            await client.post("/memory", json={"content": "bob has an apple", "session_id": "s"}, headers=bob)
            before = (await client.get("/memory/export", headers=ann)).text.splitlines()[1:]
            for _ in range(data.draw(st.integers(1, 12))):
                method, path, params, body = data.draw(questions(ids))
                given = {key: value for key, value in (params or {}).items() if value}
                answer = await client.request(method, path, params=given, json=body, headers=bob)
                assert answer.status_code < 500
                # Ann's have numbers behind the word; bob may say the word himself.
                assert not any(f"{SECRET} {number}" in answer.text for number in range(3))
                assert f"about {SECRET}" not in answer.text
            assert (await client.get("/memory/export", headers=ann)).text.splitlines()[1:] == before

    explore()
