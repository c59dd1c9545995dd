"""JSON texts on lines of their own, read from bytes that are cut anywhere."""

from __future__ import annotations

from uait.llm.sse import MAX_EVENT_BYTES, EventTooLarge, ServerSentEvent


class LineParser:
    """Feed it what arrives; it returns the lines that are complete, as events that are nothing but data.

    Args:
        max_line_bytes: how much of a line may be waiting for its end.
    """

    def __init__(self, *, max_line_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_line_bytes
        self._waiting: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes, however they are cut.

        Raises:
            EventTooLarge: what waits for its end is over the limit.
        """
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._waiting, lines[0]])
            self._waiting, self._size = [], 0
        self._waiting.append(rest)
        self._size += len(rest)
        if self._size > self._max:
            self._waiting.clear()
            raise EventTooLarge(f"a line is longer than {self._max} bytes")
        return [ServerSentEvent(text) for line in lines if (text := line.strip())]

    def end(self) -> list[ServerSentEvent]:
        """A last line without its end."""
        return self.feed(b"\n")
