"""One client of the hub: what waits for it, and the scope that its membership lasts for."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from uait.services.hub.model import GENERAL, HubSettings, Join, Leave, Message, MessageType, Publish, Refused, parse
from uait.services.hub.rooms import Rooms
from uait.storage.ids import new_id, utc_now

SLOW = 3008
"""The close code for a client that does not read what it is sent. Codes from 3000 to 3499 mean: connect again."""

WELCOME = "Welcome to the WebSocket hub"

_CLOSE_TIMEOUT = 1.0


class Client:
    """One connection. Whoever has a message for it leaves it in a bounded queue and goes on; `write` sends from there.

    Attributes:
        client_id: the connection's own id; a user may have several connections.
        user_id: who it is.
        connected_at: RFC 3339.
        slow: more was waiting than may wait, so the connection is being closed.
    """

    def __init__(self, user_id: str, settings: HubSettings) -> None:
        self.client_id = new_id()
        self.user_id = user_id
        self.connected_at = utc_now()
        self.slow = False
        self.scope = trio.CancelScope()
        self._settings = settings
        self._waiting: deque[tuple[str, int]] = deque()
        self._bytes = 0
        self._arrived = trio.lowlevel.ParkingLot()

    @property
    def queued(self) -> int:
        """How many messages wait to be sent."""
        return len(self._waiting)

    def offer(self, text: str, size: int) -> None:
        """Leave a message, encoded, of `size` bytes. One too many makes the client slow: nothing more is taken, and its scope is cancelled.

        A message longer than all that may wait is taken where nothing else waits, so that the limits need not be set with regard to each other.
        """
        if self.slow:
            return
        if self._waiting and (
            len(self._waiting) >= self._settings.queue or self._bytes + size > self._settings.queue_bytes
        ):
            self.slow = True
            self._waiting.clear()
            self.scope.cancel(reason="the client does not read what it is sent")
            return
        self._waiting.append((text, size))
        self._bytes += size
        self._arrived.unpark()

    def tell(self, message: Message) -> None:
        """Leave a message for this client alone."""
        encoded = message.encode()
        self.offer(encoded.decode(), len(encoded))

    async def write(self, send: Callable[[str], Awaitable[None]]) -> NoReturn:
        """Send what arrives, for ever.

        A server may return from `send` at once, without a checkpoint, when the connection is gone; the loop parks as soon as the queue is empty, so
        it cannot spin.
        """
        while True:
            while not self._waiting:  # one that turned out slow has been woken, and has nothing left
                await self._arrived.park()
            text, size = self._waiting.popleft()
            self._bytes -= size
            await send(text)


async def serve_client(
    rooms: Rooms,
    client: Client,
    settings: HubSettings,
    *,
    receive: Callable[[], Awaitable[str | bytes]],
    send: Callable[[str], Awaitable[None]],
    close: Callable[[int, str], Awaitable[None]],
) -> None:
    """Keep `client` in the hub until it is cancelled from outside, which is what happens when the client leaves, or until it is slow.

    Args:
        receive: waits for the client's next message.
        send: sends one text message; may wait as long as the client does not read.
        close: closes the connection with a code and a reason.
    """
    with client.scope:
        async with trio.open_nursery() as nursery:
            with rooms.present(client):
                joined = {"client_id": client.client_id, "rooms": rooms.rooms_of(client)}
                client.tell(Message(type=MessageType.STATUS, user_id=client.user_id, content=WELCOME, data=joined))
                nursery.start_soon(client.write, send)
                while True:
                    raw = await receive()
                    try:
                        _carry_out(rooms, client, raw, settings)
                    except Refused as refused:
                        client.tell(refused.message())
    if client.slow:
        with trio.move_on_after(_CLOSE_TIMEOUT):
            await close(SLOW, "slow")


def _carry_out(rooms: Rooms, client: Client, raw: str | bytes, settings: HubSettings) -> None:
    raw = raw if isinstance(raw, bytes) else raw.encode(errors="surrogatepass")
    if len(raw) > settings.message_bytes:
        raise Refused("MESSAGE_TOO_LARGE", f"Keep each message under {settings.message_bytes} bytes.")
    match parse(raw):
        case Join(room=name):
            room = rooms.join(client, name)
            _confirm(rooms, client, f"Joined {name}", name, len(room.members))
        case Leave(room=name):
            room = rooms.leave(client, name)
            _confirm(rooms, client, f"Left {name}", name, len(room.members))
        case Publish(type=kind, room=name, content=content, data=data):
            if name is None and kind is not MessageType.BROADCAST:
                name = GENERAL
            rooms.say(client, Message(type=kind, user_id=client.user_id, room=name, content=content, data=data))


def _confirm(rooms: Rooms, client: Client, content: str, room: str, members: int) -> None:
    data = {"room": room, "rooms": rooms.rooms_of(client), "members": members}
    client.tell(Message(type=MessageType.STATUS, user_id=client.user_id, room=room, content=content, data=data))
