"""The WebSocket hub: rooms, presence, direct messages, and what was said of late, with a cursor to go on from.

A room that nobody has declared private is a public square: everybody who may use this host can enter it, sees the user ids of those who are in it, and reads what is said and was said there.
`uait.services.hub.protocol` has what clients send and get, `uait.services.hub.codes` the close codes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import orjson
import trio
from attrs import validators
from quart import Response, request, websocket
from werkzeug.routing import PathConverter

from uait.errors import APIError, Forbidden, InternalError, NotFound
from uait.feeds import FeedEvent, Position, open_journal
from uait.feeds.sqlite import SQLiteFeedStore
from uait.kernel.service import Context, service
from uait.server.asgi import ASGIApp
from uait.server.frames import SCOPE_KEY
from uait.services.hub.audience import NativeLine, QueuedLine
from uait.services.hub.connection import serve_client, token_of
from uait.services.hub.hub import Hub
from uait.services.hub.model import (
    Broadcast,
    BroadcastRequest,
    ClientInfo,
    ClientList,
    Disconnected,
    History,
    HubSettings,
    MemberInfo,
    MemberList,
    Receipt,
    RoomDeleted,
    RoomDetails,
    RoomInfo,
    RoomList,
    RoomMessage,
    RoomOptions,
    Stats,
)
from uait.services.hub.on_demand import open_on_demand
from uait.services.hub.protocol import Malformed, Message, MessageType, check_presence, check_room, with_offset
from uait.services.hub.room import Published, Room
from uait.services.hub.rooms import Rooms
from uait.services.hub.store import MIGRATIONS, RoomStore
from uait.web import body, describe, event_stream, identity, query, user_id
from uait.web.feed import send_feed

EPOCH = validators.optional(validators.max_len(64))


@attrs.frozen
class HistoryQuery:
    """`limit`: the newest so many. With `after` and `epoch`, a position: those after it, the oldest first, if they are all still kept."""

    limit: int = attrs.field(default=50, validator=[validators.ge(1), validators.le(1000)])
    after: int | None = attrs.field(default=None, validator=validators.optional(validators.ge(0)))
    epoch: str | None = attrs.field(default=None, validator=EPOCH)


@attrs.frozen
class EventsQuery:
    """`since`: the id of the last event that was got, where it cannot be sent as `Last-Event-ID`."""

    since: str | None = attrs.field(default=None, validator=validators.optional(validators.max_len(128)))


class RoomConverter(PathConverter):
    """`<room:name>` at the end of a route: a name that may have slashes, but does not end as the paths below a room do."""

    regex = "[^/].*?" + "".join(f"(?<!/{below})" for below in ("members", "messages", "events"))


@service(
    name="hub",
    title="websocket-hub",
    summary="WebSocket rooms with presence, history and recovery",
    port=8082,
    port_variable="WEBSOCKET_PORT",
    settings=HubSettings,
    intents=(
        "who is online",
        "connected clients and rooms",
        "send a notification",
        "broadcast a message to everybody",
        "WebSocket connections",
    ),
)
async def hub(ctx: Context) -> AsyncIterator[ASGIApp]:
    async with (
        open_on_demand(ctx.data_dir / f"{ctx.name}.sqlite3", partial(ctx.database, MIGRATIONS), ctx.log) as database,
        open_journal(SQLiteFeedStore(database)) as journal,
    ):
        made = Hub(ctx.settings, partial(Rooms, new_feed=ctx.feed, journal=journal, store=RoomStore(database)))
        await made.rooms.start()
        ctx.nursery.start_soon(made.ticker.run)
        ctx.nursery.start_soon(made.cork.run)
        ctx.nursery.start_soon(made.upkeep.run)
        # Before any connection is told: what the hub has to say to its clients comes before their end.
        ctx.drain.add(made.leave)
        ctx.add_health_fact("clients", lambda: len(made.rooms.clients))
        ctx.add_health_fact("rooms", lambda: len(made.rooms.rooms()))
        ctx.add_health_check("database", database.check)
        yield _app(ctx, made)


def _app(ctx: Context, hub: Hub) -> ASGIApp:
    app = ctx.app()
    app.url_map.converters["room"] = RoomConverter
    rooms, settings = hub.rooms, hub.settings

    def operator() -> bool:
        who = identity()
        return not who.authenticated or who.user_id in settings.operators

    @app.websocket("/ws")
    async def connect() -> None:
        await websocket.accept()
        scope: Any = websocket.scope
        outlet = scope.get(SCOPE_KEY)
        await serve_client(
            hub,
            user_id(),
            QueuedLine() if outlet is None else NativeLine(outlet, websocket.send),
            receive=websocket.receive,
            send=websocket.send,
            close=websocket.close,
            general=websocket.args.get("general", "").lower() not in ("false", "0", "no"),
        )

    @app.post("/broadcast")
    async def broadcast() -> Broadcast:
        """Send a message to everybody, or to everybody in a room."""
        said = await body(BroadcastRequest)
        check_presence(said.type, said.data)
        message = Message(
            type=MessageType(said.type), user_id=user_id(), room=said.room, content=said.content, data=said.data
        )
        if said.room is None:
            return Broadcast(id=message.id, recipients=rooms.broadcast(message))
        try:
            room = await rooms.find(said.room, message.user_id)
        except NotFound:
            return Broadcast(id=message.id, recipients=0)
        _check_may_publish(room, message.user_id)
        return Broadcast(id=message.id, recipients=(await _publish(room, message)).recipients)

    @app.get("/rooms")
    async def list_rooms() -> RoomList:
        """The rooms that have members, and `general`, as far as you may know of them."""
        found = [_info(room) for room in rooms.listed(user_id())]
        return RoomList(rooms=found, total=len(found))

    @app.get("/rooms/<room:name>")
    async def show_room(name: str) -> RoomDetails:
        """A room and its options."""
        return _details(await rooms.find(name, user_id()))

    @app.put("/rooms/<room:name>")
    async def declare_room(name: str) -> RoomDetails:
        """Declare a room: make it with these options, or give them to one of yours."""
        return _details(await rooms.declare(_room_name(name), user_id(), await body(RoomOptions), operator=operator()))

    @app.delete("/rooms/<room:name>")
    async def delete_room(name: str) -> RoomDeleted:
        """Take everybody out of a room and forget it. Answers when everything that was done for its members has ended."""
        return RoomDeleted(room=name, clients=await rooms.delete(name, user_id(), operator=operator()))

    @app.get("/rooms/<path:name>/members")
    async def list_members(name: str) -> MemberList:
        """Who is in a room."""
        room = await rooms.find(name, user_id())
        found = [MemberInfo(client_id=each.client_id, user_id=each.user_id) for each in room.members.values()]
        return MemberList(room=name, members=found, total=len(found))

    @app.get("/rooms/<path:name>/messages")
    async def list_messages(name: str) -> History:
        """What was said in a room of late, or after a position, as far as it is kept."""
        wanted = query(HistoryQuery)
        log = (await rooms.find(name, user_id())).log
        kept = log.last(wanted.limit) if wanted.after is None else log.since(wanted.after, wanted.epoch)
        return History(
            room=name,
            messages=[orjson.loads(with_offset(event.data, event.offset)) for event in (kept or [])[: wanted.limit]],
            offset=log.offset,
            epoch=log.epoch,
            recovered=kept is not None,
        )

    @app.post("/rooms/<path:name>/messages")
    async def publish(name: str) -> Receipt:
        """Say something in a room, without a WebSocket. Answers when it is stored, where the room is durable."""
        said = await body(RoomMessage)
        room = await rooms.obtain(_room_name(name), user_id())
        _check_may_publish(room, user_id())
        message = Message(
            type=MessageType(said.type), user_id=user_id(), room=name, content=said.content, data=said.data
        )
        token = None if said.id is None else token_of(user_id(), said.id)
        became = await _publish(room, message, key=said.key, token=token)
        return Receipt(
            id=message.id,
            room=name,
            offset=became.offset,
            epoch=room.log.epoch,
            recipients=became.recipients,
            duplicate=became.duplicate,
        )

    @app.get("/rooms/<path:name>/events")
    @describe(hidden=True)  # whoever tries out what /openapi.json says should not wait for an answer that never ends
    async def watch_room(name: str) -> Response:
        """What is said in a room, as server-sent events. The first one, `position`, tells whether everything since the `Last-Event-ID` follows."""
        since = Position.parse(request.headers.get("Last-Event-ID") or query(EventsQuery).since or "")
        me = user_id()
        room = await rooms.find(name, me)

        def encode(event: FeedEvent) -> bytes:
            if not room.options.lets_in(me, room.owner):  # since it was declared private
                raise NotFound("There is no such room, and nothing is kept of it.")
            return with_offset(event.data, event.offset, event.missed)

        async def events(send: object) -> None:
            with rooms.viewing(room):
                await send_feed(
                    room.log,
                    send,  # type: ignore[arg-type]
                    since=since,
                    encode=encode,
                    policy=room.options.slow,
                    queue=settings.queue,
                    max_bytes=settings.queue_bytes,
                )

        return event_stream(events, endless=True)

    @app.get("/clients")
    async def list_clients() -> ClientList:
        """Who is connected, and in which rooms, as far as you may know of them."""
        me, found = user_id(), []
        for client in rooms.clients:
            messages, size, _ = hub.queued(client)
            found.append(
                ClientInfo(
                    client_id=client.client_id,
                    user_id=client.user_id,
                    rooms=[name for name in rooms.rooms_of(client) if rooms.may_know(me, name)],
                    connected_at=client.connected_at,
                    queued=messages,
                    queued_bytes=size,
                )
            )
        return ClientList(clients=found, total=len(found))

    @app.delete("/clients/<id:client_id>")
    async def disconnect_client(client_id: str) -> Disconnected:
        """End a connection, with a code that tells the client not to come back."""
        client = rooms.client(client_id)
        if client is None or not (operator() or client.user_id == user_id()):
            raise NotFound("There is no such connection.")
        rooms.disconnect([client])
        return Disconnected(clients=1)

    @app.delete("/users/<id:name>")
    async def disconnect_user(name: str) -> Disconnected:
        """End all connections of a user, with a code that tells its clients not to come back."""
        if not (operator() or name == user_id()):
            raise Forbidden("Only an operator can disconnect others.")
        clients = rooms.clients_of(name)
        rooms.disconnect(clients)
        return Disconnected(clients=len(clients))

    @app.get("/stats")
    async def stats() -> Stats:
        """The hub in numbers."""
        traffic, queued = hub.traffic, [hub.queued(client) for client in rooms.clients]
        return Stats(
            clients=len(rooms.clients),
            users=len(rooms.users),
            rooms=len(rooms.rooms()),
            queued=sum(messages for messages, _, _ in queued),
            queued_bytes=sum(size for _, size, _ in queued),
            messages=traffic.published,
            messages_in=traffic.messages_in.total,
            messages_in_per_second=round(traffic.messages_in.rate(), 1),
            deliveries=traffic.deliveries.total,
            messages_out_per_second=round(traffic.deliveries.rate(), 1),
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            dropped=traffic.drops,
            slow=traffic.closed.get(3008, 0),
            closed={str(code): count for code, count in traffic.closed.items()},
            requests=len(hub.requests),
            slowest=hub.slowest(),
            uptime_seconds=round(trio.current_time() - ctx.started, 3),
        )

    return app


def _check_may_publish(room: Room, user_id: str) -> None:
    if not room.options.lets_publish(user_id, room.owner):
        raise Forbidden("You may read this room, not write to it.")


async def _publish(room: Room, message: Message, *, key: str | None = None, token: str | None = None) -> Published:
    """Publish and wait for what becomes of it."""
    answered = trio.Event()
    outcomes: list[Published | Exception] = []

    def done(outcome: Published | Exception) -> None:
        outcomes.append(outcome)
        answered.set()

    room.publish(message, done, key=key, token=token)
    await answered.wait()
    outcome = outcomes.pop()
    if isinstance(outcome, Published):
        return outcome
    raise outcome if isinstance(outcome, APIError) else InternalError() from outcome


def _room_name(name: str) -> str:
    try:
        return check_room(name)
    except Malformed as error:
        raise NotFound(error.text) from None


def _info(room: Room) -> RoomInfo:
    return RoomInfo(name=room.name, clients=len(room.members), messages=room.messages, created_at=room.created_at)


def _details(room: Room) -> RoomDetails:
    return RoomDetails(
        **attrs.asdict(_info(room)),
        owner=room.owner,
        options=room.options,
        offset=room.log.offset,
        epoch=room.log.epoch,
        oldest=room.log.oldest,
        viewers=room.viewers,
    )
