"""What a failure means for the next attempt: the one table of it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from uait.errors import APIError
from uait.llm import upstream

KEY_PAUSE = 1.0
"""Seconds that a key is left alone after a 429 that says nothing about how long."""

DEAD_KEY_PAUSE = 60.0
"""Seconds that a key is left alone which the provider refuses, or whose account is empty: only people can change that."""


@attrs.frozen
class Verdict:
    """What follows from a failure.

    Attributes:
        again: the same model may answer, if it is asked once more after a while.
        elsewhere: another model may answer.
        unhealthy: it speaks against the provider, not only against this question or key.
        cools: seconds that the key is left alone where the provider does not say how long; None where it is not the key's fault.
        stale: the list of models is not what it was.
        longer: the question is too long for this model; one that reads no more need not be asked.
    """

    again: bool = False
    elsewhere: bool = True
    unhealthy: bool = False
    cools: float | None = None
    stale: bool = False
    longer: bool = False


THE_QUESTION = Verdict(elsewhere=False)
"""The question itself is wrong, and will be everywhere."""

THE_MOMENT = Verdict(again=True, unhealthy=True)
"""It failed, and may not the next time."""

TOO_SLOW = Verdict(unhealthy=True)
"""It used up its time: it does not get the same time once more."""

HOPELESS = Verdict()
"""It fails every time, and others need not. It stays in its turn, for its error says more than that it is left alone."""

VERDICTS: Mapping[str, Verdict] = {
    "UNSUPPORTED_BY_PROVIDER": Verdict(),
    "PAYLOAD_TOO_LARGE": Verdict(),
    upstream.NEVER: HOPELESS,
    "CONTEXT_LENGTH_EXCEEDED": Verdict(longer=True),
    "MODEL_NOT_FOUND": Verdict(stale=True),
    "RATE_LIMITED": Verdict(again=True, cools=KEY_PAUSE),
    "INSUFFICIENT_QUOTA": Verdict(again=True, cools=DEAD_KEY_PAUSE),
    "PROVIDER_REFUSED_KEY": Verdict(again=True, cools=DEAD_KEY_PAUSE),
    "PROVIDER_OVERLOADED": THE_MOMENT,
    "PROVIDER_UNREACHABLE": THE_MOMENT,
    "UPSTREAM_ERROR": THE_MOMENT,
    "UNAVAILABLE": THE_MOMENT,
    "UPSTREAM_TIMEOUT": TOO_SLOW,
}
"""By the error's code. A key that cools is not tried again before its time, so `again` there means: with another key, or later."""


def judge(error: APIError) -> Verdict:
    """What follows from `error`."""
    verdict = VERDICTS.get(error.error_code)
    if verdict is not None:
        if verdict is TOO_SLOW and isinstance(error.details, dict) and "status" in error.details:
            return THE_MOMENT  # the provider itself said 408 or 504: its own upstream was slow, which passes
        return verdict
    return THE_QUESTION if error.http_status < 500 else THE_MOMENT


def asked_to_wait(error: APIError) -> float | None:
    """Seconds that the provider itself asks to be left alone."""
    answered = isinstance(error.details, dict) and "status" in error.details
    return getattr(error, "retry_after", None) if answered else None
