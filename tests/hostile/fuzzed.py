"""One connection of the native server that is given any bytes, and what must hold then: what the fuzzer runs, and what replays its findings.

The first byte says how the rest is sent (see `Mode`), the second in segments of which size. The rest goes over a real connection, which then ends.
"""

from __future__ import annotations

import enum
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
import trio.lowlevel
from hostile.corpus import corpus
from trio.testing import wait_all_tasks_blocked
from wire import frame, handshake

from uait.server import Drain, NativeConnections, ServerLimits, Site, timing

SECONDS = 10.0
"""In which a connection must have ended whose client has."""

QUIET = 0.0005
"""Seconds without anything to do after which nothing more is expected. On loopback nothing is on its way for so long."""

MOST_SEGMENTS = 50

LIMITS = ServerLimits(header_bytes=4096, body_bytes=65_536, message_bytes=65_536, queue=8)

MOST_FOR_A_BYTE = 2000
"""Bytes that one byte may bring: an answer for a request in few bytes, or what permessage-deflate makes of one and the echo sends back."""


class Mode(enum.IntEnum):
    HTTP = 0
    """As it is."""
    WEBSOCKET = 1
    """As it is, behind a handshake."""
    FRAMES = 2
    """As frames' headers and payloads that fit to each other, for the noise alone seldom gets past the mask."""
    DEFLATE = 3
    """Likewise, with permessage-deflate."""


class Broken(AssertionError):
    """Something does not hold."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes, with and without a length, before and after it has read."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            await send({**message, "type": "websocket.send"})
        return
    body, headers, more = b"", [], scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    if scope["path"] != "/chunks":
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Log(logging.Handler):
    """What a connection complains about. A client cannot cause more than a line for information."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def check(data: bytes) -> bytes:
    """Play `data`. Returns what the server sent.

    Raises:
        Broken: it did not end, sent more than it should, complained, or sent what no server may.
        Exception: whatever came out of the connection.
    """
    mode = Mode(data[0] % len(Mode)) if data else Mode.HTTP
    sent = _bytes(mode, data[2:])
    with _little_patience():
        received, lines = trio.run(_play, sent, data[1] if len(data) > 1 else 0, mode is not Mode.HTTP)
    if lines:
        raise Broken(f"it complained: {lines}")
    if len(received) > MOST_FOR_A_BYTE * len(sent) + 4096:
        raise Broken(f"{len(received)} bytes for {len(sent)}")
    _check_answers(received)
    return received


@contextmanager
def _little_patience() -> Iterator[None]:
    """What a connection waits for at its ends is other tests' subject, and this one has thousands of ends."""
    names = ("SHORTLY", "LINGER", "CLOSING_SECONDS", "REST_SECONDS")
    before = [getattr(timing, name) for name in names]
    for name in names:
        setattr(timing, name, 0.002)
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(timing, name, value)


def _bytes(mode: Mode, data: bytes) -> bytes:
    if mode is Mode.HTTP:
        return data
    if mode is Mode.WEBSOCKET:
        return handshake("/ws") + data
    offer = ("Sec-WebSocket-Extensions: permessage-deflate",) if mode is Mode.DEFLATE else ()
    return handshake("/ws", *offer) + b"".join(_frames(data))


def _frames(data: bytes) -> Iterator[bytes]:
    """Each frame is a byte of its header, one for the length, and so much of the rest."""
    start = 0
    while start + 1 < len(data):
        first, size = data[start], data[start + 1]
        payload = data[start + 2 : start + 2 + size]
        start += 2 + size
        yield frame(first & 0x0F, payload, fin=bool(first & 0x80), rsv=first >> 4 & 7)


async def _play(data: bytes, step: int, upgraded: bool) -> tuple[bytes, list[str]]:
    log = logging.Logger("fuzzed")
    handler = _Log()
    log.addHandler(handler)
    connections = NativeConnections(Site(app=app, limits=LIMITS, drain=Drain(), log=log, state={}))
    ours, theirs = _pair()
    client = _Client(theirs)
    with ours, theirs, trio.move_on_after(SECONDS) as patience:
        async with trio.open_nursery() as attending:
            attending.start_soon(connections.attend)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.read)
                nursery.start_soon(client.send, data, step, upgraded)
                await connections(trio.SocketStream(ours))
                ours.close()
            attending.cancel_scope.cancel(reason="the connection has ended")
    if patience.cancelled_caught:
        raise Broken("it does not end")
    return bytes(client.received), handler.lines


class _Client:
    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._heard = trio.Event()
        self.received = bytearray()

    async def read(self) -> None:
        with suppress(OSError):
            while piece := await self._sock.recv(65536):
                self.received += piece
                self._heard.set()
        self._heard.set()

    async def send(self, data: bytes, step: int, upgraded: bool) -> None:
        """In segments of `step` bytes, or at once; and what follows a handshake when that has been answered."""
        first, rest = b"", data
        if upgraded:
            first, mark, rest = data.partition(b"\r\n\r\n")
            first += mark
        with suppress(OSError):
            if first:
                await self._send_all(first)
                await self._heard.wait()
            size = max(step or len(rest), len(rest) // MOST_SEGMENTS, 1)
            for start in range(0, len(rest), size):
                await self._send_all(rest[start : start + size])
                await trio.lowlevel.checkpoint()
            # Whose side has ended counts as gone, and is not answered; so not before there is no more to come.
            await wait_all_tasks_blocked(QUIET)
            self._sock.shutdown(socket.SHUT_WR)

    async def _send_all(self, data: bytes) -> None:
        while data:
            data = data[await self._sock.send(data) :]


def _pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    """Both ends of a TCP connection: a pair of UNIX sockets has no addresses, and tells of its end in another way."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return trio.socket.from_stdlib_socket(ours), trio.socket.from_stdlib_socket(theirs)


def _check_answers(received: bytes) -> None:
    """No server error, and nothing that is not HTTP, or no server's frame."""
    if not received:
        return
    if not received.startswith(b"HTTP/1.1 "):
        raise Broken(f"no HTTP: {received[:100]!r}")
    if received.startswith(b"HTTP/1.1 101 "):
        _check_frames(received.partition(b"\r\n\r\n")[2])
    elif b"HTTP/1.1 500 " in received:
        raise Broken("the app, which never fails, has failed")


def _check_frames(data: bytes) -> None:
    while len(data) >= 2:
        opcode, size, start = data[0] & 0x0F, data[1], 2
        if size > 127 or opcode not in (0, 1, 2, 8, 9, 10) or (opcode > 7 and (size > 125 or not data[0] & 0x80)):
            raise Broken(f"no server's frame: {data[:20]!r}")
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if opcode == 8 and data[start + size :]:
            raise Broken("something follows the close frame")
        data = data[start + size :]


def seeds() -> Iterator[bytes]:
    """Inputs to begin with: the corpus, as far as it is bytes and short."""
    for case in corpus():
        data = b"".join(step for step in case.steps if isinstance(step, bytes))
        upgraded = case.name.startswith(("frames", "compressed"))
        if 0 < len(data) <= 2000:
            for step in (0, 7):
                yield bytes([Mode.WEBSOCKET if upgraded else Mode.HTTP, step]) + data
    for mode in (Mode.FRAMES, Mode.DEFLATE):
        yield bytes([mode, 0]) + b"\x81\x05hello\x01\x02ab\x80\x02cd\x89\x01p\x8a\x00\x88\x02\x03\xe8"
        yield bytes([mode, 3]) + b"\xc1\x07\xf2H\xcd\xc9\xc9\x07\x00\x41\x04\xf2H\xcd\xc9\x80\x03\xc9\x07\x00"
