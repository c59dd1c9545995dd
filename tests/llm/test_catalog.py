"""The catalog: lists fetched in parallel, once at a time, never waited for too long, remembered when their provider fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from uait.errors import NotFound, Unavailable
from uait.llm.catalog import LOOK_AGAIN, Catalog, Entry, open_catalog
from uait.llm.provider import Capability, Model

CHAT = (Capability.CHAT, Capability.STREAMING)


class Fake:
    """A provider whose list is as told."""

    capabilities = frozenset(Capability)

    def __init__(self, name: str, *models: str, delay: float = 0.0) -> None:
        self.name = name
        self.listed = tuple(Model(model, CHAT) for model in models)
        self.delay = delay
        self.failing: Exception | None = None
        self.asked = 0
        self.closed = False

    async def models(self) -> Sequence[Model]:
        self.asked += 1
        await trio.sleep(self.delay)
        if self.failing is not None:
            raise self.failing
        return self.listed

    async def aclose(self) -> None:
        self.closed = True

    stream: Any = None
    embed: Any = None


def ids(listing: Any) -> list[str]:
    return [model.id for model in listing.models]


async def test_all_lists_are_asked_at_once(autojump_clock: object) -> None:
    fakes = [Fake(str(n), "m", delay=1.0) for n in range(5)]
    async with open_catalog([Entry(fake) for fake in fakes]) as catalog:
        began = trio.current_time()
        assert ids(await catalog.listing()) == [f"{n}/m" for n in range(5)]
        assert trio.current_time() - began == pytest.approx(1.0)
    assert all(fake.closed for fake in fakes)


async def test_one_question_for_all_who_ask(autojump_clock: object) -> None:
    fake = Fake("a", "m", delay=1.0)
    async with open_catalog([Entry(fake)]) as catalog:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(catalog.listing)
        await catalog.listing()
    assert fake.asked == 1


async def test_a_list_is_asked_for_again_when_it_is_old(autojump_clock: object) -> None:
    fake = Fake("a", "m")
    async with open_catalog([Entry(fake)], ttl=60) as catalog:
        await catalog.listing()
        fake.listed = (Model("new", CHAT),)
        await trio.sleep(59)
        assert ids(await catalog.listing()) == ["a/m"]
        await trio.sleep(2)
        assert ids(await catalog.listing()) == ["a/new"]


async def test_who_hangs_is_waited_for_once_and_shown_as_last_known(autojump_clock: object) -> None:
    hanging, quick = Fake("hanging", "h"), Fake("quick", "q")
    async with open_catalog([Entry(hanging), Entry(quick)], deadline=2, ttl=60) as catalog:
        await catalog.listing()
        hanging.delay = 1000
        await trio.sleep(61)
        began = trio.current_time()
        listing = await catalog.listing()
        assert trio.current_time() - began == pytest.approx(2.0)
        assert [(model.id, model.stale) for model in listing.models] == [("hanging/h", False), ("quick/q", False)]
        await trio.sleep(1)
        began = trio.current_time()
        await catalog.listing()
        assert trio.current_time() == began
        await trio.sleep(20)
        listing = catalog.known()
        assert [(model.id, model.stale, model.status) for model in listing.models] == [
            ("hanging/h", True, "unavailable"),
            ("quick/q", False, "available"),
        ]
        assert listing.providers["hanging"].error


async def test_a_failing_provider_keeps_its_models_marked(autojump_clock: object) -> None:
    fake = Fake("a", "m")
    async with open_catalog([Entry(fake)], ttl=60, retry=5) as catalog:
        await catalog.listing()
        fake.failing = Unavailable("down")
        await trio.sleep(61)
        listing = await catalog.listing()
        assert [(model.id, model.status, model.stale) for model in listing.models] == [("a/m", "unavailable", True)]
        assert (listing.providers["a"].status, listing.providers["a"].error) == ("unavailable", "down")
        fake.failing = None
        await trio.sleep(6)
        assert (await catalog.listing()).providers["a"].status == "available"


async def test_a_bug_in_one_provider_is_its_own(autojump_clock: object) -> None:
    broken, fine = Fake("broken"), Fake("fine", "m")
    broken.failing = ZeroDivisionError()
    async with open_catalog([Entry(broken), Entry(fine)]) as catalog:
        assert ids(await catalog.listing()) == ["fine/m"]


@pytest.mark.parametrize(
    ("listed", "wrong"),
    [
        (["m1"], "holds a str"),
        ("m1", "holds a str"),
        (None, "is a NoneType"),
        ([Model(1)], "id is no text"),  # type: ignore[arg-type]
        ([Model("m", ("chat",))], "no Capability"),  # type: ignore[arg-type]
    ],
)
async def test_a_list_that_is_none_is_its_providers_failure_and_told_once(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, listed: Any, wrong: str
) -> None:
    broken, fine = Fake("broken", "known"), Fake("fine", "m")
    async with open_catalog([Entry(broken), Entry(fine)], ttl=60, retry=5) as catalog:
        await catalog.listing()
        broken.listed = listed
        await trio.sleep(61)
        for _ in range(3):
            listing = await catalog.listing()
            assert [(model.id, model.status) for model in listing.models] == [
                ("broken/known", "unavailable"),
                ("fine/m", "available"),
            ]
            assert wrong in (listing.providers["broken"].error or "")
            assert (await catalog.resolve("m")).address == "fine/m"
            await trio.sleep(6)
    assert broken.asked == 4
    (record,) = caplog.records
    assert "'broken'" in record.message
    assert wrong in record.message


async def test_what_is_only_looked_for_is_there_while_it_answers(autojump_clock: object) -> None:
    fake = Fake("local", "m")
    fake.failing = Unavailable("nobody")
    async with open_catalog([Entry(fake, optional=True), Entry(Fake("offline", "o"))]) as catalog:
        assert list((await catalog.listing()).providers) == ["offline"]
        assert (await catalog.resolve(None)).address == "offline/o"
        fake.failing = None
        await trio.sleep(61)
        assert ids(await catalog.listing()) == ["local/m", "offline/o"]
        assert (await catalog.resolve(None)).address == "local/m"
        fake.failing = Unavailable("gone")
        await trio.sleep(61)
        assert list((await catalog.listing()).providers) == ["offline"]


async def test_addresses(autojump_clock: object) -> None:
    first, second = Fake("first", "shared", "only"), Fake("second", "shared", "vendor/model")
    async with open_catalog([Entry(first), Entry(second)]) as catalog:
        for address, expected in (
            ("second/shared", "second/shared"),
            ("second/not/listed", "second/not/listed"),
            ("shared", "first/shared"),
            ("vendor/model", "second/vendor/model"),
            ("second", "second/shared"),
            ("auto", "first/shared"),
            ("default", "first/shared"),
            ("", "first/shared"),
            (None, "first/shared"),
        ):
            assert (await catalog.resolve(address)).address == expected
        with pytest.raises(NotFound):
            await catalog.resolve("nobody/knows")


async def test_the_default_is_the_settings(autojump_clock: object) -> None:
    async with open_catalog([Entry(Fake("a", "x")), Entry(Fake("b", "y"))], default="b/y") as catalog:
        assert (await catalog.resolve(None)).address == "b/y"


async def test_an_exact_address_waits_for_nobody(autojump_clock: object) -> None:
    async with open_catalog([Entry(Fake("a", "x", delay=1000))]) as catalog:
        began = trio.current_time()
        assert (await catalog.resolve("a/x")).address == "a/x"
        assert trio.current_time() == began


async def test_the_default_waits_for_the_first_list_only_as_long_as_allowed(autojump_clock: object) -> None:
    async with open_catalog([Entry(Fake("a", "x", delay=1000)), Entry(Fake("b", "y"))], deadline=2) as catalog:
        began = trio.current_time()
        assert (await catalog.resolve(None)).address == "b/y"
        assert trio.current_time() - began == pytest.approx(2.0)
        assert (await catalog.resolve(None)).address == "b/y"
        assert trio.current_time() - began == pytest.approx(2.0)


async def test_who_cannot_be_there_is_not_asked_and_does_not_exist(autojump_clock: object) -> None:
    absent = True

    async def is_absent() -> bool:
        return absent

    fake = Fake("a", "m")
    async with open_catalog([Entry(fake, optional=True, absent=is_absent)]) as catalog:
        listing = await catalog.listing()
        assert (ids(listing), dict(listing.providers), fake.asked) == ([], {}, 0)
        absent = False
        await trio.sleep(LOOK_AGAIN + 1)
        assert ids(await catalog.listing()) == ["a/m"]


async def addresses(catalog: Catalog, address: str | None) -> list[str]:
    return [place.target.address for place in (await catalog.resolve_all(address)).places]


NAMES: dict[str, Any] = {
    "routes": {
        "fast": ["a/x", "b/y", "shared"],
        "default": ["fast", "b/z"],
        "partly": ["nobody", "b/y"],
        "loop": ["loop", "a/x"],
        "a/x": ["b/y"],
    },
    "aliases": {"quick": "fast", "one": "a/x", "round": "about", "about": "round"},
}


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("fast", ["a/x", "b/y", "a/shared", "b/shared"]),
        ("quick", ["a/x", "b/y", "a/shared", "b/shared"]),
        (None, ["a/x", "b/y", "a/shared", "b/shared", "b/z"]),
        ("auto", ["a/x", "b/y", "a/shared", "b/shared", "b/z"]),
        ("one", ["a/x"]),
        ("b/z, a/x,b/z", ["b/z", "a/x"]),
        ("one,shared", ["a/x", "a/shared", "b/shared"]),
        ("shared", ["a/shared", "b/shared"]),  # 39: two have a model of this name
        ("b/shared", ["b/shared"]),
        ("a/x", ["a/x"]),  # a provider's model is that model, whatever a route is called
        ("partly", ["b/y"]),
        ("loop", ["a/x"]),
        ("b", ["b/shared"]),
    ],
)
async def test_what_an_address_stands_for(autojump_clock: object, address: str | None, found: list[str]) -> None:
    async with open_catalog([Entry(Fake("a", "shared")), Entry(Fake("b", "shared"))], **NAMES) as catalog:
        assert await addresses(catalog, address) == found


async def test_what_stands_for_itself_is_nobody(autojump_clock: object) -> None:
    async with open_catalog([Entry(Fake("a", "m"))], **NAMES) as catalog:
        with pytest.raises(NotFound):
            await catalog.resolve_all("round")


async def test_a_route_is_known_by_its_name_and_a_model_is_none(autojump_clock: object) -> None:
    async with open_catalog([Entry(Fake("a", "shared"))], **NAMES) as catalog:
        assert (await catalog.resolve_all("quick")).route == "fast"
        assert (await catalog.resolve_all("a/x")).route is None
        assert [place.n for place in (await catalog.resolve_all("fast")).places] == [0, 2]


async def test_routes_and_aliases_stand_in_the_list(autojump_clock: object) -> None:
    fake = Fake("a", "x", "shared")
    async with open_catalog([Entry(fake)], **NAMES) as catalog:
        found = {model.id: model for model in (await catalog.listing()).models}
        assert found.keys() >= {"a/x", "fast", "quick", "one"}
        assert (found["fast"].provider, found["fast"].status) == ("uait", "available")


async def test_a_model_that_is_gone_has_its_providers_list_asked_for_again_but_not_all_the_time(
    autojump_clock: object,
) -> None:
    fake, other = Fake("a", "m"), Fake("b", "m")
    async with open_catalog([Entry(fake), Entry(other)], ttl=600, retry=5) as catalog:
        await catalog.listing()
        catalog.outdated("a")
        assert fake.asked == 1  # only just done
        await trio.sleep(6)
        for _ in range(10):
            catalog.outdated("a")
            catalog.outdated("nobody")
        await trio.testing.wait_all_tasks_blocked()
        assert (fake.asked, other.asked) == (2, 1)


async def test_a_provider_that_cannot_be_closed_keeps_no_other_open(autojump_clock: object, caplog: Any) -> None:
    class Stubborn(Fake):
        async def aclose(self) -> None:
            raise OSError("its pipe is broken")

    other = Fake("b", "m")
    async with open_catalog([Entry(Stubborn("a", "m")), Entry(other)]):
        pass
    assert other.closed
    assert "its pipe is broken" in caplog.text


async def test_all_keys_of_a_provider_are_closed(autojump_clock: object) -> None:
    keys = [Fake("a", "m") for _ in range(3)]
    async with open_catalog([Entry(keys[0], others=tuple(keys[1:]))]) as catalog:
        (place,) = (await catalog.resolve_all("a/m")).places
        assert place.keys == tuple(keys)
    assert all(key.closed for key in keys)
