from __future__ import annotations

import logging

import attrs
import pytest
import trio

from uait.calls import Calls
from uait.calls.client import LocalService
from uait.services.gateway.model import Model, ProviderModels, read_offer
from uait.services.gateway.models import NO_MODELS_FOR, Catalog


def offer(*models, **more):
    return {"models": [{"id": model, "provider": "p", "name": model} for model in models], **more}


@pytest.fixture
async def gather(service):
    """Asks services of these names, each as its `Service` says."""

    class Directory:
        def __init__(self):
            self.services = {}

        async def local(self, name):
            return LocalService(name, self.services[name]) if name in self.services else None

    directory = Directory()
    calls = Calls(directory, caller="gateway")
    catalog = Catalog(calls.client, logging.getLogger("test"), timeout=2.0, ttl=10.0)

    async def gather(down=(), **answers):
        for name, answer in answers.items():
            each = directory.services.setdefault(name, service(name))
            each.answers["/models"] = answer
        return await catalog.models(answers, down)

    gather.services = directory.services
    return gather


async def test_the_models_of_all_who_have_some(gather, autojump_clock):
    found = await gather(chat=offer("a", "b"), plugin=offer("c"), memory=None)
    assert [model.id for model in found.models] == ["a", "b", "c"]
    assert found.total == 3
    assert found.providers == {"p": ProviderModels(status="available", models=3)}
    assert not any(model.stale for model in found.models)


async def test_who_does_not_answer_costs_nobody_the_answer(gather, hang, autojump_clock):
    began = trio.current_time()
    found = await gather(chat=offer("a"), plugin=hang, other=hang)
    assert trio.current_time() - began <= 2
    assert [model.id for model in found.models] == ["a"]
    assert found.providers["plugin"].status == "unavailable"
    assert "in time" in found.providers["plugin"].error


@pytest.mark.parametrize(
    "broken", ["hang", (500, {}), (200, "not a list"), (200, {"models": 7})], ids=["hang", "500", "text", "number"]
)
async def test_who_answered_once_keeps_its_models_marked_stale(gather, hang, autojump_clock, broken):
    await gather(chat=offer("a"), plugin=offer("b"))
    await trio.sleep(11)
    found = await gather(chat=offer("a2"), plugin=hang if broken == "hang" else broken)
    assert [(model.id, model.stale) for model in found.models] == [("a2", False), ("b", True)]


async def test_an_answer_that_is_nested_without_end_spoils_nobodys(gather, deep, autojump_clock):
    found = await gather(chat=offer("a"), plugin=deep)
    assert [model.id for model in found.models] == ["a"]
    assert found.providers["plugin"].error == "It did not answer with JSON."


async def test_what_a_stale_provider_has_is_said(gather, hang, autojump_clock):
    await gather(plugin=offer("b", providers={"p": {"status": "available", "models": 1}}))
    await trio.sleep(11)
    found = await gather(plugin=hang)
    assert found.providers["p"].status == "stale"
    assert found.providers["p"].models == 1
    assert found.providers["p"].error


async def test_who_is_down_is_not_asked_and_keeps_its_models_marked_stale(gather, autojump_clock):
    await gather(chat=offer("a"), plugin=offer("b"), memory=None)
    found = await gather(down=["plugin", "memory", "never-up"], chat=offer("a"))
    assert [(model.id, model.stale) for model in found.models] == [("a", False), ("b", True)]
    assert gather.services["plugin"].asked == ["/models"]
    assert not {"memory", "never-up"} & set(found.providers)


async def test_an_answer_is_used_again_for_a_while(gather, autojump_clock):
    for _ in range(3):
        await gather(chat=offer("a"), memory=None)
    assert gather.services["chat"].asked == ["/models"]
    assert gather.services["memory"].asked == ["/models"]
    await trio.sleep(11)
    await gather(chat=offer("a"), memory=None)
    assert gather.services["chat"].asked == ["/models", "/models"]
    assert gather.services["memory"].asked == ["/models"]  # it had none: that does not change so soon
    await trio.sleep(NO_MODELS_FOR)
    await gather(memory=offer("b"))
    assert gather.services["memory"].asked == ["/models", "/models"]


async def test_many_at_once_ask_once(gather, autojump_clock):
    async def slowly(scope, receive, send):
        await trio.sleep(1)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b'{"models": [{"id": "a"}]}'})

    found = []

    async def ask():
        found.append(await gather(chat=slowly))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert gather.services["chat"].asked == ["/models"]
    assert [each.total for each in found] == [1] * 10


async def test_one_who_leaves_does_not_take_the_answer_from_the_others(gather, autojump_clock):
    async def slowly(scope, receive, send):
        await trio.sleep(1)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b'{"models": [{"id": "a"}]}'})

    with trio.move_on_after(0.5):
        await gather(chat=slowly)
    assert (await gather(chat=slowly)).total == 1


async def test_one_who_leaves_does_not_make_what_is_old_look_fresh(gather, hang, autojump_clock):
    await gather(plugin=offer("b"))
    await trio.sleep(11)

    async def ask_and_leave():
        with trio.move_on_after(1.5):
            await gather(plugin=hang, other=hang)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_and_leave)
        await trio.sleep(0.5)
        found = await gather(plugin=hang, other=hang)
    assert [(model.id, model.stale) for model in found.models] == [("b", True)]
    assert {name: state.status for name, state in found.providers.items()} == {"p": "stale", "other": "unavailable"}


def test_the_shapes_of_others_are_read():
    assert read_offer(
        "plugin", {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "x"}]}
    ).models == (Model(id="m", provider="x", name="m"),)
    assert read_offer("plugin", {"models": [{"id": "m"}]}).models == (Model(id="m", provider="plugin", name="m"),)
    assert read_offer("plugin", {"models": []}).models == ()


@pytest.mark.parametrize("answer", [None, 7, [], {}, {"models": None}, {"models": {"id": "x"}}])
def test_what_is_no_list_of_models_is_none(answer):
    assert read_offer("plugin", answer) is None


def test_odd_entries_spoil_nothing():
    answer = {
        "models": [
            None,
            7,
            {},
            {"id": 7},
            {"id": "m", "provider": 7, "name": None, "capabilities": "x", "context_length": "8"},
        ],
        "providers": {"p": 7, "q": {"status": 7, "models": "many", "error": 7}},
    }
    found = read_offer("plugin", answer)
    assert found.models == (Model(id="m", provider="plugin", name="m"),)
    assert attrs.asdict(found.providers["q"]) == {"status": "available", "models": 0, "error": None}
    assert "p" not in found.providers
