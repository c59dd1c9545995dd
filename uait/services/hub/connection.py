"""One client of the hub, from its welcome to its close code: its membership lasts as long as a scope here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from uait.errors import APIError, InternalError
from uait.services.hub.audience import Line, QueuedLine, Send
from uait.services.hub.client import Client
from uait.services.hub.codes import CloseCode
from uait.services.hub.hub import Hub
from uait.services.hub.protocol import (
    GENERAL,
    TRANSIENT,
    Join,
    Leave,
    Message,
    MessageType,
    Publish,
    Refused,
    Reply,
    Request,
    Subscribe,
    Unsubscribe,
    parse,
    ref_of,
)
from uait.services.hub.rate import Bucket
from uait.services.hub.room import Done, Published
from uait.services.hub.rooms import TooMany

WELCOME = "Welcome to the WebSocket hub"

_CLOSE_TIMEOUT = 1.0
_GOODBYE = 0.2
"""Seconds that the last words of a service which leaves may take: less than the server gives an app that says goodbye itself."""

Close = Callable[[int, str], Awaitable[None]]


async def serve_client(
    hub: Hub,
    user_id: str,
    line: Line,
    *,
    receive: Callable[[], Awaitable[str | bytes]],
    send: Send,
    close: Close,
    general: bool = True,
) -> None:
    """Keep a client in the hub until it is cancelled from outside, which is what happens when the client leaves, or until the hub ends it.

    Args:
        line: its way out.
        receive: waits for the client's next message.
        send: sends one text message; may wait as long as the client does not read.
        close: closes the connection with a code and a reason.
        general: it starts in that room.
    """
    connection = Connection(hub, Client(user_id, line, hub.cork, most=hub.settings.queue_bytes), general=general)
    try:
        code = await connection.serve(receive, send)
    except TooMany as refused:
        await send(refused.as_message().encode().decode())
        code = refused.close
    finally:
        if hub.leaving:
            with trio.move_on_after(_GOODBYE, shield=True):
                if isinstance(line, QueuedLine):
                    await line.flush(send)
                await close(CloseCode.RESTART, f"restart; reconnect in {hub.pause_of(connection.client)} ms")
    hub.traffic.ended(code)
    with trio.move_on_after(_CLOSE_TIMEOUT):
        await close(code, code.reason)


class Connection:
    """What one client asks for."""

    def __init__(self, hub: Hub, client: Client, *, general: bool) -> None:
        self.client = client
        self._hub = hub
        self._rooms = hub.rooms
        self._general = general
        self._bucket = Bucket(hub.settings.rate)
        self._bad = 0

    async def serve(self, receive: Callable[[], Awaitable[str | bytes]], send: Send) -> CloseCode:
        """Do what the client asks for, as long as it is there. Returns why the hub ends it.

        Raises:
            TooMany: it may not be there at all.
        """
        client, settings = self.client, self._hub.settings
        if settings.lifetime:
            client.scope.deadline = trio.current_time() + settings.lifetime
        failure: BaseException | None = None
        try:
            with client.scope:
                async with trio.open_nursery() as client.nursery:
                    try:
                        await self._listen(receive, send)
                    except BaseException as error:
                        # Raised outside the nursery, and let go of: in a group, and with the frames that know it, everything here would wait for the garbage collector.
                        failure = error
                    self._hub.requests.gone(client)
                    client.nursery.cancel_scope.cancel(reason="the client is gone")
                client.close()
                if failure is not None:
                    raise failure
        finally:
            failure = None
        return client.verdict or CloseCode.EXPIRED

    async def _listen(self, receive: Callable[[], Awaitable[str | bytes]], send: Send) -> None:
        client = self.client
        with self._rooms.present(client, general=self._general):
            data = {"client_id": client.client_id, "rooms": self._rooms.rooms_of(client)}
            self._tell(MessageType.STATUS, content=WELCOME, data=data)
            if isinstance(client.line, QueuedLine):
                client.nursery.start_soon(client.line.write, send)
            while True:
                await self._take(await receive())

    async def _take(self, raw: str | bytes) -> None:
        raw = raw if isinstance(raw, bytes) else raw.encode(errors="surrogatepass")
        self._hub.traffic.received(len(raw))
        try:
            self._admit(raw)
            await self._carry_out(raw)
        except Refused as refused:
            self.client.tell(refused.as_message())
            code = refused.insisting
            self._bad = 0 if code is None else self._bad + 1
            if code is not None and self._bad >= self._hub.settings.bad_messages:
                self.client.cut(code)
        else:
            self._bad = 0

    def _admit(self, raw: bytes) -> None:
        if not self._bucket.take():
            if self._bucket.overdrawn:
                self.client.cut(CloseCode.TOO_MANY_MESSAGES)
            text = f"Send at most {self._hub.settings.rate} messages a second."
            raise Refused("RATE_LIMITED", text, status=429, ref=ref_of(raw))
        if len(raw) > self._hub.settings.message_bytes:
            text = f"Keep each message under {self._hub.settings.message_bytes} bytes."
            raise Refused("MESSAGE_TOO_LARGE", text, status=413, ref=ref_of(raw))

    async def _carry_out(self, raw: bytes) -> None:
        asked = parse(raw)
        try:
            match asked:
                case Publish():
                    self._publish(asked)
                case Join(room=name):
                    room = await self._rooms.obtain(name, self.client.user_id)
                    self._rooms.join(self.client, room)
                    self._confirm(f"Joined {name}", name, len(room.members))
                case Leave(room=name):
                    self._confirm(f"Left {name}", name, len(self._rooms.leave(self.client, name).members))
                case Subscribe():
                    await self._subscribe(asked)
                case Unsubscribe(room=name, ref=ref):
                    room = self._rooms.leave(self.client, name)
                    self._tell(
                        MessageType.UNSUBSCRIBED,
                        room=name,
                        data={"ref": ref, "room": name, "position": _written(room.log.position)},
                    )
                case Request(to=to):
                    self._hub.requests.ask(self.client, asked, self._rooms.addressed(to))
                case Reply():
                    self._hub.requests.reply(self.client, asked)
        except APIError as error:
            refused = error if isinstance(error, Refused) else Refused(error.error_code, error.text)
            refused.ref = getattr(asked, "ref", None)
            raise refused from None

    async def _subscribe(self, asked: Subscribe) -> None:
        room = await self._rooms.obtain(asked.room, self.client.user_id)
        entrance = self._rooms.subscribe(self.client, room, presence=asked.presence, since=asked.since)
        data: dict[str, Any] = {
            "ref": asked.ref,
            "room": room.name,
            "position": _written(entrance.position),
            "recovered": entrance.recovered and asked.since is not None,
            "replayed": entrance.replayed,
            "members": len(room.members),
        }
        if entrance.presence is not None:
            data["presence"] = entrance.presence
        self._tell(MessageType.SUBSCRIBED, room=room.name, data=data)
        room.go_on(entrance)

    def _publish(self, asked: Publish) -> None:
        client, name = self.client, asked.room
        if asked.to is not None:
            self._once(asked, lambda message: self._rooms.direct(message, asked.to))  # type: ignore[arg-type]
            return
        if name is None and asked.type is MessageType.BROADCAST:
            self._once(asked, self._rooms.broadcast)
            return
        name = name or GENERAL
        membership = self._rooms.membership(client, name)
        room = membership.room
        if not room.options.lets_publish(client.user_id, room.owner):
            raise Refused("NOT_ALLOWED", "You may read this room, not write to it.", status=403)
        done = self._acknowledge(asked.ref, room.name, room.log.epoch)
        if asked.ref is not None and asked.type in TRANSIENT:  # whose ids no log remembers
            key = f"{name}\0{asked.ref}"
            if (said := self._hub.said(client.user_id, key)) is not None:
                done(Published(None, said["recipients"], duplicate=True))
                return
            self._hub.remember(client.user_id, key, {"recipients": len(room.members)})
        if asked.type is MessageType.TYPING:
            ends = isinstance(asked.data, dict) and asked.data.get("typing") is False
            room.typing(membership, active=not ends)
        elif membership.typing is not None:
            room.stop_typing(membership)
        message = self._message(asked, room=name)
        token = None if asked.ref is None else token_of(client.user_id, asked.ref)
        room.publish(message, done, key=asked.key, token=token)

    def _acknowledge(self, ref: str | None, room: str, epoch: str) -> Done:
        def done(outcome: Published | Exception) -> None:
            if isinstance(outcome, Exception):
                error = outcome if isinstance(outcome, APIError) else InternalError()
                self.client.tell(Refused(error.error_code, error.text, ref=ref).as_message())
            elif ref is not None:
                data = {
                    "ref": ref,
                    "room": room,
                    "offset": outcome.offset,
                    "epoch": epoch,
                    "recipients": outcome.recipients,
                    "duplicate": outcome.duplicate,
                }
                message = Message(type=MessageType.ACK, user_id=self.client.user_id, room=room, data=data)
                # Not `tell`, which would have everything sent that is held back for what may follow.
                self._hub.cork.tell_after(self.client, message.encode())

        return done

    def _once(self, asked: Publish, say: Callable[[Message], int]) -> None:
        """Say what is for no room; once, where it has an id."""
        ref, user_id = asked.ref, self.client.user_id
        if ref is None:
            say(self._message(asked))
            self._hub.traffic.published += 1
            return
        outcome = self._hub.said(user_id, ref)
        duplicate = outcome is not None
        if outcome is None:
            outcome = {"recipients": say(self._message(asked))}
            self._hub.traffic.published += 1
            self._hub.remember(user_id, ref, outcome)
        self._tell(MessageType.ACK, data={"ref": ref, **outcome, "duplicate": duplicate})

    def _message(self, asked: Publish, room: str | None = None) -> Message:
        return Message(
            type=asked.type,
            user_id=self.client.user_id,
            room=room,
            to=asked.to.user if asked.to is not None else None,
            content=asked.content,
            data=asked.data,
        )

    def _confirm(self, content: str, room: str, members: int) -> None:
        data = {"room": room, "rooms": self._rooms.rooms_of(self.client), "members": members}
        self._tell(MessageType.STATUS, content=content, room=room, data=data)

    def _tell(self, kind: MessageType, **fields: Any) -> None:
        self.client.tell(Message(type=kind, user_id=self.client.user_id, **fields))


def token_of(user_id: str, ref: str) -> str:
    """What stands in a room's log for the id that a user has given a message."""
    return f"{user_id}\0{ref}"


def _written(position: Any) -> dict[str, Any]:
    return {"offset": position.offset, "epoch": position.epoch}
