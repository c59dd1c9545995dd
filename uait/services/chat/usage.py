"""Counting tokens for every user, model and day, without a write for every request."""

from __future__ import annotations

import logging

import attrs
import trio
from prometheus_client.core import CollectorRegistry, Counter

from uait.errors import UaitError
from uait.llm.messages import Usage
from uait.services.chat.ledger import BILLION, Ledger
from uait.storage import utc_now
from uait.web.metrics import get_or_create

PAUSE = 0.25
"""Seconds that what was used is gathered for before it is written: a write of its own for every answer would cost as much as the answer's."""

FLUSH_TIMEOUT = 2.0


@attrs.define(eq=False)
class _Batch:
    """What has come together since the last write."""

    sums: dict[tuple[str, str, str], list[int]] = attrs.field(factory=dict)
    arrived: trio.Event = attrs.field(factory=trio.Event)
    wanted: trio.Event = attrs.field(factory=trio.Event)
    stored: trio.Event = attrs.field(factory=trio.Event)


class UsageRecorder:
    """Adds up in memory and writes what has come together, `PAUSE` seconds after the first of it, or as soon as somebody wants to read.

    A crash of the process loses what was not yet written, which is that time and a write's duration; stopping loses nothing, where `flush` is called when nobody counts any more.
    """

    def __init__(self, ledger: Ledger, log: logging.Logger, registry: CollectorRegistry) -> None:
        self._ledger = ledger
        self._log = log
        self._answers = get_or_create(Counter, registry, "uait_chat_answers", "Answers by models.", "provider")
        self._tokens = get_or_create(
            Counter, registry, "uait_chat_tokens", "Tokens used, counted or estimated.", "provider", "kind"
        )
        self._counters: dict[str, tuple[Counter, Counter, Counter]] = {}
        self._batch = _Batch()
        self._writing = _Batch()

    def add(self, user_id: str, model: str, usage: Usage, requests: int = 1, cost: float | None = None) -> None:
        """Count one answer, or with `requests=0` an attempt that did not become one. `cost` is None where it is not known."""
        batch = self._batch
        sums = batch.sums.setdefault((user_id, utc_now()[:10], model), [0, 0, 0, 0, 0, 0])
        sums[0] += requests
        sums[1] += usage.prompt_tokens
        sums[2] += usage.completion_tokens
        sums[3] += usage.estimated
        if cost is not None:
            sums[4] += round(cost * BILLION)
        elif usage.prompt_tokens or usage.completion_tokens:
            sums[5] += 1
        batch.arrived.set()
        # Not by model: a client can name any, and every one would stay.
        provider = model.partition("/")[0]
        counters = self._counters.get(provider)
        if counters is None:
            counters = self._counters[provider] = (
                self._answers.labels(provider),
                self._tokens.labels(provider, "prompt"),
                self._tokens.labels(provider, "completion"),
            )
        answers, prompt, completion = counters
        answers.inc(requests)
        prompt.inc(usage.prompt_tokens)
        completion.inc(usage.completion_tokens)

    async def stored(self) -> None:
        """Wait until what has been counted before this can be read in the store."""
        for batch in (self._writing, self._batch):
            if batch.sums:
                batch.wanted.set()
                await batch.stored.wait()

    async def run(self) -> None:
        """Write what arrives, until cancelled; then the rest, within a bound."""
        try:
            while True:
                batch = self._batch
                await batch.arrived.wait()
                with trio.move_on_after(PAUSE):
                    await batch.wanted.wait()
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what has come together. Bounded, also where the caller is cancelled."""
        batch = self._writing = self._batch
        self._batch = _Batch()
        try:
            # Shielded: a stop in the middle would lose it.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_TIMEOUT) as scope:
                if batch.sums:
                    await self._ledger.add_usage((*key, *values) for key, values in batch.sums.items())
            if scope.cancelled_caught:
                # Not again: it may be stored all the same.
                self._log.error("%d usage records may not be stored, it took too long: %s", len(batch.sums), batch.sums)
        except UaitError as error:
            # A full disk must not stop answers; what was counted is in the log.
            self._log.error("%d usage records could not be stored: %s: %s", len(batch.sums), error, batch.sums)
        finally:
            self._writing = _Batch()
            batch.stored.set()
