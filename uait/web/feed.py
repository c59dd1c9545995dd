"""A feed as server-sent events or over a WebSocket: the same cursor, as the events' ids or in each message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from uait.errors import Unavailable
from uait.feeds import Feed, FeedEvent, Position, SlowPolicy, SlowReader
from uait.web.codec import to_json
from uait.web.sse import Event


async def send_feed(
    feed: Feed,
    send: Callable[[Event | bytes], Awaitable[None]],
    *,
    since: Position | None = None,
    encode: Callable[[FeedEvent], Any] = lambda event: event.data,
    policy: SlowPolicy = "disconnect",
    queue: int = 64,
    max_bytes: int | None = None,
) -> None:
    """Send what is in a feed after a position, then what is appended, until the feed is closed. For `event_stream`, which gives `send`.

    The first event is named `position`. Its data is `{"offset", "epoch", "recovered"}`, and its id, too, is where to go on, so that a client which has had nothing else yet can come back. `recovered`
    is false where something since the position asked for is gone, or none was asked for; then nothing is replayed.

    Args:
        since: from the client's `Last-Event-ID`, see `Position.parse`. None: what comes from now on.
        encode: gives an event's data.
        policy, queue, max_bytes: see `Feed.read`. What the client has not taken waits in the reader.

    Raises:
        Unavailable: the client is too slow; the stream's last event tells it to come back.
    """

    async def begin(start: Position, recovered: bool) -> None:
        await send(Event(_opening(start, recovered), id=str(start), event="position"))

    async def each(event: FeedEvent) -> None:
        await send(Event(encode(event), id=str(Position(event.offset, feed.epoch))))

    await _follow(feed, begin, each, since=since, policy=policy, queue=queue, max_bytes=max_bytes)


async def send_feed_messages(
    feed: Feed,
    send: Callable[[str], Awaitable[None]],
    *,
    since: Position | None = None,
    encode: Callable[[FeedEvent], Any] = lambda event: event.data,
    policy: SlowPolicy = "disconnect",
    queue: int = 64,
    max_bytes: int | None = None,
) -> None:
    """The same over a WebSocket, in JSON messages: `{"position": {"offset", "epoch", "recovered"}}` first, then `{"offset", "data"}`, with `missed` where some before it were left out.

    Args:
        send: sends one text message, as `quart.websocket.send` does.
        since: where the client says it was. For the rest see `send_feed`.

    Raises:
        Unavailable: the client is too slow; close the WebSocket with a code that says so.
    """

    async def begin(start: Position, recovered: bool) -> None:
        await send(to_json({"position": _opening(start, recovered)}).decode())

    async def each(event: FeedEvent) -> None:
        message = {"offset": event.offset, "data": encode(event)}
        if event.missed:
            message["missed"] = event.missed
        await send(to_json(message).decode())

    await _follow(feed, begin, each, since=since, policy=policy, queue=queue, max_bytes=max_bytes)


def _opening(start: Position, recovered: bool) -> dict[str, Any]:
    return {"offset": start.offset, "epoch": start.epoch, "recovered": recovered}


async def _follow(
    feed: Feed,
    begin: Callable[[Position, bool], Awaitable[None]],
    each: Callable[[FeedEvent], Awaitable[None]],
    *,
    since: Position | None,
    policy: SlowPolicy,
    queue: int,
    max_bytes: int | None,
) -> None:
    with feed.read(
        None if since is None else since.offset,
        None if since is None else since.epoch,
        policy=policy,
        queue=queue,
        max_bytes=max_bytes,
    ) as reader:
        await begin(Position(reader.start, feed.epoch), reader.recovered and since is not None)
        try:
            async for event in reader:
                await each(event)
        except SlowReader:
            raise Unavailable("The client is too slow; come back with the last event's id.", code="SLOW") from None
