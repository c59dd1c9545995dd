"""How much, how fast, and how fast it may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from uait.services.hub.rate import Bucket
from uait.services.hub.traffic import SPAN, Meter


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 100)), max_size=50))
def test_a_rate_is_that_of_the_last_seconds(steps):
    now = 1000.25
    began, seen = now, []
    meter = Meter(lambda: now)
    for seconds, count in steps:
        now += seconds
        meter.add(count)
        seen.append((int(now), count))
        recent = sum(count for second, count in seen if second >= int(now) - SPAN)
        lasted = max(1.0, min(now - began, SPAN + now % 1))
        assert abs(meter.rate() * lasted - recent) < 1e-6 * max(1, recent)
    assert meter.total == sum(count for _, count in steps)


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=200))
def test_nobody_sends_more_than_the_rate_and_what_may_come_at_once(rate, pauses):
    now = 0.0
    bucket, taken = Bucket(rate, lambda: now), 0
    for pause in pauses:
        now += pause
        taken += bucket.take()
        assert taken <= rate * (now + 2) + 1e-6


def test_without_a_rate_anything_goes():
    bucket = Bucket(0, lambda: 0.0)
    assert all(bucket.take() for _ in range(10_000))
    assert not bucket.overdrawn


def test_who_heeds_the_refusals_is_not_overdrawn():
    now = 0.0
    bucket = Bucket(10, lambda: now)
    for _ in range(1000):
        while bucket.take():
            pass
        assert not bucket.overdrawn
        now += 1
    while not bucket.overdrawn:
        assert not bucket.take() or now
