"""The registry at work, with its database, under real time or a clock that the test moves."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uait.errors import Conflict, NotFound, Unavailable, ValidationFailed
from uait.feeds import Feed
from uait.services.discovery.catalog import Catalog
from uait.services.discovery.model import Check, DiscoverySettings, Health, Heartbeat, Instance, Origin, Registration
from uait.services.discovery.store import MIGRATIONS, Store
from uait.storage import DatabaseFull, open_database

GREETER = {"id": "one", "name": "greeter", "address": "10.0.0.1", "port": 80}


class Memory:
    """A store that a test can look into, and whose disk can be full."""

    def __init__(self):
        self.instances = {}
        self.full = False

    async def load(self):
        return list(self.instances.values())

    async def save(self, instances):
        await trio.lowlevel.checkpoint()
        if self.full:
            raise DatabaseFull
        self.instances |= {instance.id: instance for instance in instances}
        await trio.lowlevel.checkpoint()

    async def delete(self, ids):
        await trio.lowlevel.checkpoint()
        for instance_id in ids:
            self.instances.pop(instance_id, None)
        await trio.lowlevel.checkpoint()


async def well(check):
    return Health.PASSING, "HTTP 200"


@pytest.fixture
def make_catalog():
    def make(store=None, probe=well, **settings):
        feed = Feed("registry", max_events=settings.get("watch_events", 100))
        return Catalog(DiscoverySettings(**settings), store or Memory(), feed, logging.getLogger("test"), probe=probe)

    return make


@pytest.mark.parametrize("step", range(1, 7))
async def test_what_is_stored_is_known_also_where_nobody_waited_for_it(make_catalog, step):
    store = Memory()
    catalog = make_catalog(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(catalog.register, Registration(**GREETER))
        for _ in range(step):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel(reason="the client left")
    if store.instances:
        await catalog.deregister("one")
    assert store.instances == {}


async def test_what_was_registered_is_there_after_a_restart(tmp_path, make_catalog):
    @asynccontextmanager
    async def life():
        async with open_database(tmp_path / "discovery.sqlite3", MIGRATIONS) as database:
            catalog = make_catalog(Store(database))
            await catalog.restore()
            yield catalog

    async with life() as catalog:
        given = await catalog.register(
            Registration(**GREETER, tags=["a"], meta={"x": [1]}, ttl=5.0, check=Check(http="http://x/"), weight=3)
        )
        await catalog.register(Registration(**GREETER | {"id": "two"}))
        await catalog.register(Registration(**GREETER | {"id": "three"}))
        await catalog.heartbeat("two", Heartbeat(health=Health.CRITICAL, note="ill"))
        await catalog.deregister("three")

    async with life() as catalog:
        assert catalog.registry.get("one") == given
        assert catalog.registry.get("two").health is Health.CRITICAL
        assert len(catalog.registry) == 2


async def test_what_could_not_be_stored_is_not_registered_and_nobody_is_told(make_catalog):
    store = Memory()
    catalog = make_catalog(store)
    store.full = True

    with pytest.raises(DatabaseFull):
        await catalog.register(Registration(**GREETER))

    assert len(catalog.registry) == 0
    assert catalog._feed.offset == 0


async def test_health_that_cannot_be_stored_counts_all_the_same(make_catalog):
    store = Memory()
    catalog = make_catalog(store)
    await catalog.register(Registration(**GREETER))
    store.full = True

    assert (await catalog.heartbeat("one", Heartbeat(health=Health.WARNING))).health is Health.WARNING


@pytest.mark.parametrize("head_start", range(4))
async def test_registering_and_leaving_at_once_end_the_same_in_memory_and_on_disk(make_catalog, head_start):
    for _ in range(30):
        store = Memory()
        catalog = make_catalog(store)
        await catalog.register(Registration(**GREETER))

        async def leave(catalog=catalog):
            for _ in range(head_start):
                await trio.lowlevel.checkpoint()
            await catalog.deregister("one")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.register, Registration(**GREETER))
            nursery.start_soon(leave)
        assert (catalog.registry.get("one") is None) == ("one" not in store.instances)


async def test_limits(make_catalog):
    catalog = make_catalog(instances=1)
    await catalog.register(Registration(**GREETER))
    await catalog.register(Registration(**GREETER))

    with pytest.raises(Unavailable):
        await catalog.register(Registration(**GREETER | {"id": "two"}))
    with pytest.raises(ValidationFailed):
        await catalog.register(Registration(**GREETER, meta={"x": "y" * 70_000}))


async def test_the_hosts_own_cannot_be_changed_from_outside(make_catalog, nursery):
    catalog = make_catalog()
    chat = Instance(id="chat-service", name="chat-service", address="127.0.0.1", port=1, origin=Origin.HOST)
    nursery.start_soon(catalog.mirror, lambda: [chat], trio.sleep_forever)
    await wait_all_tasks_blocked()

    with pytest.raises(Conflict):
        await catalog.register(Registration(**GREETER | {"id": "chat-service"}))
    with pytest.raises(Conflict):
        await catalog.deregister("chat-service")
    with pytest.raises(Conflict):
        await catalog.heartbeat("chat-service", Heartbeat())
    assert catalog._store.instances == {}


async def test_no_change_of_the_host_is_missed(make_catalog, nursery):
    catalog, changed, port = make_catalog(), trio.Semaphore(0), 0

    def own():
        return [Instance(id="chat-service", name="chat-service", address="h", port=port, origin=Origin.HOST)]

    nursery.start_soon(catalog.mirror, own, changed.acquire)
    for port in range(1, 6):
        changed.release()
        await wait_all_tasks_blocked()
        assert catalog.registry.get("chat-service").port == port


async def test_nobody_is_there_and_all_are_ill_are_two_answers(make_catalog):
    catalog = make_catalog()
    with pytest.raises(NotFound):
        catalog.pick("greeter")
    await catalog.register(Registration(**GREETER, tags=["eu"]))
    assert catalog.pick("greeter", tags=["eu"]).id == "one"
    with pytest.raises(NotFound):
        catalog.pick("greeter", tags=["us"])

    await catalog.heartbeat("one", Heartbeat(health=Health.CRITICAL, note="on fire"))
    with pytest.raises(Unavailable) as caught:
        catalog.pick("greeter")
    assert caught.value.error_code == "NO_HEALTHY_INSTANCE"
    assert caught.value.details["instances"] == [{"id": "one", "health": "critical", "note": "on fire"}]


async def test_filters(make_catalog):
    catalog = make_catalog()
    await catalog.register(Registration(**GREETER, tags=["eu", "fast"]))
    await catalog.register(Registration(**GREETER | {"id": "two"}, tags=["eu"], health=Health.WARNING))

    assert [one.id for one in catalog.lookup("greeter", tags=["eu"])] == ["one", "two"]
    assert [one.id for one in catalog.lookup("greeter", tags=["eu", "fast"])] == ["one"]
    assert [one.id for one in catalog.lookup("greeter", passing=True)] == ["one"]


async def test_heartbeats_that_stop_make_critical_and_then_take_out(make_catalog, autojump_clock, nursery):
    catalog = make_catalog(expire_after=60)
    nursery.start_soon(catalog.expire)
    await catalog.register(Registration(**GREETER, ttl=10.0))
    for _ in range(5):
        await trio.sleep(8)
        await catalog.heartbeat("one", Heartbeat())
    assert catalog.registry.get("one").health is Health.PASSING

    await trio.sleep(10.5)
    assert catalog.registry.get("one").health is Health.CRITICAL
    assert catalog._store.instances["one"].health is Health.CRITICAL
    await trio.sleep(60)
    assert catalog.registry.get("one") is None
    assert catalog._store.instances == {}


async def test_a_deadline_sooner_than_the_one_waited_for_is_kept(make_catalog, autojump_clock, nursery):
    catalog = make_catalog()
    nursery.start_soon(catalog.expire)
    await catalog.register(Registration(**GREETER, ttl=1000.0))
    await wait_all_tasks_blocked()
    await catalog.register(Registration(**GREETER | {"id": "two"}, ttl=10.0))

    await trio.sleep(10.5)
    assert catalog.registry.get("two").health is Health.CRITICAL


async def test_a_registry_that_was_held_up_itself_expires_nobody(make_catalog, mock_clock, nursery):
    catalog = make_catalog(start_grace=30)
    nursery.start_soon(catalog.expire)
    await catalog.register(Registration(**GREETER, ttl=10.0))
    await wait_all_tasks_blocked()

    mock_clock.jump(500)
    await wait_all_tasks_blocked()
    assert catalog.registry.get("one").health is Health.PASSING
    await catalog.heartbeat("one", Heartbeat())
    mock_clock.jump(10.5)
    await wait_all_tasks_blocked()
    assert catalog.registry.get("one").health is Health.CRITICAL


async def test_who_died_while_the_registry_was_held_up_is_found_out_all_the_same(make_catalog, mock_clock, nursery):
    catalog = make_catalog(start_grace=30)
    nursery.start_soon(catalog.expire)
    await catalog.register(Registration(**GREETER, ttl=10.0))
    await wait_all_tasks_blocked()

    mock_clock.jump(500)
    await wait_all_tasks_blocked()
    mock_clock.jump(30.5)
    await wait_all_tasks_blocked()
    assert catalog.registry.get("one").health is Health.CRITICAL


async def test_checks_run_and_are_stored(make_catalog, autojump_clock, nursery):
    answers = {"health": Health.PASSING}

    async def probe(check):
        return answers["health"], "seen"

    catalog = make_catalog(probe=probe)
    nursery.start_soon(catalog.checker.run)
    await catalog.register(
        Registration(**GREETER, check=Check(http="http://x/", interval=10.0, failures_before_critical=2))
    )
    assert catalog.registry.get("one").health is Health.WARNING
    await trio.sleep(2)
    assert catalog.registry.get("one").health is Health.PASSING

    answers["health"] = Health.CRITICAL
    await trio.sleep(30)
    assert catalog._store.instances["one"].health is Health.CRITICAL


# Watching


class Watcher:
    def __init__(self, catalog, nursery, name=None, position=None):
        self.events = []
        nursery.start_soon(self._watch, catalog, name, position)

    async def _watch(self, catalog, name, position):
        events = catalog.watch(name, position)
        async for event in events:
            data = event.data if isinstance(event.data, dict) else orjson.loads(event.data)
            self.events.append((event.event, event.id, data))


async def test_a_watcher_gets_a_snapshot_and_every_change_after_it(make_catalog, nursery):
    catalog = make_catalog()
    await catalog.register(Registration(**GREETER))
    watcher = Watcher(catalog, nursery)
    await wait_all_tasks_blocked()
    await catalog.heartbeat("one", Heartbeat(health=Health.WARNING))
    await catalog.deregister("one")
    await wait_all_tasks_blocked()

    (kind, _, snapshot), *changes = watcher.events
    assert kind == "snapshot"
    assert [one.id for one in snapshot["services"]["greeter"]] == ["one"]
    assert [(kind, data["type"], data["instance"]["health"]) for kind, _, data in changes] == [
        ("change", "health", "warning"),
        ("change", "deregistered", "warning"),
    ]


async def test_a_watcher_that_comes_back_goes_on_where_it_was(make_catalog, nursery):
    catalog = make_catalog()
    first = Watcher(catalog, nursery)
    await catalog.register(Registration(**GREETER))
    await wait_all_tasks_blocked()
    await catalog.register(Registration(**GREETER | {"id": "two"}))

    again = Watcher(catalog, nursery, position=first.events[1][1])
    await wait_all_tasks_blocked()
    assert [(kind, data["instance"]["id"]) for kind, _, data in again.events] == [("change", "two")]
    zero = Watcher(catalog, nursery, position=first.events[0][1])
    await wait_all_tasks_blocked()
    assert [kind for kind, _, _ in zero.events] == ["change", "change"]


@pytest.mark.parametrize("position", ["", "x", "deadbeef:1", "{epoch}:99", "{epoch}:-1", "{epoch}:" + "9" * 30])
async def test_a_position_that_is_gone_gets_a_snapshot(make_catalog, nursery, position):
    catalog = make_catalog()
    await catalog.register(Registration(**GREETER))
    watcher = Watcher(catalog, nursery, position=position.replace("{epoch}", catalog._feed.epoch))
    await wait_all_tasks_blocked()

    assert [kind for kind, _, _ in watcher.events] == ["snapshot"]


async def test_a_watcher_of_one_service_hears_of_no_other(make_catalog, nursery):
    catalog = make_catalog()
    watcher = Watcher(catalog, nursery, name="greeter")
    await catalog.register(Registration(**GREETER | {"name": "other", "id": "x"}))
    await catalog.register(Registration(**GREETER))
    await wait_all_tasks_blocked()

    assert watcher.events[0][2] == {"services": {}}
    assert [data["instance"]["name"] for _, _, data in watcher.events[1:]] == ["greeter"]


async def test_a_watcher_that_is_too_slow_gets_a_new_snapshot(make_catalog):
    catalog = make_catalog()
    events = catalog.watch(None, None)
    assert (await anext(events)).event == "snapshot"
    for number in range(400):
        await catalog.register(Registration(**GREETER | {"id": f"n{number}"}))

    fresh = await anext(events)
    assert fresh.event == "snapshot"
    assert len(fresh.data["services"]["greeter"]) == 400
    await catalog.deregister("n0")
    assert (await anext(events)).event == "change"
    await events.aclose()
