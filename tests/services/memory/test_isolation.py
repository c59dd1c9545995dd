"""One user's data never reaches another: whatever they ask, over every endpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import attrs
import httpx
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from quart import request

from uait import Context, service
from uait.calls.transport import TrioTransport
from uait.services.memory.service import memory
from uait.testing.running import open_client
from uait.web import user_id

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


@attrs.frozen
class Endpoint:
    """One endpoint, as it stands in the OpenAPI document, and whatever one may ask it: its parameters and its body, given that one knows some ids of another user's memories."""

    method: str
    path: str
    params: st.SearchStrategy[dict[str, str]] = st.just({})
    body: Callable[[st.SearchStrategy[str]], st.SearchStrategy[Any]] = lambda some: st.none()


def fixed(**fields: st.SearchStrategy[Any]) -> Callable[[st.SearchStrategy[str]], st.SearchStrategy[Any]]:
    return lambda some: st.fixed_dictionaries(fields)


MINE = st.sampled_from([f"the {SECRET} of ann is apple", "mine"])
NAMED = st.sampled_from([{}, {"user_id": "ann"}, {"user_id": "bob"}])
ENDPOINTS = [
    Endpoint("GET", "/memory", st.fixed_dictionaries({"query": TEXT, "session_id": st.sampled_from(["", "s"])})),
    Endpoint("POST", "/memory", body=fixed(content=MINE)),
    Endpoint("DELETE", "/memory", st.just({"all": "true"})),
    Endpoint("POST", "/memory/search", body=fixed(query=TEXT, filters=FILTERS, explain=st.booleans())),
    Endpoint("POST", "/memory/batch", body=fixed(memories=st.lists(st.fixed_dictionaries({"content": MINE}), min_size=1, max_size=3))),
    Endpoint("POST", "/memory/selftest", body=lambda some: st.fixed_dictionaries({"questions": some.map(lambda each: [{"query": "apple", "relevant": [each]}])})),
    Endpoint("POST", "/memory/forget", body=fixed(filters=FILTERS)),
    Endpoint("POST", "/memory/embed"),
    Endpoint("GET", "/memory/stats"),
    Endpoint("GET", "/memory/export", st.sampled_from([{}, {"history": "true"}])),
    Endpoint("POST", "/memory/import", st.fixed_dictionaries({"conflict": POLICIES}), lambda some: st.one_of(
        some.map(lambda each: {"id": each, "content": "taken"}),
        some.map(lambda each: {"kind": "change", "id": each, "event": "change", "at": "2023-05-08T00:00:00Z", "before": {"content": "taken"}}),
        some.map(lambda each: {"kind": "context", "conversation_id": "c", "memories": [each]}),
    )),
    Endpoint("GET", "/memory/{memory_id}", st.sampled_from([{}, {"as_of": "2999-01-01"}])),
    Endpoint("PATCH", "/memory/{memory_id}", body=fixed(content=st.just("taken"))),
    Endpoint("DELETE", "/memory/{memory_id}"),
    Endpoint("GET", "/memory/{memory_id}/history"),
    Endpoint("POST", "/memory/{memory_id}/invalidate"),
    Endpoint("POST", "/context", body=lambda some: st.fixed_dictionaries({"conversation_id": st.just("c"), "memories": st.lists(some, max_size=2)})),
    Endpoint("POST", "/context/assemble", body=lambda some: st.one_of(
        st.fixed_dictionaries({"query": TEXT, "neighbours": st.just(5)}), st.just({"conversation_id": "c"}),
    )),
    Endpoint("GET", "/context/{conversation_id}"),
    Endpoint("DELETE", "/context/{conversation_id}"),
    Endpoint("POST", "/memories", NAMED, lambda some: st.one_of(
        st.fixed_dictionaries({"messages": MINE}), st.fixed_dictionaries({"messages": MINE, "user_id": st.just("ann")}),
    )),
    Endpoint("GET", "/memories", NAMED),
    Endpoint("DELETE", "/memories", NAMED),
    Endpoint("GET", "/memories/{memory_id}", NAMED),
    Endpoint("PUT", "/memories/{memory_id}", NAMED, fixed(text=st.just("taken"))),
    Endpoint("DELETE", "/memories/{memory_id}", NAMED),
    Endpoint("GET", "/memories/{memory_id}/history", NAMED),
    Endpoint("POST", "/search", NAMED, lambda some: st.one_of(
        st.fixed_dictionaries({"query": st.just("apple"), "filters": FILTERS}), st.just({"query": "apple", "user_id": "ann"}),
    )),
    Endpoint("POST", "/reset"),
]  # fmt: skip
EVERYBODY = {"/", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"}
"""What has nothing of any user in it."""


async def test_no_endpoint_is_left_out(memories):
    document = (await memories.client.get("/openapi.json")).json()
    known = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    asked = {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    assert {each for each in known if each[1] not in EVERYBODY} == asked


@service(name="chat")
async def embedder(ctx: Context):
    """A provider's vectors; keeps who asked for which texts."""
    app = ctx.app()

    @app.post("/v1/embeddings")
    async def embeddings() -> Any:
        texts = (await request.get_json())["input"]
        ASKED.append((user_id(), texts))
        return {"data": [{"index": at, "embedding": [1.0, 0.5]} for at, _ in enumerate(texts)]}

    return app


ASKED: list[tuple[str, list[str]]] = []


def test_whatever_bob_asks_he_gets_nothing_of_ann_and_changes_nothing(tmp_path_factory):
    # Nothing is made smaller: each example starts a service, and a failure names its request.
    @settings(max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.data())
    def explore(data):
        trio.run(main, data)

    async def main(data):
        ASKED.clear()
        directory = tmp_path_factory.mktemp("isolation")
        chosen = data.draw(st.sampled_from(["", "mock/small"]))
        async with open_client(
            memory, data_dir=directory, settings={"embedding_model": chosen}, fakes={"chat": embedder}
        ) as client:
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
            await client.patch(f"/memory/{ids[0]}", json={"importance": 0.5}, headers=ann)
            await client.post(
                "/context", json={"conversation_id": "c", "summary": f"about {SECRET}", "memories": ids}, headers=ann
            )
            await client.post("/memory", json={"content": "bob has an apple", "session_id": "s"}, headers=bob)
            export = "/memory/export?history=true"
            before = (await client.get(export, headers=ann)).text.splitlines()[1:]
            some = st.sampled_from(ids)
            for endpoint in data.draw(st.permutations(ENDPOINTS)):
                path = endpoint.path.format(memory_id=data.draw(some), conversation_id="c")
                params = {key: value for key, value in data.draw(endpoint.params).items() if value}
                body = data.draw(endpoint.body(some))
                answer = await client.request(endpoint.method, path, params=params, json=body, headers=bob)
                assert answer.status_code < 500
                # Ann's have numbers behind the word; bob may say the word himself.
                assert not any(f"{SECRET} {number}" in answer.text for number in range(3))
                assert f"about {SECRET}" not in answer.text
            assert (await client.get(export, headers=ann)).text.splitlines()[1:] == before
            given = [text for who, texts in ASKED if who == "bob" for text in texts]
            assert not any(f"{SECRET} {number}" in text for number in range(3) for text in given)

    explore()


async def test_bob_watches_nothing_of_ann(run_service_live):
    """The only endpoint whose answers have no end, and which the OpenAPI document therefore leaves out."""
    async with run_service_live(memory) as url, httpx.AsyncClient(base_url=url, transport=TrioTransport()) as client:
        ann, bob = {"X-User-ID": "ann"}, {"X-User-ID": "bob"}

        async def watched(who: dict[str, str], since: str) -> tuple[str, list[str]]:
            """The position, and the events until one is told of a memory that `who` adds."""
            said, told = "", ""
            async with (
                client.stream("GET", "/memory/events", headers={**who, "Last-Event-ID": since}) as answer,
                aclosing(answer.stream.__aiter__()) as chunks,
            ):
                for user in (ann, bob) if who == bob else (bob, ann):
                    new = (
                        await client.post("/memory", json={"content": f"said {trio.current_time()}"}, headers=user)
                    ).json()
                    told = new["id"]
                with trio.fail_after(10):
                    async for chunk in chunks:
                        said += chunk.decode()
                        if told in said:
                            break
            at = [line[3:].strip() for line in said.splitlines() if line.startswith("id:")]
            return at[-1], [line for line in said.splitlines() if line.startswith("data:")]

        position, _ = await watched(ann, "")
        theirs = [each["id"] for each in (await client.get("/memory", headers=ann)).json()["memories"]]
        for since in ("", position, "0"):
            _, events = await watched(bob, since)
            assert events
            assert not any(memory_id in event for memory_id in theirs for event in events)
