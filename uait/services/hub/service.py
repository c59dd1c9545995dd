"""The WebSocket hub: rooms, presence, broadcast and what was said of late.

Rooms are public squares: everybody who may use this host can enter any room, sees the user ids of those who are in it, and reads what is said and was said
there. What is for one user alone does not belong here.
"""

from __future__ import annotations

import attrs
import orjson
import trio
from attrs import validators
from quart import websocket

from uait.errors import NotFound
from uait.kernel.service import Context, service
from uait.server.asgi import ASGIApp
from uait.services.hub.connection import Client, serve_client
from uait.services.hub.model import (
    Broadcast,
    BroadcastRequest,
    ClientInfo,
    ClientList,
    History,
    HubSettings,
    Message,
    MessageType,
    RoomInfo,
    RoomList,
    Stats,
)
from uait.services.hub.rooms import Rooms
from uait.web import body, query, user_id


@attrs.frozen
class HistoryQuery:
    limit: int = attrs.field(default=50, validator=[validators.ge(1), validators.le(1000)])


@service(
    name="hub",
    title="websocket-hub",
    summary="WebSocket rooms with presence, broadcast and history",
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
async def hub(ctx: Context) -> ASGIApp:
    settings: HubSettings = ctx.settings
    rooms = Rooms(
        settings,
        lambda name: ctx.feed(f"room {name}", max_events=settings.history, max_bytes=settings.history_bytes),
    )
    ctx.add_health_fact("clients", lambda: len(rooms.clients))
    ctx.add_health_fact("rooms", lambda: len(rooms.rooms()))
    app = ctx.app()

    @app.websocket("/ws")
    async def connect() -> None:
        client = Client(user_id(), settings)
        await serve_client(
            rooms, client, settings, receive=websocket.receive, send=websocket.send, close=websocket.close
        )

    @app.post("/broadcast")
    async def broadcast() -> Broadcast:
        """Send a message to everybody, or to everybody in a room."""
        said = await body(BroadcastRequest)
        message = Message(
            type=MessageType(said.type), user_id=user_id(), room=said.room, content=said.content, data=said.data
        )
        return Broadcast(id=message.id, recipients=rooms.publish(message))

    @app.get("/rooms")
    async def list_rooms() -> RoomList:
        """The rooms that have members, and `general`."""
        found = [
            RoomInfo(name=room.name, clients=len(room.members), messages=room.messages, created_at=room.created_at)
            for room in rooms.rooms()
        ]
        return RoomList(rooms=found, total=len(found))

    @app.get("/rooms/<path:name>/messages")
    async def list_messages(name: str) -> History:
        """What was said in a room of late, as far as it is kept."""
        room = rooms.room(name)
        if room is None:
            raise NotFound("There is no such room, and nothing is kept of it.")
        kept = room.history.last(query(HistoryQuery).limit)
        return History(
            room=name,
            messages=[orjson.loads(event.data) for event in kept],
            offset=room.history.offset,
            epoch=room.history.epoch,
        )

    @app.get("/clients")
    async def list_clients() -> ClientList:
        """Who is connected, and in which rooms."""
        found = [
            ClientInfo(
                client_id=client.client_id,
                user_id=client.user_id,
                rooms=rooms.rooms_of(client),
                connected_at=client.connected_at,
                queued=client.queued,
            )
            for client in rooms.clients
        ]
        return ClientList(clients=found, total=len(found))

    @app.get("/stats")
    async def stats() -> Stats:
        """The hub in numbers."""
        clients = rooms.clients
        return Stats(
            clients=len(clients),
            users=len({client.user_id for client in clients}),
            rooms=len(rooms.rooms()),
            queued=sum(client.queued for client in clients),
            messages=rooms.messages,
            deliveries=rooms.deliveries,
            slow=rooms.slow,
            uptime_seconds=round(trio.current_time() - ctx.started, 3),
        )

    return app
