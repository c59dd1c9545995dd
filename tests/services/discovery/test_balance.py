from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from uait.services.discovery.balance import RoundRobin, usable
from uait.services.discovery.model import Health, Instance


def instance(name, weight=1, health=Health.PASSING):
    return Instance(id=name, name="s", address="127.0.0.1", port=1, weight=weight, health=health)


def test_passing_ones_come_first_then_warnings_and_never_critical_ones():
    passing, warning, critical = (instance(word, health=Health(word)) for word in ("passing", "warning", "critical"))

    assert usable([critical, warning, passing]) == [passing]
    assert usable([critical, warning]) == [warning]
    assert usable([critical]) == []
    assert usable([]) == []


def test_weight_zero_is_out_of_rotation_unless_there_is_nothing_else():
    off, on = instance("off", weight=0), instance("on")

    assert usable([off, on]) == [on]
    assert usable([off]) == [off]
    assert usable([off, instance("ill", health=Health.WARNING)]) == [off]


def test_heavy_ones_are_spread_between_the_others():
    turns = RoundRobin()
    group = [instance("a", 5), instance("b"), instance("c")]

    assert "".join(turns.pick(group).id for _ in range(7)) == "aabacaa"


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_every_instance_gets_exactly_its_share(weights):
    turns = RoundRobin()
    group = [instance(str(number), weight) for number, weight in enumerate(weights)]

    picked = Counter(turns.pick(group).id for _ in range(3 * sum(weights)))

    assert picked == {str(number): 3 * weight for number, weight in enumerate(weights)}


def test_one_that_comes_and_goes_does_not_disturb_the_others():
    turns = RoundRobin()
    a, b, c = instance("a"), instance("b"), instance("c")

    assert {turns.pick([a, b]).id, turns.pick([a, b]).id} == {"a", "b"}
    turns.pick([a, b, c])
    counted = Counter(turns.pick([a, b]).id for _ in range(10))
    assert abs(counted["a"] - counted["b"]) <= 2


def test_whoever_asks_for_some_of_them_leaves_the_turns_of_the_others_alone():
    turns = RoundRobin()
    red, blue = [instance("a"), instance("b")], [instance("c"), instance("d")]

    assert "".join(turns.pick(group).id for _ in range(3) for group in (red, blue)) == "acbdac"


def test_nothing_is_kept_of_those_that_are_gone():
    turns = RoundRobin()
    group = [instance("a"), instance("b")]
    turns.pick(group)
    for each in group:
        turns.forget(each)

    assert turns.pick(group).id == "a"
    assert vars(turns)["_credit"] == {"s": {"a": -1, "b": 1}}
    for each in group:
        turns.forget(each)
    assert vars(turns)["_credit"] == {}


def test_nobody_is_picked_from_nobody():
    assert RoundRobin().pick([]) is None
