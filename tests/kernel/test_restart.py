"""Backoff and intensity: pure, so tested with made-up times."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from uait.kernel.restart import RestartPolicy, RestartTracker


class Middle(Random):
    """Jitter exactly in the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def test_the_delay_doubles_up_to_the_cap() -> None:
    tracker = RestartTracker(RestartPolicy(base=1, cap=5, intensity=10, window=1000), Middle())

    delays = [tracker.crashed(now, ready_for=0) for now in range(5)]

    assert delays == [1, 2, 4, 5, 5]


def test_more_crashes_than_the_intensity_within_the_window_are_too_many() -> None:
    tracker = RestartTracker(RestartPolicy(intensity=2, window=10), Middle())

    assert tracker.crashed(0, ready_for=0) is not None
    assert tracker.crashed(1, ready_for=0) is not None
    assert tracker.crashed(2, ready_for=0) is None


def test_crashes_that_are_far_apart_never_exhaust_it() -> None:
    tracker = RestartTracker(RestartPolicy(intensity=1, window=10), Middle())

    assert all(tracker.crashed(now * 10.5, ready_for=0) is not None for now in range(20))


def test_a_stable_time_resets_the_delay_and_a_short_one_does_not() -> None:
    tracker = RestartTracker(RestartPolicy(base=1, intensity=10, stable_after=5), Middle())
    tracker.crashed(0, ready_for=0)

    assert tracker.crashed(1, ready_for=4.9) == 2
    assert tracker.crashed(7, ready_for=5) == 1


def test_intensity_zero_means_never() -> None:
    assert RestartTracker(RestartPolicy(intensity=0)).crashed(0, ready_for=100) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers())
def test_every_delay_is_bounded_by_the_jittered_cap(gaps: list[float], seed: int) -> None:
    policy = RestartPolicy(base=0.1, cap=3, intensity=5, window=60)
    tracker = RestartTracker(policy, Random(seed))
    now = 0.0
    for gap in gaps:
        now += gap
        delay = tracker.crashed(now, ready_for=0)
        assert delay is None or 0.05 <= delay <= 4.5
