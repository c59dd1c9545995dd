"""When to start a crashed service again: backoff and intensity, pure, with the time handed in."""

from __future__ import annotations

from collections import deque
from random import Random

import attrs
from attrs import validators


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """How a service is started again after a crash.

    The delay before the n-th restart in a row is `min(cap, base * 2**n)`, jittered by a factor of 0.5 to 1.5. More than `intensity` crashes within
    `window` seconds (Erlang's restart intensity) are too many: the service has failed.

    Attributes:
        base: seconds before the first restart.
        cap: the longest delay in seconds, before jitter.
        intensity: crashes allowed within the window; 0 means never restart.
        window: seconds.
        stable_after: seconds of being ready after which the row of crashes counts as over.
    """

    base: float = attrs.field(default=0.1, validator=validators.gt(0))
    cap: float = attrs.field(default=30.0, validator=validators.gt(0))
    intensity: int = attrs.field(default=5, validator=validators.ge(0))
    window: float = attrs.field(default=60.0, validator=validators.gt(0))
    stable_after: float = attrs.field(default=10.0, validator=validators.ge(0))


@attrs.define
class RestartTracker:
    """One service's crashes so far, judged by its policy. Times are seconds on any one steady clock."""

    policy: RestartPolicy
    random: Random = attrs.field(factory=Random)
    _row: int = 0
    _crashes: deque[float] = attrs.field(factory=deque)

    def crashed(self, now: float, *, ready_for: float) -> float | None:
        """Take note of a crash.

        Args:
            now: when it happened.
            ready_for: how long the incarnation had been ready; 0 where it never was.

        Returns:
            Seconds to wait before the next start, or None where the service has failed for good.
        """
        if ready_for >= self.policy.stable_after:
            self._row = 0
        self._crashes.append(now)
        while self._crashes and self._crashes[0] <= now - self.policy.window:
            self._crashes.popleft()
        if len(self._crashes) > self.policy.intensity:
            return None
        delay = min(self.policy.cap, self.policy.base * 2.0 ** min(self._row, 60))
        self._row += 1
        return delay * self.random.uniform(0.5, 1.5)
