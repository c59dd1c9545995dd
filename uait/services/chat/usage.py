"""Counting tokens for every user, model and day, without a write for every request."""

from __future__ import annotations

import logging

import trio
from prometheus_client import CollectorRegistry, Counter

from uait.errors import UaitError
from uait.llm.messages import Usage
from uait.services.chat.store import ChatStore
from uait.storage import utc_now
from uait.web.metrics import get_or_create

FLUSH_TIMEOUT = 2.0


class UsageRecorder:
    """Adds up in memory and writes what has come together as soon as the last write is done.

    A crash of the process loses what was not yet written, which is a write's duration; stopping loses nothing.
    """

    def __init__(self, store: ChatStore, log: logging.Logger, registry: CollectorRegistry) -> None:
        self._store = store
        self._log = log
        self._answers = get_or_create(Counter, registry, "uait_chat_answers", "Answers by models.", "provider")
        self._tokens = get_or_create(
            Counter, registry, "uait_chat_tokens", "Tokens used, counted or estimated.", "provider", "kind"
        )
        self._sums: dict[tuple[str, str, str], list[int]] = {}
        self._arrived = trio.Event()

    def add(self, user_id: str, model: str, usage: Usage) -> None:
        """Count one answer."""
        sums = self._sums.setdefault((user_id, utc_now()[:10], model), [0, 0, 0, 0])
        for n, value in enumerate((1, usage.prompt_tokens, usage.completion_tokens, int(usage.estimated))):
            sums[n] += value
        self._arrived.set()
        # Not by model: a client can name any, and every one would stay.
        provider = model.partition("/")[0]
        self._answers.labels(provider).inc()
        self._tokens.labels(provider, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(provider, "completion").inc(usage.completion_tokens)

    async def run(self) -> None:
        """Write what arrives, until cancelled; then the rest, within a bound."""
        try:
            while True:
                await self._arrived.wait()
                await self._flush()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_TIMEOUT):
                await self._flush()

    async def _flush(self) -> None:
        sums, self._sums, self._arrived = self._sums, {}, trio.Event()
        if not sums:
            return
        try:
            await self._store.add_usage((*key, *values) for key, values in sums.items())  # type: ignore[misc]
        except UaitError as error:
            # A full disk must not stop answers; what was counted is in the log.
            self._log.error("%d usage records could not be stored: %s: %s", len(sums), error, sums)
