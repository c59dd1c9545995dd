"""One HTTP/1.1 request and its answer, between a connection and an app: ASGI's `receive` and `send`."""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPMethod
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


_BY_LENGTH, _CHUNKED, _UNTIL_CLOSE, _EMPTY = Framing
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_METHODS = {method.value.encode(): method.value for method in HTTPMethod}
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


_REQUEST, _BODY, _TRAILERS, _ENDING, _ANSWERED, _OVER = _State


class Exchange:
    """The app is called in the connection's own task, and reads the request's body from there; nothing is read ahead of it.

    Attributes:
        request: it may still be arriving.
        head: what the answer's head said, once there is one.
        waits_for_continue: the client holds the body back until it is asked for it.
        overlong: the answer is complete, and the app would go on with it.
    """

    head: AnswerHead | None = None
    _state = _REQUEST
    _held = b""
    _left = _taken = 0
    _told = _trailers = False
    _fields: tuple[tuple[bytes, bytes], ...] = ()  # trailers so far
    waits_for_continue = overlong = False
    _over: trio.Event | None = None

    def __init__(self, connection: Connection, request: Request, head: Head) -> None:
        self.request = request
        self.disconnect = Disconnect()
        method = request.method
        self.scope = make_scope(connection, head, _METHODS.get(method) or method.decode("ascii"), self.disconnect)
        self._connection = connection
        if not request.whole and head.version == "1.1":
            expects = (b"expect", b"100-continue")
            self.waits_for_continue = any((name, value.lower()) == expects for name, value in request.headers)

    # The connection's side

    @property
    def began(self) -> bool:
        """Whether something of the answer may be with the client."""
        return self._state is not _REQUEST

    @property
    def answered(self) -> bool:
        """Whether the answer is complete."""
        return self._state is _ANSWERED

    @property
    def over(self) -> bool:
        """Whether nothing of the answer goes anywhere any more."""
        return self._state is _OVER

    def end(self) -> None:
        """Send nothing any more. The app, where it still runs, hears that its client has gone."""
        if self._state is not _ANSWERED:
            self._finish(_OVER)

    def _finish(self, state: _State) -> None:
        self._state = state
        if self._over is not None:
            self._over.set()

    # The app's side

    async def receive(self) -> Message:
        """ASGI's: the request's body, piece by piece, then the disconnect."""
        request, connection = self.request, self._connection
        while self._state is not _ANSWERED and self._state is not _OVER:
            if self._taken > connection.site.limits.body_bytes:
                connection.refuse(PayloadTooLarge())
                break
            if request.body or (request.whole and not self._told):
                await connection.breathe()  # first: what a cancelled task had taken would be lost
                body, request.body = bytes(request.body), bytearray()
                self._taken += len(body)
                # What is over the limit must not look like a whole body to an app that does not count.
                self._told = request.whole and self._taken <= connection.site.limits.body_bytes
                return {"type": "http.request", "body": body, "more_body": not self._told}
            if request.whole:
                if self._over is None:
                    self._over = trio.Event()
                await self._over.wait()
                break
            if self.waits_for_continue:
                self.waits_for_continue = False
                if self._state is _REQUEST:
                    await connection.write(CONTINUE)
                    continue  # it may be that there is nobody to be asked
            await connection.read_body(request)
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's: the answer's head, its body piece by piece, and the extensions for early hints and trailers.

        Raises:
            ValueError, RuntimeError: the message cannot be, or not now.
        """
        kind, state = message["type"], self._state
        if state is _REQUEST and kind == "http.response.start":
            scope = self.scope
            head = self.head = make_head(
                message["status"],
                message.get("headers", ()),
                method=scope["method"],
                version=scope["http_version"],
                last=self.request.last or self.waits_for_continue or self._connection.site.drain.draining,
            )
            self._state = _BODY
            if head.framing is _CHUNKED or head.framing is _UNTIL_CLOSE:
                self._trailers = head.framing is _CHUNKED and bool(message.get("trailers"))
                await self._connection.write(head.data)
            else:
                self._left = head.length
                self._held = head.data  # the body follows at once, mostly: one packet is cheaper than two
        elif state is _BODY and kind == "http.response.body":
            more = message.get("more_body", False)
            data = self._frame(message.get("body", b""), more)
            if self._state is not _ENDING:
                await self._connection.write(data)
                return
            if data and not self._connection.write_nowait(data):
                await self._connection.flush()
            if self._state is _ENDING:
                self._finish(_ANSWERED)
                if more:  # an answer without a body is complete, however long the app would go on
                    self.overlong = True
                    self._connection.stop_app("its answer has no body")
        elif state in (_ENDING, _ANSWERED, _OVER):
            # Slowly, so that an app that sends in a loop keeps nobody else from running.
            await trio.sleep(PAUSE)
        elif kind == "http.response.trailers" and state is _TRAILERS:
            self._fields = (*self._fields, *message.get("headers", ()))
            if message.get("more_trailers", False):
                await self._connection.breathe()
                return
            if not self._connection.write_nowait(make_trailers(self._fields)):
                await self._connection.flush()
            if self._state is _TRAILERS:
                self._finish(_ANSWERED)
        elif kind == "http.response.early_hint" and state is _REQUEST:
            if self.scope["http_version"] == "1.1":
                await self._connection.write(make_early_hints(message["links"]))
        else:
            raise RuntimeError(f"{kind!r} cannot be sent in this state of the answer ({state.name.lower()})")

    def _frame(self, body: bytes, more: bool) -> bytes:
        """Take a piece of the body, as it goes over the wire."""
        head = self.head
        assert head is not None
        if head.framing is _BY_LENGTH:
            self._left = left = self._left - len(body)
            if left and (left < 0 or not more):
                self._finish(_OVER)
                raise RuntimeError("the answer's body is not as long as its content-length says")
            data, self._held = self._held + body, b""
        elif head.framing is _CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more and not self._trailers:
                data += b"0\r\n\r\n"
        elif head.framing is _UNTIL_CLOSE:
            data = body
        else:
            data, self._held, more = self._held, b"", False
        if not more:
            self._state = _TRAILERS if self._trailers else _ENDING
        return data


def make_scope(connection: Connection, head: Head, method: str, disconnect: Disconnect) -> Scope:
    """The ASGI scope of a request (https://asgi.readthedocs.io/en/latest/specs/www.html)."""
    raw_path, _, query = head.target.partition(b"?")
    path = raw_path.decode("ascii")
    return {
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
