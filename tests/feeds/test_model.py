"""The feed against a plain list: whatever is done in whatever order, a reader gets what a list says it should."""

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


class Model:
    """What one reader is to get: pairs of offset and data, all of them, in a list."""

    def __init__(self, policy, queue, start, replay):
        self.policy = policy
        self.queue = queue
        self.last = start
        self.replay_left = len(replay)
        self.waiting = []
        self.cut = False
        for entry in replay:
            self.offer(entry)

    def offer(self, entry):
        if self.cut:
            return
        if self.policy == "coalesce" and entry[2] is not None:
            self.waiting = [other for other in self.waiting if other[2] != entry[2]]
        if len(self.waiting) >= self.queue + self.replay_left:
            if self.policy == "disconnect":
                self.cut, self.waiting = True, []
                return
            self.waiting = self.waiting[1:]
        self.waiting = [*self.waiting, entry]

    def take(self):
        entry, self.waiting = self.waiting[0], self.waiting[1:]
        missed, self.last = entry[0] - self.last - 1, entry[0]
        self.replay_left = max(0, self.replay_left - 1)
        return (*entry, missed)


class FeedMachine(RuleBasedStateMachine):
    readers = Bundle("readers")

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.feed = Feed("test", max_events=KEPT, max_bytes=WEIGHT, max_age=AGE, clock=lambda: self.now)
        self.log = []
        self.models = []

    def kept(self):
        """What is kept, said as simply as can be: the longest end of the log that keeps all three limits."""
        for start in range(len(self.log) + 1):
            rest = self.log[start:]
            young = all(self.now - moment <= AGE for *_, moment in rest)
            if len(rest) <= KEPT and sum(len(data) for _, data, _, _ in rest) <= WEIGHT and young:
                return [entry[:3] for entry in rest]
        raise AssertionError

    @rule(data=st.text("xyz", max_size=50), key=st.sampled_from([None, "a", "b", "c"]))
    def append(self, data, key):
        offset = self.feed.append(data, key=key)
        assert offset == len(self.log) + 1
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
    )
    def read(self, after, right_epoch, policy, queue):
        kept = self.kept()
        epoch = {True: self.feed.epoch, False: "other", None: None}[right_epoch]
        reader = self.feed.read(after, epoch, policy=policy, queue=queue)
        first = kept[0][0] if kept else len(self.log) + 1
        known = after is None or (right_epoch is not False and first - 1 <= after <= len(self.log))
        start = after if known and after is not None else len(self.log)
        assert (reader.recovered, reader.start) == (known, start)
        model = Model(policy, queue, start, [entry for entry in kept if entry[0] > start])
        self.models.append(model)
        return reader, model

    @rule(pair=readers, count=st.integers(1, 8))
    def take(self, pair, count):
        reader, model = pair
        for _ in range(count):
            if model.cut:
                with pytest.raises(SlowReader) as caught:
                    run(reader.__anext__)
                assert caught.value.offset == model.last
            elif model.waiting:
                event = run(reader.__anext__)
                assert (event.offset, event.data, event.key, event.missed) == model.take()

    @rule(pair=readers)
    def batch(self, pair):
        reader, model = pair
        if model.waiting:
            events = run(reader.batch)
            found = [(event.offset, event.data, event.key, event.missed) for event in events]
            assert found == [model.take() for _ in range(len(model.waiting))]

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


def run(method):
    async def main():
        with trio.fail_after(10):
            return await method()

    return trio.run(main)


TestFeed = FeedMachine.TestCase
TestFeed.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
