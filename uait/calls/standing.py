"""Answers that stand: who asked need not ask again until whoever answered takes the answer back. Within one process only; over HTTP nobody could be told."""

from __future__ import annotations

from typing import Protocol

SCOPE_KEY = "uait.vouch"
"""Where an in-process call puts its `Vouched` in the ASGI scope. What comes over a socket has none."""


class Standing:
    """An answer that holds, until whoever gave it sets `holds` to False. Before what contradicts it is acknowledged, that is done."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds = True


class Vouched(Protocol):
    """A call that can be told that its answer stands."""

    standing: Standing | None
