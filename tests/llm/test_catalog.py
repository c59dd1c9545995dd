"""The catalog: lists fetched in parallel, once at a time, never waited for too long, remembered when their provider fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from uait.errors import NotFound, Unavailable
from uait.llm.catalog import LOOK_AGAIN, Entry, open_catalog
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
