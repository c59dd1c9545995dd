"""What a client has sent and its app has not taken yet, bounded by number and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from uait.server import timing
from uait.server.asgi import Message


class ClientLeft(Exception):
    """The client has ended the connection, behind data that nobody takes in."""


class Inbox:
    """Messages for the app, bounded by their number and their bytes. Pieces of a body that wait are joined, so that a million tiny ones are no more than their bytes.

    Args:
        has_left: whether the client has ended the connection. Asked while there is no room, when reading would not tell.
        first: a message that is there from the start, and counts for nothing.

    Attributes:
        crowded: somebody waits for room, and does not read meanwhile.
    """

    def __init__(
        self, *, max_bytes: int, max_messages: int, has_left: Callable[[], bool], first: Message | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._has_left = has_left
        self._messages: deque[Message] = deque([first] if first is not None else ())
        self._bytes = 0
        self._end: Message | None = None
        self._closed = False
        self.crowded = False
        self._changed = trio.lowlevel.ParkingLot()

    async def put(self, message: Message) -> None:
        """Add `message`, waiting while there is no room. A disconnect always has room, and is the last one.

        Raises:
            ClientLeft: it left while there was no room.
        """
        if message["type"].endswith(".disconnect"):
            self.end(message)
            return
        size = len(message.get("body") or message.get("bytes") or message.get("text") or "")
        while self._messages and (self._bytes + size > self._max_bytes or len(self._messages) >= self._max_messages):
            if self._closed or self._end:
                break
            self.crowded = True
            with trio.move_on_after(timing.SHORTLY):
                await self._changed.park()
                continue
            if self._has_left():
                raise ClientLeft
        self.crowded = False
        if self._closed or self._end:
            return
        last = self._messages[-1] if self._messages else None
        if last is not None and last["type"] == "http.request" == message["type"]:
            if not isinstance(last["body"], bytearray):
                last["body"] = bytearray(last["body"])
            last["body"] += message["body"]
            last["more_body"] = message["more_body"]
        else:
            self._messages.append(message)
        self._bytes += size
        self._changed.unpark_all()

    async def get(self) -> Message:
        """The next message; the disconnect, again and again, when there is nothing before it."""
        await trio.lowlevel.checkpoint()
        while not self._messages:
            if self._end is not None:
                return dict(self._end)
            await self._changed.park()
        message = self._messages.popleft()
        self._bytes -= len(message.get("body") or message.get("bytes") or message.get("text") or "")
        self._changed.unpark_all()
        return message

    def end(self, message: Message) -> None:
        """Let `message`, a disconnect, come after what waits. The first one counts."""
        if self._end is None:
            self._end = message
            self._changed.unpark_all()

    def clear(self) -> None:
        """Forget what waits."""
        self._messages.clear()
        self._bytes = 0
        self._changed.unpark_all()

    def close(self) -> None:
        """Forget what waits, and what will still come: the app has ended."""
        self._closed = True
        self.clear()
