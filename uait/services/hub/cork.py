"""What is said to many is held back for a moment where it does not come alone, so that several messages reach each member in one write: the write is what a delivery costs.

As with Nagle's algorithm (RFC 896) the first one goes out at once. While it does, what follows gathers; that goes out together when the loop has turned twice without anything new, and so on until
nothing has followed. So a message that comes alone is never held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

MANY = 32
"""Members from which on holding back costs less than the writes that it saves."""

ENOUGH = 16 * 1024
"""Bytes for each member that are not worth waiting for more."""

LONGEST = 0.002
"""Seconds that a message is held back at most, as far as the loop turns in time."""

_QUIET = 2
"""Turns of the loop without anything new: what one client has sent comes through its tasks one message a turn."""

_FOLLOWS = 4
"""Turns after which what came in while others were written to has been said: it is seen, read, taken and said in one turn each."""


class Many(Protocol):
    """Those to whom something is said."""

    def give(self, messages: Sequence[bytes]) -> None:
        """Send them all of it, in order."""
        ...


class One(Protocol):
    """Somebody to whom something is said alone, after what has been said to all."""

    def push(self, encoded: bytes) -> None: ...


class Cork:
    """Keeps the order of what is said in each place. Whoever changes who is there, or says something to somebody alone, flushes first."""

    def __init__(self) -> None:
        self._held: dict[Many, list[bytes]] = {}
        self._after: list[tuple[One, bytes]] = []
        self._size = 0
        self._said = 0
        self._due = 0.0
        self._alone = True  # nothing was said of late
        self._wakeup = trio.Event()

    def hold(self, many: Many, encoded: bytes) -> None:
        """Have `many` given an encoded message: at once where nothing was said just before, else together with what else is said to them in this moment."""
        self._said += 1
        if self._alone:
            self._alone = False
            self._wakeup.set()
            many.give((encoded,))
            return
        if not self._held:
            self._due = trio.current_time() + LONGEST
        self._held.setdefault(many, []).append(encoded)
        self._size += len(encoded)
        if self._size >= ENOUGH:
            self.flush()

    def tell_after(self, one: One, encoded: bytes) -> None:
        """Tell `one` something when what is held now is on its way."""
        if self._held:
            self._after.append((one, encoded))
        else:
            one.push(encoded)

    def flush(self) -> None:
        """Send what is held."""
        if not self._held:
            return
        held, self._held = self._held, {}
        after, self._after = self._after, []
        self._size = 0
        for many, messages in held.items():
            many.give(messages)
        for one, encoded in after:
            one.push(encoded)

    async def run(self) -> None:
        """Flush when the moment is over, until cancelled."""
        while True:
            await self._wakeup.wait()
            await self._pass()
            self._wakeup = trio.Event()
            self._alone = True

    async def _pass(self) -> None:
        """Until nothing follows."""
        quiet = 0
        while quiet < (_QUIET if self._held else _FOLLOWS):
            said = self._said
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if self._said == said else 0
            if self._held and (quiet == _QUIET or trio.current_time() >= self._due):
                self.flush()
                quiet = 0
