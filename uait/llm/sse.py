"""Server-sent events, read from bytes that are cut anywhere.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Lines are split as bytes: `str.splitlines` would also
split inside a JSON string, at U+2028 and others.
"""

from __future__ import annotations

import attrs

MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLarge(Exception):
    """One event is over the limit. The parser keeps nothing of it and must not be fed again."""


# Not frozen: a frozen class costs three times as much to make, and one is made for every token.
@attrs.define
class ServerSentEvent:
    """One event, not to be changed. `data` is what its data lines hold, joined by newlines; UTF-8, not decoded."""

    data: bytes
    event: str = ""
    id: str = ""


class SSEParser:
    """Feed it what arrives; it returns the events that are complete.

    Args:
        max_event_bytes: how much of an event may be waiting for its end.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes, however they are cut.

        Raises:
            EventTooLarge: what waits for its end is over the limit.
        """
        if not data:
            return []
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            self._after_cr = False
            if not data:
                return []
        self._after_cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer
        buffer += data
        if self._at_start:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                return []
            if buffer[:3] == b"\xef\xbb\xbf":
                del buffer[:3]
            self._at_start = False

        events: list[ServerSentEvent] = []
        start = 0
        # The last byte may be the first newline of a blank line whose second is still to come, hence the step back.
        end = buffer.find(b"\n\n", max(0, self._scanned - 1))
        while end >= 0:
            event = _parse(bytes(buffer[start:end]))
            if event is not None:
                events.append(event)
            start = end + 2
            end = buffer.find(b"\n\n", start)
        if start:
            del buffer[:start]
        self._scanned = len(buffer)
        if len(buffer) > self._max:
            buffer.clear()
            raise EventTooLarge(f"an event is larger than {self._max} bytes")
        return events

    def end(self) -> list[ServerSentEvent]:
        """What came after the last complete event. The standard says to throw it away; some servers leave out the last blank line, and some put their error there, not even as an event."""
        rest = bytes(self._buffer).strip()
        return [ServerSentEvent(rest)] if rest[:1] in (b"{", b"[") else self.feed(b"\n\n")


def _parse(block: bytes) -> ServerSentEvent | None:
    if block[:6] == b"data: " and b"\n" not in block:
        return ServerSentEvent(block[6:])
    data: list[bytes] = []
    event = event_id = b""
    for line in block.split(b"\n"):
        field, colon, value = line.partition(b":")
        if not field:
            continue
        if colon and value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value
        elif field == b"id":
            event_id = value
    if not data:
        return None
    return ServerSentEvent(b"\n".join(data), event.decode("utf-8", "replace"), event_id.decode("utf-8", "replace"))
