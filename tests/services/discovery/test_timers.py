from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from uait.services.discovery.timers import Timers


def test_what_is_due_is_told_once_and_in_order():
    timers = Timers()
    timers.set("b", 2)
    timers.set("a", 1)
    timers.set("c", 3)

    assert timers.next() == 1
    assert timers.due(0.5) == []
    assert timers.due(2) == ["a", "b"]
    assert timers.due(2) == []


def test_a_deadline_can_be_put_off_and_brought_forward_and_taken_back():
    timers = Timers()
    timers.set("late", 1)
    timers.set("late", 5)
    timers.set("early", 5)
    timers.set("early", 1)
    timers.set("never", 1)
    timers.discard("never")

    assert timers.due(1) == ["early"]
    assert timers.due(4) == []
    assert timers.due(5) == ["late"]


def test_putting_everything_off():
    timers = Timers()
    timers.set("a", 1)
    timers.put_off(10)

    assert timers.due(10.9) == []
    assert timers.due(11) == ["a"]


def test_what_was_taken_back_long_before_its_time_takes_no_room():
    timers = Timers()
    for number in range(100):
        timers.set(f"stays {number}", 1000 + number)
    for number in range(10_000):
        timers.set(f"goes {number}", 86_400)
        timers.discard(f"goes {number}")

    assert len(vars(timers)["_heap"]) <= 300
    assert len(vars(timers)["_queued"]) <= 300
    assert timers.due(86_400) == [f"stays {number}" for number in range(100)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(0, 50)),
            st.tuples(st.just("discard"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("due"), st.just(""), st.integers(0, 50)),
        )
    )
)
def test_it_is_a_table_of_deadlines(steps):
    timers, expected, now = Timers(), {}, 0
    for step, key, number in steps:
        if step == "set":
            timers.set(key, number)
            expected[key] = number
        elif step == "discard":
            timers.discard(key)
            expected.pop(key, None)
        else:
            now = max(now, number)
            due = {key for key, at in expected.items() if at <= now}
            assert set(timers.due(now)) == due
            for key in due:
                del expected[key]
        if expected:
            assert timers.next() <= min(expected.values())
