from __future__ import annotations

import pytest

from uait.services.discovery.model import Change, ChangeType, Check, Health, Instance, Origin

PASSING, WARNING, CRITICAL = Health.PASSING, Health.WARNING, Health.CRITICAL


def kinds(changes):
    return [(change.type.value, change.instance.id) for change in changes]


def test_what_is_registered_is_found_by_its_name(make_world):
    world = make_world()

    assert kinds(world.register()) == [("registered", "one")]
    assert kinds(world.register(id="two")) == [("registered", "two")]

    assert [instance.id for instance in world.registry.named("greeter")] == ["one", "two"]
    assert list(world.registry.by_name()) == ["greeter"]
    assert world.registry.named("nobody") == []


def test_what_is_taken_out_is_gone(make_world):
    world = make_world()
    world.register(ttl=5)

    assert kinds(world.registry.remove("one")) == [("deregistered", "one")]
    assert world.registry.remove("one") == []
    assert world.registry.by_name() == {}
    assert world.pass_by(1000) == []


def test_registering_again_replaces_and_keeps_health_and_age(make_world):
    world = make_world()
    world.register(check=Check(tcp="10.0.0.1:80"))
    first = world.registry.get("one").registered_at
    for _ in range(3):
        world.registry.checked("one", CRITICAL, "cannot connect", world.now)

    assert kinds(world.register(check=Check(tcp="10.0.0.1:80"), port=81)) == [("updated", "one")]

    instance = world.registry.get("one")
    assert (instance.port, instance.health, instance.registered_at) == (81, CRITICAL, first)


def test_a_passing_one_that_registers_again_does_not_fall_back(make_world):
    world = make_world()
    world.register(check=Check(tcp="10.0.0.1:80"))
    world.registry.checked("one", PASSING, "connected", world.now)

    world.register(check=Check(tcp="10.0.0.1:80"))

    assert world.health() is PASSING


def test_registering_again_under_another_name_moves_it(make_world):
    world = make_world()
    world.register()
    world.register("farewell")

    assert list(world.registry.by_name()) == ["farewell"]


def test_a_health_that_is_given_counts(make_world):
    world = make_world()
    world.register(health=CRITICAL)
    assert world.health() is CRITICAL
    world.register(health=PASSING)
    assert world.health() is PASSING


def test_without_a_check_it_passes_and_with_one_it_is_a_warning_until_checked(make_world):
    world = make_world()
    world.register()
    world.register(id="two", check=Check(http="http://10.0.0.1/health"))

    assert (world.health("one"), world.health("two")) == (PASSING, WARNING)


def test_who_misses_its_heartbeat_is_critical_and_later_gone(make_world):
    world = make_world(expire_after=60)
    world.register(ttl=10)
    assert world.pass_by(9) == []
    world.registry.heartbeat("one", PASSING, "", world.now)
    assert world.pass_by(9) == []

    assert kinds(world.pass_by(2)) == [("health", "one")]
    assert world.health() is CRITICAL
    assert world.pass_by(59) == []
    assert kinds(world.pass_by(2)) == [("deregistered", "one")]


def test_a_late_heartbeat_brings_it_back(make_world):
    world = make_world()
    world.register(ttl=10)
    world.pass_by(11)

    assert kinds(world.registry.heartbeat("one", PASSING, "", world.now)) == [("health", "one")]
    assert world.pass_by(9) == []
    assert world.health() is PASSING


def test_registering_again_is_a_heartbeat(make_world):
    world = make_world()
    world.register(ttl=10)
    world.pass_by(11)

    world.register(ttl=10)

    assert world.health() is PASSING
    assert world.pass_by(9) == []


def test_a_heartbeat_can_say_that_it_is_not_well(make_world):
    world = make_world()
    world.register(ttl=10)

    world.registry.heartbeat("one", WARNING, "disk nearly full", world.now)

    assert world.health() is WARNING
    assert world.registry.get("one").note == "disk nearly full"


def test_one_failed_check_is_a_warning_and_three_are_critical(make_world):
    world = make_world()
    world.register(check=Check(tcp="10.0.0.1:80", failures_before_critical=3))
    world.registry.checked("one", PASSING, "connected", world.now)

    seen = []
    for _ in range(4):
        world.registry.checked("one", CRITICAL, "cannot connect", world.now)
        seen.append(world.health())
    assert seen == [WARNING, WARNING, CRITICAL, CRITICAL]

    world.registry.checked("one", PASSING, "connected", world.now)
    assert world.health() is PASSING
    world.registry.checked("one", CRITICAL, "cannot connect", world.now)
    assert world.health() is WARNING


def test_the_worse_of_check_and_heartbeat_counts(make_world):
    world = make_world()
    world.register(check=Check(tcp="10.0.0.1:80", failures_before_critical=1), ttl=10)
    world.registry.checked("one", CRITICAL, "cannot connect", world.now)

    world.registry.heartbeat("one", PASSING, "", world.now)
    assert world.health() is CRITICAL

    world.registry.checked("one", PASSING, "connected", world.now)
    assert world.health() is PASSING
    world.pass_by(11)
    assert world.health() is CRITICAL


def test_critical_for_too_long_is_taken_out_where_its_check_says_so(make_world):
    world = make_world()
    world.register(check=Check(tcp="x:1", failures_before_critical=1, deregister_critical_after=30))
    world.registry.checked("one", CRITICAL, "", world.now)
    assert world.pass_by(29) == []
    world.registry.checked("one", PASSING, "", world.now)
    world.registry.checked("one", CRITICAL, "", world.now)
    assert world.pass_by(29) == []

    assert kinds(world.pass_by(2)) == [("deregistered", "one")]


def test_one_that_is_well_again_is_not_taken_out(make_world):
    world = make_world()
    world.register(check=Check(tcp="x:1", failures_before_critical=1, deregister_critical_after=30))
    world.registry.checked("one", CRITICAL, "", world.now)
    world.registry.checked("one", PASSING, "", world.now)

    assert world.pass_by(100) == []


def test_what_was_critical_before_a_restart_is_not_better_for_it(make_world):
    before = make_world()
    before.register(check=Check(tcp="x:1"), health=CRITICAL)
    after = make_world()
    after.registry.restore([before.registry.get("one")], after.now)

    after.registry.checked("one", CRITICAL, "cannot connect", after.now)

    assert after.health() is CRITICAL


def test_critical_stays_listed_where_nothing_is_said(make_world):
    world = make_world()
    world.register(health=CRITICAL)

    assert world.pass_by(10_000_000) == []


def test_what_a_check_says_of_somebody_who_is_gone_is_ignored(make_world):
    world = make_world()

    assert world.registry.checked("gone", CRITICAL, "", world.now) == []
    world.register()
    assert world.registry.checked("one", CRITICAL, "", world.now) == []


def test_nobody_expires_because_the_registry_was_down(make_world):
    before = make_world()
    before.register(ttl=10)
    before.register(id="ill", health=CRITICAL, check=Check(deregister_critical_after=5))

    after = make_world(start_grace=30)
    after.registry.restore([before.registry.get("one"), before.registry.get("ill")], after.now)

    assert after.pass_by(34) == []
    assert after.health() is PASSING
    assert kinds(after.pass_by(7)) == [("health", "one"), ("deregistered", "ill")]


def test_lateness_of_the_registry_itself_is_nobody_elses_fault(make_world):
    world = make_world()
    world.register(ttl=10)
    world.registry.put_off(100)

    assert world.pass_by(109) == []
    assert kinds(world.pass_by(2)) == [("health", "one")]


def test_the_next_deadline_is_never_later_than_what_happens(make_world):
    world = make_world()
    assert world.registry.next_deadline() is None
    world.register(ttl=10)
    assert world.registry.next_deadline() == world.now + 10


def test_the_balancer_takes_turns_and_leaves_critical_ones_out(make_world):
    world = make_world()
    for number in ("one", "two", "three"):
        world.register(id=number)
    world.registry.heartbeat("two", CRITICAL, "", world.now)

    picked = [world.registry.pick(world.registry.named("greeter")).id for _ in range(4)]

    assert picked == ["one", "three", "one", "three"]


def own(name, health=PASSING, **fields):
    return Instance(
        id=f"{name}-service",
        name=f"{name}-service",
        address="127.0.0.1",
        port=1,
        meta={"service": name},
        health=health,
        origin=Origin.HOST,
        **fields,
    )


def test_the_hosts_own_services_come_and_go_as_they_are(make_world):
    world = make_world()

    assert kinds(world.registry.mirror([own("chat"), own("memory")], world.now)) == [
        ("registered", "chat-service"),
        ("registered", "memory-service"),
    ]
    assert world.registry.mirror([own("chat"), own("memory")], world.now) == []
    assert kinds(world.registry.mirror([own("chat", CRITICAL, note="failed")], world.now)) == [
        ("deregistered", "memory-service"),
        ("health", "chat-service"),
    ]
    assert kinds(world.registry.mirror([own("chat", CRITICAL, note="failed", tags=("x",))], world.now)) == [
        ("updated", "chat-service")
    ]


def test_the_hosts_own_services_are_found_by_their_short_names_and_never_expire(make_world):
    world = make_world()
    world.registry.mirror([own("chat", CRITICAL)], world.now)

    assert [instance.id for instance in world.registry.named("chat")] == ["chat-service"]
    assert world.pass_by(10_000_000) == []


def test_only_the_host_can_claim_a_short_name(make_world):
    world = make_world()
    world.register("impostor", meta={"service": "chat"})

    assert world.registry.named("chat") == []


@pytest.mark.parametrize("kind", list(ChangeType))
def test_changes_are_data(kind):
    assert Change(kind, own("chat")).type is kind
