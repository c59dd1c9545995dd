"""How providers, their keys and their models are doing: what routing decides by. No I/O; time is trio's clock."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence

import attrs
import trio

from uait.calls.resilience import BreakerState, CircuitBreaker, RetryBudget
from uait.errors import APIError
from uait.llm.provider import Provider
from uait.llm.routing.policy import RoutingSettings

DECAY = 10.0
"""Seconds in which the moving average forgets about two thirds of what it knew (Finagle's peak EWMA)."""

SAMPLES = 128
"""Times to the first token that the percentile is taken from."""

ENOUGH = 20
"""Of them, before it means anything."""

UNKNOWN = 1e6
"""Seconds that a model is taken to need that works on its first question: until that is answered nobody else is sent there."""

MODELS = 2000
"""Models that are remembered: a client can name any, and every one would stay."""


@attrs.define(eq=False)
class Key:
    """A provider under one of its API keys.

    Attributes:
        cool_at: when it may be used again, on trio's clock.
        refusal: why not before.
    """

    provider: Provider
    under_way: int = 0
    cool_at: float = -math.inf
    refusal: APIError | None = None


class PeakEWMA:
    """A moving average that jumps to every peak at once and comes down slowly."""

    __slots__ = ("_seen", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._seen = 0.0

    @property
    def value(self) -> float | None:
        """Seconds; None before anything was seen."""
        return self._value

    def observe(self, seconds: float) -> None:
        now = trio.current_time()
        if self._value is None or seconds >= self._value:
            self._value = seconds
        else:
            keep = math.exp(-(now - self._seen) / DECAY)
            self._value = self._value * keep + seconds * (1 - keep)
        self._seen = now


class ModelHealth:
    """One model of one provider.

    Attributes:
        under_way: questions that it is working on.
        latency: seconds to its first token.
    """

    __slots__ = ("_firsts", "address", "latency", "under_way")

    def __init__(self, address: str) -> None:
        self.address = address
        self.under_way = 0
        self.latency = PeakEWMA()
        self._firsts: deque[float] = deque(maxlen=SAMPLES)

    def observe(self, seconds: float) -> None:
        """Its first token took so long."""
        self.latency.observe(seconds)
        self._firsts.append(seconds)

    @property
    def p95(self) -> float | None:
        """Seconds within which 95 of 100 first tokens came; None before enough were seen."""
        if len(self._firsts) < ENOUGH:
            return None
        return sorted(self._firsts)[math.ceil(len(self._firsts) * 0.95) - 1]

    @property
    def load(self) -> float:
        """What it would cost to ask it now: its latency for each question that it would then work on. One that was never asked is tried, by one at a time."""
        seen = self.latency.value
        return self.under_way * UNKNOWN if seen is None else seen * (self.under_way + 1)


class ProviderHealth:
    """One provider: its keys, its breaker, and the budget for asking it again."""

    def __init__(self, name: str, keys: Sequence[Provider], settings: RoutingSettings) -> None:
        self.name = name
        self.keys = [Key(provider) for provider in keys]
        self.breaker = CircuitBreaker(
            failures=settings.breaker_failures, pause=settings.breaker_pause, longest=settings.breaker_longest
        )
        self.budget = RetryBudget(ratio=settings.retry_ratio)

    def key(self) -> Key | None:
        """The least busy of the keys that may be used now."""
        now = trio.current_time()
        warm = [key for key in self.keys if key.cool_at <= now]
        return min(warm, key=lambda key: key.under_way, default=None)

    def cool(self, key: Key, seconds: float, error: APIError) -> None:
        """Leave a key alone for so long, because of `error`."""
        key.cool_at = max(key.cool_at, trio.current_time() + seconds)
        key.refusal = error

    @property
    def refusal(self) -> APIError | None:
        """Why none of its keys may be used now; None where one may."""
        return None if self.key() is not None else self.keys[0].refusal

    @property
    def cooling(self) -> int:
        """How many of its keys are left alone now."""
        now = trio.current_time()
        return sum(key.cool_at > now for key in self.keys)

    @property
    def ready_in(self) -> float:
        """Seconds until it can be asked, as far as is known."""
        now = trio.current_time()
        return max(0.0, min(key.cool_at for key in self.keys) - now, self.breaker.retry_after)

    @property
    def closed_to(self) -> str | None:
        """Why it would not be asked now; None where it would be."""
        if self.key() is None:
            keys = "its key is" if len(self.keys) == 1 else f"all of its {len(self.keys)} keys are"
            return f"{keys} left alone for {self.ready_in:.1f} s after a refusal"
        if self.breaker.state is BreakerState.OPEN:
            return f"it failed {self.breaker.failures} times in a row and is left alone for {self.breaker.retry_after:.1f} s"
        return None


class Call:
    """One attempt as breaker and counters see it: opened by `Call.admit`, ended once by one of the others.

    Args:
        trial: it is the call that a half-open breaker lets through.
    """

    __slots__ = ("_ended", "key", "model", "provider", "trial")

    def __init__(self, provider: ProviderHealth, key: Key, model: ModelHealth, *, trial: bool) -> None:
        self.provider = provider
        self.key = key
        self.model = model
        self.trial = trial
        self._ended = False
        key.under_way += 1
        model.under_way += 1

    @classmethod
    def admit(cls, provider: ProviderHealth, model: ModelHealth) -> Call | None:
        """Begin one; None where the provider is left alone now."""
        key = provider.key()
        if key is None:
            return None
        trial = provider.breaker.state is not BreakerState.CLOSED
        return cls(provider, key, model, trial=trial) if provider.breaker.acquire() else None

    def begun(self, seconds: float) -> None:
        """Its first token came after so long. A trial has succeeded with that: others need not wait for its end."""
        self.model.observe(seconds)
        if self.trial:
            self._success()
            self.trial = False

    def succeeded(self) -> None:
        """The answer is complete, or the failure was not the provider's fault."""
        if self._end():
            self._success()

    def failed(self) -> None:
        """The provider failed."""
        if self._end() and self._counts:
            self.provider.breaker.failure()

    def abandoned(self) -> None:
        """It was cancelled, which says nothing about the provider."""
        if self._end() and self.trial:
            self.provider.breaker.abandon()

    def _success(self) -> None:
        if self._counts:
            self.provider.breaker.success()

    @property
    def _counts(self) -> bool:
        """What was begun before the breaker opened says nothing about now, and must not end another call's trial."""
        return self.trial or self.provider.breaker.state is BreakerState.CLOSED

    def _end(self) -> bool:
        if self._ended:
            return False
        self._ended = True
        self.key.under_way -= 1
        self.model.under_way -= 1
        return True


class Health:
    """All that is known."""

    def __init__(self, settings: RoutingSettings) -> None:
        self._settings = settings
        self._providers: dict[str, ProviderHealth] = {}
        self._models: OrderedDict[str, ModelHealth] = OrderedDict()

    def provider(self, name: str, keys: Sequence[Provider]) -> ProviderHealth:
        """A provider's health. `keys` is the provider under each of its keys."""
        found = self._providers.get(name)
        if found is None:
            found = self._providers[name] = ProviderHealth(name, keys, self._settings)
        return found

    def model(self, address: str) -> ModelHealth:
        """A model's health, by `provider/model`."""
        found = self._models.get(address)
        if found is None:
            found = self._models[address] = ModelHealth(address)
            while len(self._models) > MODELS:
                self._models.popitem(last=False)
        else:
            self._models.move_to_end(address)
        return found
