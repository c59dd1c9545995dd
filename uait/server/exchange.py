"""One HTTP/1.1 request and its answer, between a connection and an app: ASGI's `receive` and `send`."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import trio

from uait.errors import PayloadTooLarge
from uait.server.answer import CONTINUE, AnswerHead, Framing, make_early_hints, make_head, make_trailers
from uait.server.asgi import Message, Scope
from uait.server.disconnect import SCOPE_KEY, Disconnect
from uait.server.guard_websocket import PAUSE
from uait.server.head import Head
from uait.server.parser import Request

if TYPE_CHECKING:
    from uait.server.http1 import Connection


_ASGI = {"version": "3.0", "spec_version": "2.4"}
_EXTENSIONS: dict[str, dict[str, Any]] = {"http.response.trailers": {}, "http.response.early_hint": {}}


class _State(Enum):
    REQUEST = auto()
    """The answer has not begun."""
    BODY = auto()
    TRAILERS = auto()
    """The body is complete, and the app has announced trailers."""
    ENDING = auto()
    """All of the answer has been taken, and is on its way. Until it is with the system the app must not hear of the end: many take that for the client's leaving and stop."""
    ANSWERED = auto()
    OVER = auto()
    """Nothing of what the app sends goes anywhere any more."""


class Exchange:
    """The app is called in the connection's own task, and reads the request's body from there; nothing is read ahead of it.

    Attributes:
        request: it may still be arriving.
        head: what the answer's head said, once there is one.
        waits_for_continue: the client holds the body back until it is asked for it.
        overlong: the answer is complete, and the app would go on with it.
    """

    head: AnswerHead | None = None
    _state = _State.REQUEST
    _held = b""
    _left = _taken = 0
    _told = _trailers = False
    _fields: tuple[tuple[bytes, bytes], ...] = ()  # trailers so far
    waits_for_continue = overlong = False
    _over: trio.Event | None = None

    def __init__(self, connection: Connection, request: Request, head: Head) -> None:
        self.request = request
        self.disconnect = Disconnect()
        self.scope = make_scope(connection, head, request.method.decode("ascii"), self.disconnect)
        self._connection = connection
        if not request.whole and head.version == "1.1":
            expects = (b"expect", b"100-continue")
            self.waits_for_continue = any((name, value.lower()) == expects for name, value in request.headers)

    # The connection's side

    @property
    def began(self) -> bool:
        """Whether something of the answer may be with the client."""
        return self._state is not _State.REQUEST

    @property
    def answered(self) -> bool:
        """Whether the answer is complete."""
        return self._state is _State.ANSWERED

    def end(self) -> None:
        """Send nothing any more. The app, where it still runs, hears that its client has gone."""
        if self._state is not _State.ANSWERED:
            self._finish(_State.OVER)

    def _finish(self, state: _State) -> None:
        self._state = state
        if self._over is not None:
            self._over.set()

    # The app's side

    async def receive(self) -> Message:
        """ASGI's: the request's body, piece by piece, then the disconnect."""
        request, connection = self.request, self._connection
        while self._state is not _State.ANSWERED and self._state is not _State.OVER:
            if self._taken > connection.site.limits.body_bytes:
                connection.refuse(PayloadTooLarge())
                break
            if request.body or (request.whole and not self._told):
                await connection.breathe()  # first: what a cancelled task had taken would be lost
                body, request.body = bytes(request.body), bytearray()
                self._taken += len(body)
                self._told = request.whole
                return {"type": "http.request", "body": body, "more_body": not request.whole}
            if request.whole:
                if self._over is None:
                    self._over = trio.Event()
                await self._over.wait()
                break
            if self.waits_for_continue:
                self.waits_for_continue = False
                if self._state is _State.REQUEST:
                    await connection.write(CONTINUE)
            await connection.read_body(request)
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's: the answer's head, its body piece by piece, and the extensions for early hints and trailers.

        Raises:
            ValueError, RuntimeError: the message cannot be, or not now.
        """
        kind, state = message["type"], self._state
        if kind == "http.response.body" and state is _State.BODY:
            more = message.get("more_body", False)
            data = self._frame(message.get("body", b""), more)
            ending = self._state is _State.ENDING
            if data or not ending:
                await self._connection.write(data, last=ending)
            if self._state is _State.ENDING:
                self._finish(_State.ANSWERED)
                if more:  # an answer without a body is complete, however long the app would go on
                    self.overlong = True
                    self._connection.stop_app("its answer has no body")
        elif kind == "http.response.start" and state is _State.REQUEST:
            if data := self._begin(message):
                await self._connection.write(data)
        elif state in (_State.ENDING, _State.ANSWERED, _State.OVER):
            # Slowly, so that an app that sends in a loop keeps nobody else from running.
            await trio.sleep(PAUSE)
        elif kind == "http.response.trailers" and state is _State.TRAILERS:
            self._fields = (*self._fields, *message.get("headers", ()))
            if message.get("more_trailers", False):
                await self._connection.breathe()
                return
            await self._connection.write(make_trailers(self._fields), last=True)
            if self._state is _State.TRAILERS:
                self._finish(_State.ANSWERED)
        elif kind == "http.response.early_hint" and state is _State.REQUEST:
            if self.scope["http_version"] == "1.1":
                await self._connection.write(make_early_hints(message["links"]))
        else:
            raise RuntimeError(f"{kind!r} cannot be sent in this state of the answer ({state.name.lower()})")

    def _begin(self, message: Message) -> bytes:
        """Take the answer's head; what of it is to be sent before the body."""
        head = self.head = make_head(
            message["status"],
            message.get("headers", ()),
            method=self.scope["method"],
            version=self.scope["http_version"],
            last=self._connection.is_last(self),
        )
        self._left = head.length
        self._state = _State.BODY
        self._trailers = head.framing is Framing.CHUNKED and bool(message.get("trailers"))
        if head.framing is Framing.CHUNKED or head.framing is Framing.CLOSE:
            return head.data
        self._held = head.data  # the body follows at once, mostly: one packet is cheaper than two
        return b""

    def _frame(self, body: bytes, more: bool) -> bytes:
        """Take a piece of the body, as it goes over the wire."""
        head = self.head
        assert head is not None
        if head.framing is Framing.LENGTH:
            self._left -= len(body)
            if self._left < 0 or (self._left > 0 and not more):
                self._finish(_State.OVER)
                raise RuntimeError("the answer's body is not as long as its content-length says")
            data, self._held = self._held + body, b""
        elif head.framing is Framing.CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more and not self._trailers:
                data += b"0\r\n\r\n"
        elif head.framing is Framing.CLOSE:
            data = body
        else:
            data, self._held, more = self._held, b"", False
        if not more:
            self._state = _State.TRAILERS if self._trailers else _State.ENDING
        return data


def make_scope(connection: Connection, head: Head, method: str, disconnect: Disconnect) -> Scope:
    """The ASGI scope of a request (https://asgi.readthedocs.io/en/latest/specs/www.html)."""
    raw_path, _, query = head.target.partition(b"?")
    path = raw_path.decode("ascii")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": _ASGI,
        "http_version": head.version,
        "method": method,
        "scheme": "http",
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": head.headers,
        "client": connection.client,
        "server": connection.server,
        "state": connection.site.state.copy(),
        "extensions": _EXTENSIONS,
        SCOPE_KEY: disconnect,
    }
    return scope
