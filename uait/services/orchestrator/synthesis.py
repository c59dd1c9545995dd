"""One readable answer from many. Pure; it says what came back and what did not, and invents nothing."""

from __future__ import annotations

from collections.abc import Collection

from uait.services.orchestrator.adapters import adapter
from uait.services.orchestrator.model import Outcome, Status

_MISSING = {Status.FAILED: "failed", Status.TIMED_OUT: "timed out", Status.SKIPPED: "skipped"}


def synthesise(outcomes: Collection[Outcome]) -> str:
    """The text of `data.synthesis`: alone, an answer stands for itself; several are named, and so is who did not answer. Empty where nobody did."""
    told = [(outcome.name, _tell(outcome)) for outcome in outcomes if outcome.came_back]
    if not told:
        return ""
    lines = [told[0][1]] if len(outcomes) == 1 else [f"{name}: {text}" for name, text in told]
    missing = [f"{outcome.name} ({_MISSING[outcome.status]})" for outcome in outcomes if not outcome.came_back]
    if missing:
        lines.append(f"Without an answer: {', '.join(missing)}.")
    return "\n".join(lines)


def _tell(outcome: Outcome) -> str:
    if outcome.status is Status.DESCRIBED:
        about = outcome.result.get("description") if isinstance(outcome.result, dict) else None
        return str(about or outcome.error)
    try:
        return adapter(outcome.name).tell(outcome.result)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Another service may stand in under this name, with answers of its own.
        return "It answered."
