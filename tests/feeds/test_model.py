"""The feed against a plain list: whatever is done in whatever order, and cancelled wherever, a reader gets what a list says it should."""

from __future__ import annotations

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from uait.feeds import Feed, SlowReader

KEPT = 6
WEIGHT = 40
AGE = 10.0
TOKENS = 3


class Model:
    """What one reader is to get: tuples of offset, data and key, all of them, in a list."""

    def __init__(self, policy, queue, size, start, replay):
        self.policy = policy
        self.queue = queue
        self.size = size
        self.last = start
        # By so much the bounds are wider while there is something to replay.
        self.extra_count, self.extra_bytes = len(replay), sum(len(entry[1]) for entry in replay)
        self.waiting = []
        self.cut = False
        for entry in replay:
            self.offer(entry)

    def weight(self):
        return sum(len(data) for _, data, _ in self.waiting)

    def offer(self, entry):
        if self.cut:
            return
        if self.policy == "coalesce" and entry[2] is not None:
            self.waiting = [other for other in self.waiting if other[2] != entry[2]]
        while self.waiting and (
            len(self.waiting) >= self.queue + self.extra_count
            or self.weight() + len(entry[1]) > self.size + self.extra_bytes
        ):
            if self.policy == "disconnect":
                self.cut, self.waiting = True, []
                return
            self.waiting = self.waiting[1:]
        self.waiting = [*self.waiting, entry]

    def take(self):
        entry, self.waiting = self.waiting[0], self.waiting[1:]
        missed, self.last = entry[0] - self.last - 1, entry[0]
        if self.extra_count:
            self.extra_count -= 1
            self.extra_bytes = max(0, self.extra_bytes - len(entry[1])) if self.extra_count else 0
        return (*entry, missed)


class FeedMachine(RuleBasedStateMachine):
    readers = Bundle("readers")

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.announced = []
        self.feed = Feed(
            "test",
            max_events=KEPT,
            max_bytes=WEIGHT,
            max_age=AGE,
            max_tokens=TOKENS,
            clock=lambda: self.now,
            on_append=lambda event: self.announced.append(event.offset),
        )
        self.log = []
        self.tokens = []
        self.models = []

    def kept(self):
        """What is kept, said as simply as can be: the longest end of the log that keeps all three limits."""
        for start in range(len(self.log) + 1):
            rest = self.log[start:]
            young = all(self.now - moment <= AGE for *_, moment in rest)
            if len(rest) <= KEPT and sum(len(data) for _, data, _, _ in rest) <= WEIGHT and young:
                return [entry[:3] for entry in rest]
        raise AssertionError

    @rule(
        data=st.text("xyz", max_size=50),
        key=st.sampled_from([None, "a", "b", "c"]),
        token=st.sampled_from([None, None, "t", "u", "v", "w"]),
    )
    def append(self, data, key, token):
        known = dict(self.tokens[-TOKENS:])
        offset = self.feed.append(data, key=key, token=token)
        if token in known:
            assert offset == known[token]
            return
        assert offset == len(self.log) + 1
        if token is not None:
            self.tokens.append((token, offset))
        self.log.append((offset, data, key, self.now))
        for model in self.models:
            model.offer((offset, data, key))

    @rule(seconds=st.floats(0, 8))
    def wait(self, seconds):
        self.now += seconds

    @rule(
        target=readers,
        after=st.none() | st.integers(-1, 30),
        right_epoch=st.sampled_from([True, True, None, False]),
        policy=st.sampled_from(["disconnect", "drop_oldest", "coalesce"]),
        queue=st.integers(1, 5),
        size=st.sampled_from([10, 60, None]),
    )
    def read(self, after, right_epoch, policy, queue, size):
        kept = self.kept()
        epoch = {True: self.feed.epoch, False: "other", None: None}[right_epoch]
        model = None
        reader = self.feed.read(
            after, epoch, policy=policy, queue=queue, max_bytes=size, on_slow=lambda: model.told.append("slow")
        )
        first = kept[0][0] if kept else len(self.log) + 1
        known = after is None or (right_epoch is not False and first - 1 <= after <= len(self.log))
        start = after if known and after is not None else len(self.log)
        assert (reader.recovered, reader.start) == (known, start)
        model = Model(policy, queue, size or 10**9, start, [entry for entry in kept if entry[0] > start])
        model.told = []
        self.models.append(model)
        return reader, model

    @rule(pair=readers, count=st.integers(1, 8), steps=st.none() | st.integers(0, 3))
    def take(self, pair, count, steps):
        reader, model = pair
        for _ in range(count):
            if model.cut:
                with pytest.raises(SlowReader) as caught:
                    run(reader.__anext__)
                assert caught.value.offset == model.last
            else:
                event = run(reader.__anext__, 2 if steps is None and not model.waiting else steps)
                if event is None:
                    assert steps is not None or not model.waiting
                else:
                    assert (event.offset, event.data, event.key, event.missed) == model.take()

    @rule(pair=readers)
    def take_nowait(self, pair):
        reader, model = pair
        if model.cut:
            with pytest.raises(SlowReader):
                reader.take_nowait()
        else:
            event = reader.take_nowait()
            found = event and (event.offset, event.data, event.key, event.missed)
            assert found == (model.take() if model.waiting else None)

    @rule(pair=readers, steps=st.none() | st.integers(0, 3))
    def batch(self, pair, steps):
        reader, model = pair
        if model.waiting:
            events = run(reader.batch, steps) or []
            found = [(event.offset, event.data, event.key, event.missed) for event in events]
            assert found or steps is not None
            assert found == [model.take() for _ in range(len(model.waiting) if found else 0)]

    @rule(pair=consumes(readers))
    def leave(self, pair):
        reader, model = pair
        reader.close()
        self.models.remove(model)

    @invariant()
    def keeps_what_it_should(self):
        kept = [(event.offset, event.data, event.key) for event in self.feed.last(1000)]
        assert kept == self.kept()
        assert self.feed.bytes == sum(len(data) for _, data, _ in kept)
        assert self.feed.offset == len(self.log)
        assert self.announced == [offset for offset, *_ in self.log]

    @invariant()
    def answers_a_position_wholly_or_not_at_all(self):
        kept = self.kept()
        for after in range(-1, len(self.log) + 2):
            found = self.feed.since(after, self.feed.epoch)
            oldest = kept[0][0] if kept else len(self.log) + 1
            if oldest - 1 <= after <= len(self.log):
                assert [event.offset for event in found] == list(range(after + 1, len(self.log) + 1))
            else:
                assert found is None

    @invariant()
    def tells_the_slow_once(self):
        for model in self.models:
            assert model.told == (["slow"] if model.cut else [])


def run(method, steps=None):
    """What `method` returns; None where it was cancelled, after so many of the scheduler's steps, before it did."""

    async def main():
        result = None

        async def call():
            nonlocal result
            with scope:
                result = await method()
            scope.cancel(reason="done")

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                nursery.start_soon(call)
                if steps is not None:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel(reason="the test's")
        return result

    try:
        return trio.run(main)
    except* SlowReader as group:
        error = group.exceptions[0]
    raise error


TestFeed = FeedMachine.TestCase
TestFeed.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
