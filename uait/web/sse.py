"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeAlias

import attrs
import trio
from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse

from uait.web.codec import to_json
from uait.web.exchange import Exchange, Farewell, current_exchange

_LINE_END = re.compile(rb"\r\n|\r|\n")
KEEP_ALIVE = b": keep-alive\n\n"


@attrs.frozen
class Event:
    """One event. Text and bytes go as they are (over several `data:` lines where they have several), anything else as JSON."""

    data: Any
    id: str | None = None
    event: str | None = None


def encode(event: Event) -> bytes:
    """`event` on the wire. Line ends inside `id` and `event`, which would forge fields, are left out, as is an id with a NUL, which clients ignore."""
    parts = []
    if event.id is not None and "\0" not in event.id:
        parts.append(b"id: " + _one_line(event.id) + b"\n")
    if event.event is not None:
        parts.append(b"event: " + _one_line(event.event) + b"\n")
    data = event.data
    raw = (
        data.encode()
        if isinstance(data, str)
        else bytes(data)
        if isinstance(data, (bytes, bytearray))
        else to_json(data)
    )
    if b"\n" in raw or b"\r" in raw:
        parts.extend(b"data: " + line + b"\n" for line in _LINE_END.split(raw))
    else:
        parts.append(b"data: " + raw + b"\n")
    parts.append(b"\n")
    return b"".join(parts)


def _one_line(text: str) -> bytes:
    return _LINE_END.sub(b"", text.encode())


Producer: TypeAlias = Callable[[Callable[[Event | bytes], Awaitable[None]]], Awaitable[None]]
"""Is given `send`, and sends every event with it: for work that needs a nursery, which no generator may hold open across a yield."""


def event_stream(
    events: AsyncIterable[Event | bytes] | Producer,
    *,
    endless: bool = False,
    ping: float = 15.0,
    headers: Mapping[str, str] | None = None,
    farewell: Farewell | None = None,
    last_events: tuple[bytes, ...] = (),
) -> TrioResponse:
    """Answer with server-sent events.

    `events` is iterated, or called, in the request's task, which is cancelled, and the iterator closed in it, when the client leaves, the deadline passes or the service stops. An error, the deadline or
    the stop then becomes a last event. A client that does not read holds the iterator up: nothing is queued.

    Args:
        events: what to send, as it comes. Bytes are whole events ready for the wire. Its iterator's `aclose`, where it has one, is called in every case. Or a function that is given `send`.
        endless: there is no last event, so the stream ends as soon as the service drains; it has no deadline but the caller's own.
        ping: seconds of silence after which a comment is sent, so that proxies keep the connection.
        headers: further ones.
        farewell: gives the last bytes from the error, where a dialect has its own way; else an event named `error` with our error body.
        last_events: what an event begins with after which there are no last words, for everything was said.
    """
    exchange = current_exchange()
    exchange.farewell, exchange.last_events = farewell, last_events
    if endless:
        exchange.never_ends()
    response = TrioResponse(_Stream(events, ping, exchange), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    response.headers.update(headers or {})
    response.timeout = None
    return response


class _Stream(ResponseBody):
    """An event stream's body. It sends by itself instead of handing pieces over, so that an event costs no change of tasks.

    The nursery, whose one task fills silences, is opened and left in the task that sends, by `async with`, never across a generator's yield.
    """

    def __init__(self, events: AsyncIterable[Event | bytes] | Producer, ping: float, exchange: Exchange) -> None:
        self._events = events
        self._ping = ping
        self._exchange = exchange
        self._lock = trio.Lock()
        self._last = trio.current_time()
        self._silence = trio.CancelScope()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> _Stream:
        self._nursery = await self._stack.enter_async_context(trio.open_nursery())
        self._stack.callback(self._nursery.cancel_scope.cancel, reason="the event stream is over")
        if isinstance(self._events, AsyncIterable):
            self._iterator = self._events.__aiter__()
            close = getattr(self._iterator, "aclose", None)
            if close is not None:
                self._stack.push_async_callback(close)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        tb: TracebackType | None = None,
    ) -> None:
        await self._stack.__aexit__(exc_type, exc_value, tb)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Send everything. The head is out by now."""
        self._last = trio.current_time()
        self._nursery.start_soon(self._fill_silence)
        if isinstance(self._events, AsyncIterable):
            async for event in self._iterator:
                await self._send(event)
        else:
            await self._events(self._send)
        # A comment on its way goes out whole: half of one would spoil the end of the answer, which comes next.
        async with self._lock:
            self._silence.cancel(reason="the last event is out")
        raise StopAsyncIteration

    async def _send(self, event: Event | bytes) -> None:
        data = event if isinstance(event, bytes) else encode(event)
        # A server may take a message without a checkpoint.
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()
        try:
            await self._exchange.send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            self._last = trio.current_time()
            self._lock.release()

    async def _fill_silence(self) -> None:
        with self._silence:
            while True:
                await trio.sleep_until(self._last + self._ping)
                if self._lock.locked():
                    # The client does not read: there is no silence, and nothing to add to it.
                    self._last = trio.current_time()
                elif trio.current_time() >= self._last + self._ping:
                    await self._send(KEEP_ALIVE)
